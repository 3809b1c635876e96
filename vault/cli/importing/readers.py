"""Opens a file in the format that the map says, or that its name says."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from vault.cli.importing.delimited import DelimitedTable
from vault.cli.importing.jsonlines import JsonLinesTable
from vault.cli.importing.mapping import FileFormat
from vault.cli.importing.parquet import ParquetTable
from vault.cli.importing.rows import ReadError, Table

_BY_SUFFIX: Final[Mapping[str, str]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_READERS: Final[Mapping[str, Callable[[Path, FileFormat], Table]]] = {
    "csv": DelimitedTable,
    "jsonl": JsonLinesTable,
    "parquet": ParquetTable,
}


def format_of(path: Path, said: str = "") -> str:
    """`csv`, `jsonl` or `parquet`: what was said, else what the name says.

    Raises:
        ReadError: the name says nothing.
    """
    found = said or _BY_SUFFIX.get(path.suffix.lower(), "")
    if not found:
        raise ReadError(f"{path.name}: say `file: {{format: csv}}` (or jsonl, parquet) in the map")
    return found


def open_table(path: Path, layout: FileFormat) -> Table:
    """Open `path` for one reading.

    Raises:
        ReadError: it is not there, not readable, empty, or not of that format.
    """
    return _READERS[format_of(path, layout.format)](path, layout)
