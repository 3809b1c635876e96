"""Templates over columns: `"{street_number} {address_1}"`, and over the row number: `"UCI-{row:06d}"`."""

import re
import string
from dataclasses import dataclass
from typing import Final

from vault.cli.importing.rows import Cells

ROW: Final = "row"
_ROW_FORMAT: Final = re.compile(r"(?:0[1-9][0-9]?)?d?")


@dataclass(frozen=True, slots=True)
class Template:
    """`parts` are (text before the column, column); `tail` is the text after the last one."""

    parts: tuple[tuple[str, str], ...]
    tail: str
    row_format: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it names, without `row`."""
        return tuple(column for _, column in self.parts if column != ROW)

    @property
    def counts_rows(self) -> bool:
        return any(column == ROW for _, column in self.parts)

    def fill(self, cells: Cells, row: int) -> str | None:
        """The text, or None when every column is missing.

        Text between two columns stands only between two that are there, so that a missing one leaves no
        stray blank or comma.
        """
        found = [(before, self._text(column, cells, row)) for before, column in self.parts]
        present = [(before, text) for before, text in found if text is not None]
        if not present:
            return None
        first = self.parts[0][0] + present[0][1]
        return first + "".join(before + text for before, text in present[1:]) + self.tail

    def _text(self, column: str, cells: Cells, row: int) -> str | None:
        return format(row, self.row_format) if column == ROW else cells.get(column)


def parse_template(text: str) -> Template:
    """Read a template. `{{` and `}}` are braces.

    Raises:
        ValueError: not balanced, no column in it, or a format on anything but `row`.
    """
    parts, tail, row_format = [], "", ""
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError:
        raise ValueError("braces are not balanced: write {column}, and {{ for a brace") from None
    for before, column, format_spec, conversion in pieces:
        if column is None:
            tail += before
            continue
        if not column or conversion or (format_spec and column != ROW):
            raise ValueError(
                "write {column name} and nothing else in the braces; only {row:06d} has a format"
            )
        if format_spec and not _ROW_FORMAT.fullmatch(format_spec):
            raise ValueError("the format of {row} is 06d or the like")
        row_format = format_spec or row_format
        parts.append((tail + before, column))
        tail = ""
    if not parts:
        raise ValueError("names no column")
    return Template(tuple(parts), tail, row_format)
