"""JSON lines: one object per line; numbers keep their digits, objects and lists become JSON text."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from vault.cli.importing.mapping import FileFormat
from vault.cli.importing.rows import ReadError, Row
from vault.cli.importing.textlines import TextLines
from vault.domain.canonical import canonical_json, parse_json

_LOOKED_AT: Final = 1_000


class JsonLinesTable:
    """A `Table` over JSON lines. Keys may differ from row to row: `columns` are those of the first 1,000."""

    fixed = False
    suffix = ".jsonl"
    preamble = ""

    def __init__(self, path: Path, layout: FileFormat) -> None:
        self.encoding = layout.encoding
        self._lines = TextLines(path, layout.encoding)
        self._rows = self._read()
        first = list(itertools.islice(self._rows, _LOOKED_AT))
        self.columns = tuple(dict.fromkeys(name for row in first for name in row.cells))
        if not self.columns:
            raise ReadError(f"{path.name}: none of its first lines is a JSON object")
        self._rows = itertools.chain(first, self._rows)

    def rows(self) -> Iterator[Row]:
        yield from self._rows

    def fraction(self) -> float:
        return self._lines.fraction()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()

    def _read(self) -> Iterator[Row]:
        number = 0
        for raw in self._lines:
            line, _ = self._lines.take()
            if not raw.strip():
                continue
            number += 1
            if self._lines.undecodable(raw):
                yield Row(number, line, {}, raw, f"is not valid {self.encoding}")
                continue
            try:
                cells = json_cells(raw)
            except (ValueError, RecursionError):
                yield Row(number, line, {}, raw, "is not a JSON object with each key once")
                continue
            yield Row(number, line, cells, raw)


def json_cells(text: str) -> dict[str, str | None]:
    """The members of one JSON object as text.

    Raises:
        ValueError: not an object, a key twice, NaN, infinity, a lone surrogate.
    """
    strict = parse_json(text)
    if type(strict) is not dict:
        raise ValueError("not an object")
    # A second reading keeps the digits of numbers: 12.50 and 1e3 as the file has them.
    as_written = json.loads(text, parse_float=str, parse_int=str)
    return {key: _cell(as_written[key], value) for key, value in strict.items()}


def _cell(as_written: Any, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return canonical_json(value).decode("ascii")
    return str(as_written)
