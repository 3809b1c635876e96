"""The rejects: rows that did not go in, exactly as they were, and a report that says why."""

import io
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from vault.cli.importing.files import open_private
from vault.cli.importing.outcome import Rejected
from vault.cli.importing.rows import Table
from vault.domain.errors import ConfigurationError


def rejects_path(source: Path, table: Table) -> Path:
    """`customers.csv` -> `customers.rejects.csv`, beside it."""
    return source.with_name(f"{source.stem}.rejects{table.suffix}")


def is_rejects(path: Path) -> bool:
    """Whether a file is named as rejects are."""
    return ".rejects." in path.name


class Rejects:
    """Writes rejects and report, both with mode 0600, from the first rejected row on. A context manager.

    The rejects file holds the customers' own data; the report (JSON lines) holds none. Without a path both
    are left out.
    """

    def __init__(self, path: Path | None, table: Table) -> None:
        self._path = path
        self._table = table
        self._rows: TextIO | None = None
        self._report: TextIO | None = None

    @property
    def names(self) -> tuple[str, str]:
        """Of the rejects file and of the report; empty when there is no place for them."""
        return ("", "") if self._path is None else (str(self._path), str(_report(self._path)))

    def add(self, rejected: Rejected) -> None:
        """Keep one row."""
        if self._path is None:
            return
        row = rejected.row
        try:
            if self._rows is None or self._report is None:
                self._rows = _create(self._path, self._table.encoding)
                self._report = _create(_report(self._path), "utf-8")
                self._rows.write(self._table.preamble)
            self._rows.write(row.raw if row.raw.endswith(("\n", "\r")) else row.raw + "\n")
            for fault in rejected.faults:
                entry = {"row": row.number, "line": row.line, "column": fault.column, "reason": fault.reason}
                self._report.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise ConfigurationError(f"{self._path}: cannot be written: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._rows, self._report):
            if stream is not None:
                stream.close()


def _report(path: Path) -> Path:
    return path.with_name(path.name + ".report.jsonl")


def _create(path: Path, encoding: str) -> TextIO:
    descriptor = open_private(path, os.O_TRUNC)
    return io.TextIOWrapper(
        os.fdopen(descriptor, "wb"), encoding=encoding, errors="surrogateescape", newline=""
    )
