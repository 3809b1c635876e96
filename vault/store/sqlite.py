"""SQLite as the store uses it: how connections are opened, and what its errors mean.

WAL with synchronous=FULL: readers never wait for the writer, and COMMIT returns after fsync. secure_delete
overwrites what is deleted (its limits: keys.md, "Erasure").
"""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from vault.domain.errors import ConfigurationError, DatavaultError, StoreUnavailableError
from vault.store.checkpointer import AUTOMATIC_PAGES

_UNAVAILABLE: Final = {
    sqlite3.SQLITE_BUSY: "the database is locked",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_PROTOCOL: "the database is locked",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_PERM: "the database may not be opened",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_FULL: "the disk of the database is full",
    sqlite3.SQLITE_IOERR: "the database cannot be read or written",
    sqlite3.SQLITE_NOMEM: "the database has no memory left",
    sqlite3.SQLITE_INTERRUPT: "the database was interrupted",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the database file is damaged",
    sqlite3.SQLITE_SCHEMA: "the database changed its schema",
}
_NOT_COMMITTED: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CONSTRAINT,
    }
)
"""After these a failed COMMIT certainly changed nothing: the commit frame was never written whole."""


def database_path(url: str) -> Path:
    """The absolute path in `sqlite:///path`; the path is URL-encoded (`%25` for a percent sign).

    Raises:
        ConfigurationError: no URL, another database, in memory, or with parameters.
    """
    right = "DATAVAULT_DATABASE_URL: must be sqlite:///PATH"
    try:
        parsed: URL = make_url(url)
    except ArgumentError:
        raise ConfigurationError(right) from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite") or parsed.host:
        raise ConfigurationError(right)
    if "?" in url:
        # the rest would be dropped, and another file used than the one named
        raise ConfigurationError(f"{right} without parameters; a question mark is written %3F")
    if parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(f"{right}; a database in memory would not outlive the process")
    return Path(str(parsed.database)).expanduser().absolute()


def create_file(path: Path) -> None:
    """Make the empty database, readable by its owner alone, unless it is there.

    Raises:
        StoreUnavailableError: the folder is missing, read-only or full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError:
        raise StoreUnavailableError("the database file cannot be created") from None


def engine(
    path: Path, *, begin: str, query_only: bool, busy_seconds: float, driver: type[sqlite3.Connection]
) -> Engine:
    """An engine whose transactions start with the statement `begin`.

    The `sqlite3` module's own transaction control is off: it would begin late and only before writes.
    """
    pragmas = (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "PRAGMA foreign_keys=ON",
        "PRAGMA secure_delete=ON",
        "PRAGMA trusted_schema=OFF",
        f"PRAGMA query_only={'ON' if query_only else 'OFF'}",
        f"PRAGMA wal_autocheckpoint={AUTOMATIC_PAGES}",
    )
    made = create_engine(
        "sqlite://",
        creator=lambda: connect(path, pragmas, busy_seconds=busy_seconds, driver=driver),
        poolclass=NullPool,
        hide_parameters=True,
    )

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        raw(connection).execute(begin)

    return made


def connect(
    path: Path, pragmas: Sequence[str], *, busy_seconds: float, driver: type[sqlite3.Connection]
) -> sqlite3.Connection:
    """A connection of the driver, used by one thread and closed by whoever shuts down."""
    # mode=rw: a missing file is an error, never a new empty database
    uri = path.as_uri() + "?mode=rw"
    opened = sqlite3.connect(
        uri, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False, factory=driver
    )
    try:
        for pragma in pragmas:
            opened.execute(pragma).fetchall()
    except BaseException:
        opened.close()
        raise
    return opened


def raw(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection: a statement on it costs half of one through SQLAlchemy."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise DatavaultError("the connection is not one of SQLite")
    return driver


def translate(error: BaseException, *, path: Path) -> DatavaultError | None:
    """What a database error means to a caller, without SQL, parameters or path; None for other errors."""
    if not isinstance(error, (sqlite3.Error, SQLAlchemyError)):
        return None
    code = _primary_code(error)
    if code == sqlite3.SQLITE_CANTOPEN and not path.exists():
        translated: DatavaultError = StoreUnavailableError("the database is missing")
    elif code in _UNAVAILABLE:
        translated = StoreUnavailableError(_UNAVAILABLE[code])
    elif code == sqlite3.SQLITE_CONSTRAINT:
        translated = StoreUnavailableError("the change does not fit what is stored by now")
    else:
        translated = DatavaultError("the database refused a statement")
    # the code's name tells an engineer what to look for and shows no data
    translated.add_note(_error_name(error))
    return translated


def surely_not_committed(error: BaseException) -> bool:
    """Whether a COMMIT that failed with `error` certainly changed nothing."""
    return _primary_code(error) in _NOT_COMMITTED


def _origin(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _primary_code(error: BaseException) -> int | None:
    code = getattr(_origin(error), "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _error_name(error: BaseException) -> str:
    origin = _origin(error)
    return str(getattr(origin, "sqlite_errorname", None) or type(origin).__name__)
