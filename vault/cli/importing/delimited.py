"""CSV in all its shapes: any delimiter, quoting and encoding, header names with blanks, torn rows."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from vault.cli.importing.mapping import FileFormat
from vault.cli.importing.rows import ReadError, Row
from vault.cli.importing.textlines import TextLines

_BAD_QUOTES: Final = "a quote is not closed, or a quote inside a quoted value is not doubled"


class DelimitedTable:
    """A `Table` over a CSV file. Blank lines are skipped and count as no row."""

    fixed = True
    suffix = ".csv"

    def __init__(self, path: Path, layout: FileFormat) -> None:
        self.encoding = layout.encoding
        self._trim = layout.trim
        self._lines = TextLines(path, layout.encoding)
        self._reader = csv.reader(self._lines, **_dialect(layout))
        self.preamble = ""
        self.columns = layout.columns or self._header()

    def rows(self) -> Iterator[Row]:
        number = 0
        while True:
            try:
                fields = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                number += 1
                yield self._torn(number, unclosed=" expected after " not in str(error))
                continue
            line, raw = self._lines.take()
            if len(fields) < 2 and not "".join(fields).strip():
                continue
            number += 1
            yield self._row(number, line, "".join(raw), fields)

    def fraction(self) -> float:
        return self._lines.fraction()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()

    def _row(self, number: int, line: int, raw: str, fields: list[str]) -> Row:
        problem = ""
        if len(fields) != len(self.columns):
            problem = (
                f"has {_count(len(fields), 'value')}, the header has {_count(len(self.columns), 'column')}"
            )
        elif self._lines.undecodable(raw):
            problem = f"is not valid {self.encoding}"
        elif "\0" in raw:
            problem = "holds a NUL character: is the encoding right?"
        if problem:
            return Row(number, line, {}, raw, problem)
        return Row(number, line, dict(zip(self.columns, fields, strict=True)), raw)

    def _torn(self, number: int, *, unclosed: bool) -> Row:
        line, raw = self._lines.take()
        if unclosed:
            # It would swallow all good rows up to the next quote or the end: only its own line is bad.
            self._lines.give_back(raw[1:])
            raw = raw[:1]
        return Row(number, line, {}, "".join(raw), _BAD_QUOTES)

    def _header(self) -> tuple[str, ...]:
        try:
            names = next(self._reader)
            while not "".join(names).strip():
                self._lines.take()
                names = next(self._reader)
        except StopIteration:
            raise ReadError(f"{self._lines.name}: the file is empty") from None
        except csv.Error:
            raise ReadError(f"{self._lines.name}:1: header: {_BAD_QUOTES}") from None
        line, raw = self._lines.take()
        self.preamble = "".join(raw)
        if self._lines.undecodable(self.preamble):
            raise ReadError(f"{self._lines.name}:{line}: header: is not valid {self.encoding}")
        columns = tuple(name.strip() or f"column {place}" for place, name in enumerate(names, 1))
        twice = [name for name, count in Counter(columns).items() if count > 1]
        if twice:
            raise ReadError(f"{self._lines.name}:{line}: header: column {twice[0]!r} is there twice")
        return columns


def _dialect(layout: FileFormat) -> dict[str, Any]:
    return {
        "delimiter": layout.delimiter,
        "quotechar": layout.quote or None,
        "quoting": csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE,
        # Strict, because otherwise a stray quote silently glues values and rows together.
        "strict": True,
        "skipinitialspace": layout.trim,
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
