"""What the demo prints: numbered steps, small tables, and a tick for each thing that is as it should be."""

import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vault.cli.output import console, printable

_TICK, _CROSS = "✓", "✗"
_LEFT: Final = 3
_CELL: Final = 46
"""Characters in a line of a cell: so much that a table of three or four columns can be read in a log too."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was looked at in the answers, and whether it is as it should be."""

    what: str
    ok: bool


class Screen:
    """Prints to stdout, and counts what was not as it should be."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # customers have names that not every terminal can show: better an escape than no demo
            sys.stdout.reconfigure(errors="backslashreplace")
        self._console = console()
        self._plain = not _can_show(_TICK + _CROSS, sys.stdout.encoding)
        self._steps = 0
        self.passed = 0
        self.failed = 0

    def title(self, text: str) -> None:
        """The first line."""
        self._console.print(Text(text, style="bold"))

    def heading(self, text: str) -> None:
        """Begins the next step."""
        self._steps += 1
        self._console.print()
        self._console.print(Text(f"{self._steps}. {text}", style="bold cyan"))

    def say(self, text: str, style: str = "") -> None:
        """A line, indented."""
        self._indented(Text(printable(text), style=style))

    def verbatim(self, lines: Iterable[str]) -> None:
        """Lines to copy: never wrapped."""
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A small table, with air around it. A tuple in a cell is shown line by line."""
        self._console.print()
        cells = [[_cell(content) for content in row] for row in rows]
        high = any("\n" in cell.plain for row in cells for cell in row)
        lines = box.ASCII2 if self._plain else box.SIMPLE_HEAD
        table = Table(box=lines, show_edge=False, pad_edge=False, leading=int(high))
        for column in columns:
            table.add_column(column, overflow="fold", max_width=_CELL)
        for row in cells:
            table.add_row(*row)
        self._indented(table)
        self._console.print()

    def check(self, check: Check) -> None:
        """A tick or a cross."""
        if check.ok:
            self.passed += 1
            mark = Text("ok" if self._plain else _TICK, style="green")
        else:
            self.failed += 1
            mark = Text("FAILED" if self._plain else _CROSS, style="bold red")
        self._indented(mark + Text(f" {printable(check.what)}"))

    def _indented(self, what: RenderableType) -> None:
        self._console.print(Padding.indent(what, _LEFT))


def _cell(content: object) -> Text:
    lines = content if isinstance(content, tuple) else (content,)
    return Text("\n".join(map(printable, lines)))


def _can_show(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
