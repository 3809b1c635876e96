"""Backups of a SQLite database, and their restore (`datavault db backup|restore`).

PostgreSQL has its own programs: docs/operations/backup.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import text

from vault.config import Settings, make_home
from vault.database_settings import database_of
from vault.domain.errors import ConfigurationError, StoreUnavailableError
from vault.store import schema
from vault.store.sqlite_backup import copy_of, replaced, replacement
from vault.store.sqlite_database import SqliteDatabase

_RECORDS: Final = text("SELECT count(*) FROM log_entry")


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup holds: its schema, how many audit records, and its size in bytes."""

    schema: str
    records: int
    size: int


def back_up(settings: Settings, target: Path) -> BackedUp:
    """A copy of the database of one moment, every page checked, beside a running server.

    Raises:
        ConfigurationError: not SQLite, no database, or `target` is there already.
        StoreUnavailableError: the database cannot be read, or is damaged. OSError.
    """
    with _sqlite(settings) as database:
        if not database.exists():
            raise ConfigurationError(f"{database.name} is missing: there is nothing to back up")
        if target.exists():
            raise ConfigurationError(f"{target} is there already: give each backup a name of its own")
        with _named(database.name), copy_of(database, target) as copy:
            return _looked_at(copy, database.path)


def restore(settings: Settings, backup: Path) -> tuple[BackedUp, Path | None]:
    """Put a backup in the place of the database: what it holds, and where the replaced database is now.

    Raises:
        StartRefusedError: a server uses the database. ConfigurationError: not SQLite, `backup` is no backup
            of this release's or an older schema, or an earlier restore has left a replaced database.
        StoreUnavailableError: the backup is damaged; nothing was changed. OSError.
    """
    make_home(settings)
    with _sqlite(settings) as database:
        database.lock_exclusively()
        path, aside = database.path, replaced(database.path)
        _require_room(path, aside)
        with _named(str(backup)), replacement(path, backup) as copy:
            found = _looked_at(copy, backup)
    return found, aside if aside.exists() else None


def _require_room(path: Path, aside: Path) -> None:
    if path.exists() and aside.exists():
        raise ConfigurationError(
            f"{aside} was left by an earlier restore: move it away, or delete it with its -wal"
        )


def _looked_at(copy: SqliteDatabase, source: Path) -> BackedUp:
    found = schema.status(copy)
    if not found.current:
        raise ConfigurationError(f"{source} is no database of datavault")
    if not (found.known or found.servable):
        raise ConfigurationError(
            f"{source} has schema {found.current}, which this release does not know: use the newer release"
        )
    with copy.read() as connection:
        records = int(connection.execute(_RECORDS).scalar_one())
    return BackedUp(found.current, records, copy.path.stat().st_size)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except StoreUnavailableError as error:
        raise StoreUnavailableError(f"{name}: {error.message}") from None


@contextmanager
def _sqlite(settings: Settings) -> Iterator[SqliteDatabase]:
    database = database_of(settings)
    try:
        if not isinstance(database, SqliteDatabase):
            raise ConfigurationError(
                "DATAVAULT_DATABASE_URL: PostgreSQL is backed up with pg_dump and restored with pg_restore"
                " (docs/operations/backup.md)"
            )
        yield database
    finally:
        database.close()
