"""A million customers in minutes: the rows that reads need, made in bulk, which the pipelines would commit in
parts with a record of each.

Every customer is real: a lookup row, an encrypted number, a data key per key class that the local provider
wraps and reads unwrap, five values sealed under them, and the state of a consent. The first customer comes
through the pipelines and lends the others what does not depend on the customer. Rows go in by the order of
their keys, which is why subject ids are drawn all at once.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.customers import ATTRIBUTES, customer_number, load_customers, values_of
from vault.assembly import Pipelines, Rooms
from vault.crypto.envelope import CUSTOMER_NUMBER
from vault.crypto.keyring import Keyring
from vault.crypto.lookup_keys import LookupKeys
from vault.domain.types import KeyScope, ValueScope
from vault.domain.values import encode_value

TENANT: Final = "retail"
_PART: Final = 10_000
_ID_BYTES: Final = 16
_LOOKUP_CLASS: Final = "lookup"
_COPIED: Final = (
    "tenant_key",
    "subject",
    "subject_lookup",
    "subject_key",
    "attribute_value",
    "consent_state",
)
_COLUMNS: Final = {
    "subject_lookup": ("tenant", "mac", "key_version", "subject"),
    "subject_key": ("tenant", "subject", "dek_id", "key_class", "wrapped", "created_at"),
    "attribute_value": (
        *("tenant", "subject", "attribute", "version", "type_version", "key_class", "ciphertext"),
        "written_at",
    ),
}

Row = tuple[Any, ...]


def populate(file: Path, rooms: Rooms, pipelines: Pipelines, count: int) -> None:
    """Fill the SQLite database of a fresh home with `count` customers."""
    load_customers(pipelines, 1)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -500000")
        maker = _Maker(connection, rooms, pipelines)
        ids = sorted(rooms.randomness.token(_ID_BYTES) for _ in range(1, count))
        for start in range(0, len(ids), _PART):
            part = list(enumerate(ids[start : start + _PART], start + 1))
            connection.execute("BEGIN")
            for table, rows in maker.rows(part).items():
                connection.executemany(maker.insert(table), rows)
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class _Maker:
    """Makes the rows of customers."""

    def __init__(self, connection: sqlite3.Connection, rooms: Rooms, pipelines: Pipelines) -> None:
        self._randomness, self._now = rooms.randomness, rooms.clock.now()
        self._attributes = rooms.policy.current.bundle.attributes
        self._classes = sorted({self._attributes[name].key_class for name in ATTRIBUTES})
        self._lookup: LookupKeys = pipelines.tenant_keys.lookup(TENANT)
        # of its own: the pipelines' one would have the keys cached, and reads are to find them cold
        self._keyring = Keyring(rooms.provider, rooms.clock, rooms.randomness, 1.0, 1)
        self._first = {table: _first(connection, table) for table in ("subject", "consent_state")}

    def insert(self, table: str) -> str:
        """The statement for rows of a table."""
        columns = _COLUMNS.get(table) or tuple(self._first[table])
        return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608

    def rows(self, part: Sequence[tuple[int, bytes]]) -> dict[str, list[Row]]:
        """Rows by table, of customers given by (index, subject id)."""
        scopes = [KeyScope(TENANT, subject, each) for _, subject in part for each in self._classes]
        created = self._keyring.create(scopes)
        keys = {(at.subject, at.key_class): key for at, (_, key) in zip(scopes, created, strict=True)}
        values = [
            (TENANT, subject, name, 1, type_version, key_class, sealed, self._now)
            for index, subject in part
            for name, type_version, key_class, sealed in self._sealed(index, subject, keys)
        ]
        number = self._lookup.newest
        return {
            "subject": [self._like_first("subject", subject) for _, subject in part],
            "subject_lookup": [
                (TENANT, number.mac(customer_number(index)), number.version, subject)
                for index, subject in part
            ],
            "subject_key": [
                (TENANT, at.subject, key.dek_id, key.key_class, key.wrapped, self._now)
                for at, (key, _) in zip(scopes, created, strict=True)
            ],
            "attribute_value": values,
            "consent_state": [self._like_first("consent_state", subject) for _, subject in part],
        }

    def _sealed(
        self, index: int, subject: bytes, keys: dict[Any, Any]
    ) -> Iterator[tuple[str, int, str, bytes]]:
        sealed = self._lookup.seal_number(subject, customer_number(index), self._randomness)
        yield CUSTOMER_NUMBER, 1, _LOOKUP_CLASS, sealed
        for name, value in values_of(index).items():
            attribute = self._attributes[name]
            scope = ValueScope(TENANT, subject, name, attribute.type_version, 1)
            text = encode_value(attribute, value.value)
            sealed = keys[subject, attribute.key_class].seal(scope, text, self._randomness)
            yield name, attribute.type_version, attribute.key_class, sealed

    def _like_first(self, table: str, subject: bytes) -> Row:
        own = {"subject": subject, "audit_pseudonym": subject[::-1].hex(), "event_id": subject.hex()}
        return tuple([own.get(name, value) for name, value in self._first[table].items()])


def _first(connection: sqlite3.Connection, table: str) -> dict[str, Any]:
    rows = connection.execute(f"SELECT * FROM {table} LIMIT 1")  # noqa: S608  names of this file
    names = [column[0] for column in rows.description]
    return dict(zip(names, rows.fetchone(), strict=True))


def copy(source: Path, url: str) -> None:
    """The rows of a SQLite file into an empty database of PostgreSQL, of which `url` is a superuser's."""
    with contextlib.closing(sqlite3.connect(source)) as there, psycopg.connect(url) as here:
        # the rows are whole: checking each foreign key takes longer than all the rest
        here.execute("SET session_replication_role = replica")
        for table in _COPIED:
            rows = there.execute(f"SELECT * FROM {table}")  # noqa: S608  names of this file
            names = ", ".join(column[0] for column in rows.description)
            with here.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as target:
                for row in rows:
                    target.write_row(row)
    with psycopg.connect(url, autocommit=True) as here:
        here.execute("VACUUM ANALYZE")
