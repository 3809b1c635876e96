"""Parquet through pyarrow (the extra `parquet`), a batch of rows at a time."""

import base64
import datetime
import decimal
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from vault.cli.importing.mapping import FileFormat
from vault.cli.importing.rows import ReadError, Row
from vault.domain.canonical import canonical_json

_BATCH_ROWS: Final = 1_000


class ParquetTable:
    """A `Table` over a Parquet file; its rejects are written as JSON lines of the cells' text."""

    fixed = True
    suffix = ".jsonl"
    encoding = "utf-8"
    preamble = ""

    def __init__(self, path: Path, layout: FileFormat) -> None:
        try:
            from pyarrow import parquet
        except ModuleNotFoundError:
            raise ReadError(
                f"{path.name}: Parquet needs pyarrow: pip install '.[parquet]' in the source folder"
            ) from None
        self._name = path.name
        self._read = 0
        try:
            self._file = parquet.ParquetFile(path)
        except FileNotFoundError:
            raise ReadError(f"{path}: No such file or directory") from None
        except (ValueError, OSError):
            raise ReadError(f"{path.name}: not a Parquet file, or damaged") from None
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)

    def rows(self) -> Iterator[Row]:
        try:
            for batch in self._file.iter_batches(batch_size=_BATCH_ROWS):
                for record in batch.to_pylist():
                    self._read += 1
                    yield self._row(record)
        except (ValueError, OSError):
            raise ReadError(f"{self._name}: row {self._read + 1}: damaged Parquet data") from None

    def fraction(self) -> float:
        return min(self._read / max(int(self._file.metadata.num_rows), 1), 1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _row(self, record: dict[str, Any]) -> Row:
        try:
            cells = {name: _cell(value) for name, value in record.items()}
        except ValueError:
            return Row(self._read, self._read, {}, "", "holds a value that has no text form")
        return Row(self._read, self._read, cells, json.dumps(cells, ensure_ascii=False) + "\n")


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value)  # pandas writes a missing number as NaN
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict | list):
        return canonical_json(value).decode("ascii")
    raise ValueError("no text form")
