"""What every reader gives: rows of text cells, each with its place in the file."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from vault.domain.errors import DatavaultError

Cells = Mapping[str, str | None]
"""Column -> text, None where the file has no value at all. Numbers, dates and objects are text too."""


_LIKE_DATA: Final = re.compile(r"[-+]?[0-9][0-9.,:/ T+-]*|[^@\s]+@[^@\s]+")


def looks_like_data(columns: Iterable[str]) -> bool:
    """Whether a header is more likely a first data row: then its names are values that no output may show."""
    return any(_LIKE_DATA.fullmatch(name) for name in columns)


class ReadError(DatavaultError):
    """The file as a whole cannot be read; the message says what and where, never a value."""


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """One data row. `number` counts data rows from 1, bad ones too; `line` is where it begins in the file.

    `raw` is the row exactly as the file has it, for the rejects file. With a `problem` there are no cells.
    """

    number: int
    line: int
    cells: Cells
    raw: str
    problem: str = ""

    def __repr__(self) -> str:
        return f"Row(number={self.number}, line={self.line})"


class Table(Protocol):
    """A file that is being read once, from its beginning to its end. A context manager."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the file; of JSON lines those of its first rows."""

    @property
    def fixed(self) -> bool:
        """Whether every row has exactly `columns`."""

    @property
    def suffix(self) -> str:
        """Ending of the rejects file, e.g. `.csv`."""

    @property
    def encoding(self) -> str:
        """Python codec that turns `raw` and `preamble` into the bytes of the file again."""

    @property
    def preamble(self) -> str:
        """What a file of only some rows must begin with: the header line as it stands, or ''."""

    def rows(self) -> Iterator[Row]:
        """The rows, streamed. Raises ReadError."""

    def fraction(self) -> float:
        """How much of the file has been read, 0 to 1."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
