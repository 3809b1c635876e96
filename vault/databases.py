"""What operators do to a database: raise its schema, look at it, grant rights, rewrite it (`datavault db`).

All of it is for the owner of the tables, beside running servers where that is said.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from vault.assembly import METADATAS
from vault.audit.origins import OpenLog, heads, read_logs
from vault.audit.sql import driver_errors
from vault.config import Settings
from vault.database_settings import database_of
from vault.domain.errors import ConfigurationError, StartRefusedError, StoreUnavailableError
from vault.store import grantees, grants, schema, vacuum
from vault.store.database import Database
from vault.store.schema import SchemaStatus
from vault.store.sqlite_database import SqliteDatabase

_SCRUB_SECONDS: Final = 6 * 3_600.0
_PROCESSES: Final = text(
    "SELECT pg_catalog.count(DISTINCT pid) FROM pg_catalog.pg_locks"
    " WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted AND database ="
    " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
)
_BYTES: Final = text("SELECT pg_catalog.pg_database_size(pg_catalog.current_database())")


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """`processes` counts those of servers that take part now (None where it cannot be told), `size` is in
    bytes, `logs` are the audit logs in use, and closed ones that no other continues."""

    name: str
    schema: SchemaStatus
    processes: int | None
    size: int
    logs: tuple[OpenLog, ...]


def database_status(settings: Settings) -> DatabaseStatus:
    """Where the database stands.

    Raises:
        ConfigurationError, StoreUnavailableError.
    """
    with _opened(settings) as database:
        found = schema.status(database)
        logs = _logs(database) if found.servable else ()
        if isinstance(database, SqliteDatabase):
            return DatabaseStatus(database.name, found, None, database.path.stat().st_size, logs)
        with database.read() as connection:
            processes = int(connection.execute(_PROCESSES).scalar_one())
            size = int(connection.execute(_BYTES).scalar_one())
        return DatabaseStatus(database.name, found, processes, size, logs)


def _logs(database: Database) -> tuple[OpenLog, ...]:
    with database.read() as connection, driver_errors(connection):
        return tuple(heads(read_logs(connection)).values())


def upgrade(settings: Settings, *, contract: bool) -> tuple[SchemaStatus, SchemaStatus]:
    """Raise the schema; the status before and after. What contracts needs `contract`, and to be alone.

    Raises:
        StartRefusedError: a newer release wrote it, another upgrade runs, or servers run beside one that
            contracts. ConfigurationError, StoreUnavailableError.
    """
    with _opened(settings, may_be_missing=True) as database:
        if database.serves_alone or contract:
            database.lock_exclusively()
        before = schema.status(database) if database.exists() else SchemaStatus("", "", known=True)
        return before, schema.upgrade(database, METADATAS, contract=contract)


def apply_grants(settings: Settings, service: str, auditor: str) -> list[str]:
    """Give these roles their rights, in one transaction; the statements that were run.

    Raises:
        ConfigurationError: not PostgreSQL, or a role that is not there, or that must not be given them.
            StoreUnavailableError: this user is not the owner.
    """
    sql = grants.statements(service, auditor)
    with _opened(settings) as database:
        if database.serves_alone:
            raise ConfigurationError("DATAVAULT_DATABASE_URL: roles are of PostgreSQL; SQLite has none")
        with database.write() as connection:
            for role in filter(None, (service, auditor)):
                grantees.require_grantable(connection, role)
            for statement in sql:
                connection.exec_driver_sql(statement)
    return sql


def scrub(settings: Settings, advance: Callable[[str, int, int], None]) -> None:
    """Rewrite all that customers' data was deleted from; `advance` is told (table, done, total).

    On PostgreSQL each table is locked while it is rewritten: calls that need it wait, and fail after their
    time. SQLite wants the service stopped.

    Raises:
        StartRefusedError: a server uses the SQLite file. ConfigurationError: the user may not; nothing was
            rewritten. StoreUnavailableError: not done, or not to the end.
    """
    with _opened(settings) as database:
        if isinstance(database, SqliteDatabase):
            database.lock_exclusively()
            database.scrub(_SCRUB_SECONDS)
            advance("all", 1, 1)
            return
        tables = sorted(name for name, rights in grants.SERVICE.items() if rights.delete)
        with database.read() as connection:
            vacuum.require_allowed(connection, tables)
        for done, table in enumerate(tables, 1):
            with database.write_once() as connection:
                vacuum.rewrite(connection, table)
            advance(table, done, len(tables))


@contextmanager
def _opened(settings: Settings, *, may_be_missing: bool = False) -> Iterator[Database]:
    database = database_of(settings)
    try:
        if not (may_be_missing or database.exists()):
            raise StartRefusedError(
                f"{database.name} is missing: `datavault db upgrade` makes it, and so does `datavault serve`"
            )
        yield database
    except StoreUnavailableError as error:
        raise StoreUnavailableError(f"{database.name}: {error.message}") from None
    finally:
        database.close()
