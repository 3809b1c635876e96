"""Stretches of a log as verification reads them: what can be said of some without those before.

A stretch is read from any snapshot that is not older than the head: records are only ever appended. So
several processes may each read some, on connections of their own (`Reader` is what each of them has).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.announcement import ACTION as ANNOUNCES_KEY
from vault.audit.contents import Contents
from vault.audit.indexing import INDEX_COLUMNS
from vault.audit.merkle import HASH_BYTES, TILE_WIDTH, leaf_hashes
from vault.audit.report import Problem
from vault.audit.sql import driver_errors
from vault.audit.sql import fetch_tolerantly as fetch

_RECORDS: Final = 16 * TILE_WIDTH
_ROWS: Final = 2 * TILE_WIDTH
"""Fetched at a time: what stays in the processor's cache is checked in three quarters of the time."""
_ENTRIES: Final = (
    'SELECT "index", record_id, entry, leaf_hash FROM log_entry '
    'WHERE log = ? AND "index" >= ? AND "index" < ? ORDER BY "index"'
)
_INDEX: Final = (
    f'SELECT "index", {INDEX_COLUMNS} FROM audit_index '  # noqa: S608 -- a constant
    'WHERE log = ? AND "index" >= ? AND "index" < ? ORDER BY "index"'
)
_ACTION_COLUMN: Final = 6


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reader must know: how far the log is integrated, where its keys are announced, and whether to
    look into the records too."""

    log: int
    integrated: int
    announced: frozenset[int] = frozenset()
    contents: bool = True


@dataclass(slots=True)
class Stretch:
    """Records `first` to `end`, the first one that is missing. `leaves` are their hashes, concatenated, to go
    on with: where one is not that of its record, `problems` says so, and it is the stored one, so that the
    tree's own checks name nothing that follows from it."""

    first: int
    end: int
    leaves: bytes = b""
    whole: bool = True
    problems: list[Problem] = field(default_factory=list)


Spans = Iterable[tuple[int, int]]
Readers = Callable[[Plan, Spans], Iterator[Stretch]]
"""Reads spans (first, end), and gives what it read in their order, as it comes."""


def spans(start: int, size: int) -> Iterator[tuple[int, int]]:
    """The spans of a log of `size` records, from `start` on."""
    while start < size:
        end = min(size, start - start % TILE_WIDTH + _RECORDS)
        yield start, end
        start = end


def reading(connection: Connection) -> Readers:
    """Reads in the snapshot of `connection`. Raises: as `Reader.read`."""
    return lambda plan, spans: map(Reader(connection, plan).read, spans)


class Reader:
    """Reads stretches of one log from one connection."""

    def __init__(self, connection: Connection, plan: Plan) -> None:
        self._connection = connection
        self._plan = plan
        self._contents = Contents()

    def read(self, span: tuple[int, int]) -> Stretch:
        """
        Raises:
            AuditUnavailableError: the database did not answer.
        """
        with driver_errors(self._connection):
            return self._read(*span)

    def _read(self, first: int, end: int) -> Stretch:
        stretch = Stretch(first, first)
        while stretch.end < end and stretch.whole:
            self._read_on(stretch, min(end, stretch.end + _ROWS))
        return stretch

    def _read_on(self, stretch: Stretch, end: int) -> None:
        first = stretch.end
        rows = fetch(self._connection, _ENTRIES, (self._plan.log, first, end))
        stretch.end = end
        if [row[0] for row in rows] != list(range(first, end)):
            places = enumerate(rows, first)
            stretch.end = next((place for place, row in places if row[0] != place), first + len(rows))
            stretch.whole = False
            stretch.problems.append(Problem("the record is missing", stretch.end))
            rows = rows[: stretch.end - first]
        stretch.leaves += _leaves(rows, stretch.problems)
        if self._plan.contents:
            self._look_into(rows, first, stretch)

    def _look_into(self, rows: list[Any], first: int, stretch: Stretch) -> None:
        plan = self._plan
        edge = min(stretch.end, max(first, plan.integrated))
        indexed = fetch(self._connection, _INDEX, (plan.log, first, edge))
        findings = {row[0]: (row, what) for row, what in self._contents.problems(rows, indexed, edge)}
        for row in indexed:
            if row[_ACTION_COLUMN] == ANNOUNCES_KEY and row[0] not in plan.announced:
                unheard_of = "the record announces a log key that is not the log's"
                findings.setdefault(row[0], (rows[row[0] - first], unheard_of))
        stretch.problems += [_problem(what, row) for _, (row, what) in sorted(findings.items())]


def _leaves(rows: list[Any], problems: list[Problem]) -> bytes:
    entries, stored = [row[2] for row in rows], [row[3] for row in rows]
    if not all(type(entry) is bytes for entry in entries):
        entries = list(map(_as_bytes, entries))
    leaves = leaf_hashes(entries)
    if leaves != stored:
        wrong = [row for row, leaf in zip(rows, leaves, strict=True) if row[3] != leaf]
        problems += [_problem("the record is not the one whose hash was stored", row) for row in wrong]
        leaves = [
            kept if len(_as_bytes(kept)) == HASH_BYTES else leaf
            for kept, leaf in zip(stored, leaves, strict=True)
        ]
    return b"".join(leaves)


def _problem(what: str, row: Any) -> Problem:
    return Problem(what, row[0], row[1] if isinstance(row[1], str) else "")


def _as_bytes(data: object) -> bytes:
    return data if isinstance(data, bytes) else b""
