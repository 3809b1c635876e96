"""Real SQLite files for tests, with the whole schema, and subjects to put into them."""

import importlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection

from vault.audit import tables as audit_tables
from vault.domain.types import ConsentEntry, ConsentState, Lane, Subject, WrappedKey
from vault.store import schema, tables
from vault.store.consents import SqlConsentRepository
from vault.store.database import Database
from vault.store.sqlite_database import SqliteDatabase
from vault.store.subjects import NewSubject, SubjectRepository
from vault.store.values import ValueRow

METADATAS = (tables.metadata, audit_tables.metadata)
TENANT = "retail"
NOW = 1_700_000_000_000_000


def database_url(path: Path) -> str:
    return f"sqlite:///{quote(str(path))}"


def another_store(path: Path) -> Database | None:
    """The database in place of a file; `tests.support.stores` has another answer."""
    return None


@contextmanager
def any_database_at(path: Path) -> Iterator[Database]:
    """A database with the current schema of the store that the test runs on, closed at the end."""
    other = another_store(path)
    if other is None:
        with database_at(path) as database:
            yield database
        return
    try:
        yield other
    finally:
        other.close()


@contextmanager
def database_at(
    path: Path,
    *,
    slot_seconds: float = 5.0,
    busy_seconds: float = 2.0,
    driver: type[sqlite3.Connection] = sqlite3.Connection,
) -> Iterator[SqliteDatabase]:
    """A database with the current schema, closed at the end."""
    database = SqliteDatabase(
        database_url(path), slot_seconds=slot_seconds, busy_seconds=busy_seconds, driver=driver
    )
    try:
        schema.upgrade(database, METADATAS)
        yield database
    finally:
        database.close()


def subject_of(number: int, **fields: object) -> Subject:
    """Subject 1, 2 ...: ids and pseudonyms differ, everything else is plain."""
    defaults: dict[str, object] = {"jurisdictions": ("EU",)}
    return Subject(
        id=number.to_bytes(16, "big"),
        audit_pseudonym=f"{number:032x}",
        **(defaults | fields),  # type: ignore[arg-type]
    )


def mac_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def key_of(number: int, key_class: str = "contact") -> WrappedKey:
    return WrappedKey(key_class, number.to_bytes(32, "big"), b"vault:v1:%d" % number)


def value_of(
    subject: bytes, attribute: str, version: int = 1, ciphertext: bytes | None = b"sealed"
) -> ValueRow:
    return ValueRow(subject, attribute, version, 1, "contact", ciphertext, NOW)


def add_subjects(connection: Connection, *numbers: int, tenant: str = TENANT) -> None:
    SubjectRepository().insert(
        connection, tenant, [NewSubject(mac_of(number), 1, subject_of(number), NOW) for number in numbers]
    )


def state_entry(purpose: str, state: ConsentState, seq: int, **fields: object) -> ConsentEntry:
    """A row of consent_state in the lane of its state."""
    return ConsentEntry(
        purpose=purpose,
        lane=state.lane,
        seq=seq,
        event_id=f"event-{seq}",
        state=state,
        **fields,  # type: ignore[arg-type]
    )


def lanes_in(entries: tuple[ConsentEntry, ...]) -> set[tuple[str, Lane]]:
    return {(entry.purpose, entry.lane) for entry in entries}


def consents_of(database: SqliteDatabase, subject: bytes) -> tuple[ConsentEntry, ...]:
    with database.read() as connection:
        return SqlConsentRepository().state(connection, TENANT, subject)


def count(connection: Connection, table: str) -> int:
    number = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
    return int(number)


class FailingDriver(sqlite3.Connection):
    """A driver connection whose COMMIT fails while `code` (an SQLite error code) is set.

    With `cut_after` the commit happens first, as when a connection is lost before the answer came.
    """

    code: int | None = None
    cut_after = False

    def commit(self) -> None:
        if type(self).code is None or not self.in_transaction:
            super().commit()
            return
        if type(self).cut_after:
            super().commit()
        error = sqlite3.OperationalError("cut")
        error.sqlite_errorcode = type(self).code
        raise error


def failing_driver(code: int, *, cut_after: bool = False) -> type[FailingDriver]:
    """A driver of its own per test; set its `code` to None to make it work again."""
    return type("Failing", (FailingDriver,), {"code": code, "cut_after": cut_after})


@contextmanager
def without_root() -> Iterator[None]:
    """Give up root's rights over file modes inside the block (nothing to do for other users)."""
    if os.geteuid() != 0:
        yield
        return
    # what a start imports late it must find: root's own files may be nobody else's to read
    for late in _IMPORTED_LATE:
        importlib.import_module(late)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


_NOBODY = 65_534
_IMPORTED_LATE = (
    "alembic.command",
    "alembic.config",
    "casbin",
    "hvac",
    "psycopg",
    "uvloop",
    "vault.policy.reference",
)
