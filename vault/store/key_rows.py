"""Wrapped keys as rows, whatever table holds them: counted by version, gone through, replaced (keys.md,
"Rotation").

The version that wrapped a key stands in its text before the second colon (`vault:v3:...`, `local:v3:...`).
The statements group and filter by that text, the mark, so that a scan of millions of rows gives a handful of
numbers, and a page of old ones holds no row that is up to date. SQLite and PostgreSQL run the same text.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, TextClause, bindparam, text

EVIDENCE_CLASS: Final = "evidence"
_COLON: Final = b":"
_SHORTEST_MARK: Final = len(b"vault:v1")
_LONGEST_MARK: Final = len(b"vault:v999999999")


class KeyTable(StrEnum):
    """The tables that hold wrapped keys."""

    SUBJECT = "subject_key"
    TENANT = "tenant_key"
    EVIDENCE = "erasure_evidence"


@dataclass(frozen=True, slots=True)
class KeySource:
    """The rows of one table whose keys are wrapped by the same key: those of a key class, or of a use."""

    table: KeyTable
    use: str


@dataclass(frozen=True, slots=True)
class MarkCount:
    """How many rows of a source have this mark; b"" stands for whatever is no wrapped text."""

    source: KeySource
    mark: bytes
    rows: int


Place = tuple[Any, ...]
"""The primary key of a row."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A wrapped key and its place; `wrapped` is b"" where the row is not of the types that were written."""

    place: Place
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Shape:
    """`first` stands before the place of every row, and has its types."""

    place: tuple[str, ...]
    use: str
    first: Place


_SHAPES: Final[Mapping[KeyTable, _Shape]] = {
    KeyTable.SUBJECT: _Shape(("tenant", "subject", "dek_id"), "key_class", ("", b"", b"")),
    KeyTable.TENANT: _Shape(("tenant", "use", "version"), "use", ("", "", 0)),
    KeyTable.EVIDENCE: _Shape(("tenant", "receipt"), f"'{EVIDENCE_CLASS}'", ("", b"")),
}
# PostgreSQL's `position` and SQLite's `instr` find a colon, each of them alone; this both understand
_MARK: Final = (
    "CASE "
    + " ".join(
        f"WHEN substr(wrapped, {length + 1}, 1) = :colon THEN substr(wrapped, 1, {length})"
        for length in range(_SHORTEST_MARK, _LONGEST_MARK + 1)
    )
    + " ELSE :nothing END"
)
_BOUND: Final = {"colon": _COLON, "nothing": b""}
# tables and columns are those above, values are always bound
_COUNT: Final = {
    table: text(
        f"SELECT key_use, mark, count(*) FROM (SELECT {shape.use} AS key_use, {_MARK} AS mark"  # noqa: S608
        f" FROM {table}) AS marked GROUP BY key_use, mark"
    )
    for table, shape in _SHAPES.items()
}


def _page(table: KeyTable, shape: _Shape) -> TextClause:
    place = ", ".join(shape.place)
    after = ", ".join(f":after{number}" for number in range(len(shape.place)))
    statement = text(
        f"SELECT {place}, wrapped FROM {table}"  # noqa: S608
        f" WHERE {shape.use} = :use AND ({place}) > ({after}) AND {_MARK} IN :marks"
        f" ORDER BY {place} LIMIT :most"
    )
    return statement.bindparams(bindparam("marks", expanding=True))


def _replace(table: KeyTable, shape: _Shape) -> TextClause:
    at = " AND ".join(f"{column} = :at{number}" for number, column in enumerate(shape.place))
    return text(f"UPDATE {table} SET wrapped = :new WHERE {at} AND wrapped = :old")  # noqa: S608


_PAGE: Final = {table: _page(table, shape) for table, shape in _SHAPES.items()}
_REPLACE: Final = {table: _replace(table, shape) for table, shape in _SHAPES.items()}


class KeyRowRepository:
    """In the caller's transaction, over all tenants."""

    def count(
        self, connection: Connection, tables: Collection[KeyTable] = tuple(KeyTable)
    ) -> list[MarkCount]:
        """How many rows there are by source and mark: one scan of each table."""
        return [
            MarkCount(KeySource(table, str(use)), _as_bytes(mark), int(rows))
            for table in tables
            for use, mark, rows in connection.execute(_COUNT[table], _BOUND)
        ]

    def page(
        self,
        connection: Connection,
        source: KeySource,
        marks: Sequence[bytes],
        after: Place | None,
        most: int,
    ) -> list[KeyRow]:
        """The next rows with one of these marks, at most `most`, in order of their places."""
        if not marks:
            return []
        shape = _SHAPES[source.table]
        parameters = {
            **_BOUND,
            **_numbered("after", after or shape.first),
            "use": source.use,
            "marks": list(marks),
            "most": most,
        }
        found = connection.execute(_PAGE[source.table], parameters)
        return [_row(tuple(place), wrapped, shape) for *place, wrapped in found]

    def replace(
        self, connection: Connection, source: KeySource, changes: Sequence[tuple[KeyRow, bytes]]
    ) -> int:
        """Give rows another wrapped text where they still have the one that was read; returns how many did.

        A row that was changed or destroyed meanwhile stays as it is.
        """
        if not changes:
            return 0
        parameters = [
            {**_numbered("at", row.place), "old": row.wrapped, "new": wrapped} for row, wrapped in changes
        ]
        return connection.execute(_REPLACE[source.table], parameters).rowcount


def _numbered(name: str, place: Place) -> dict[str, Any]:
    return {f"{name}{number}": part for number, part in enumerate(place)}


def _row(place: Place, wrapped: object, shape: _Shape) -> KeyRow:
    # SQLite stores any type in any column
    whole = all(type(part) is type(first) for part, first in zip(place, shape.first, strict=True))
    return KeyRow(place, wrapped if whole and isinstance(wrapped, bytes) else b"")


def _as_bytes(mark: object) -> bytes:
    return mark if isinstance(mark, bytes) else b""
