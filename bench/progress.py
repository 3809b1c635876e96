"""How a run shows that it goes on: a line at the bottom of a terminal, elsewhere a line a step."""

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Steps:
    """Shows which row of how many is under way, and its step. A context manager."""

    def __init__(self, console: Console, rows: int) -> None:
        self._console: Final = console
        self._row = ""
        self._bar: Final = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed} of {task.total}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: Final = self._bar.add_task("", total=rows)

    def begin(self, row: str) -> None:
        """A row begins."""
        self._row = row
        self.say("")

    def end(self) -> None:
        """It is measured."""
        self._bar.advance(self._task)

    def say(self, step: str) -> None:
        """What the row does now."""
        text = f"{self._row}: {step}" if step else self._row
        if self._console.is_terminal:
            self._bar.update(self._task, description=text)
        else:
            self._console.print(text, highlight=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
