"""What `datavault db check` and `doctor` look at in the database itself."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, text

from vault.audit.startup import check_durability
from vault.config import Settings
from vault.database_settings import database_of
from vault.diagnosis_rights import rights_findings
from vault.domain.errors import DatavaultError, StartRefusedError
from vault.findings import Finding, Health
from vault.store import postgres, schema
from vault.store.database import Database

OLDEST_POSTGRESQL: Final = 14


def database_findings(settings: Settings) -> Iterator[Finding]:
    """Whether the database can be served, and safely. Closes what it opens."""
    database = database_of(settings)
    try:
        if not database.exists():
            yield Finding("database", Health.WARNING, "no database yet", "`datavault serve` makes it")
            return
        try:
            yield from of_database(database, settings)
        except DatavaultError as error:
            yield Finding("database", Health.BAD, error.message)
    finally:
        database.close()


def of_database(database: Database, settings: Settings) -> Iterator[Finding]:
    """The same, of a database that is open.

    Raises:
        DatavaultError: it does not answer, or is not to be served; the message says what to do.
    """
    schema.require_current(database)
    found = schema.status(database)
    newer = "" if found.known else f", newer than this release ({found.head}), which may serve it"
    yield Finding("database", Health.GOOD, f"schema {found.current}{newer}")
    with database.read() as connection:
        yield _durability(connection)
        if database.serves_alone:
            return
        production = settings.environment == "production"
        yield _version(connection)
        yield _tls(connection, production=production)
        yield from rights_findings(connection, production=production)
        yield _connections(connection, settings)
        yield _replication(connection)


def _durability(connection: Connection) -> Finding:
    try:
        check_durability(connection)
    except StartRefusedError as error:
        return Finding("durability", Health.BAD, error.message)
    return Finding("durability", Health.GOOD, "what is committed is on disk")


def _version(connection: Connection) -> Finding:
    version = _setting(connection, "server_version")
    if int(_setting(connection, "server_version_num")) < OLDEST_POSTGRESQL * 10_000:
        return Finding(
            "server", Health.BAD, f"PostgreSQL {version}", f"take PostgreSQL {OLDEST_POSTGRESQL} or newer"
        )
    return Finding("server", Health.GOOD, f"PostgreSQL {version}")


def _tls(connection: Connection, *, production: bool) -> Finding:
    way = postgres.raw(connection).pgconn
    if way.ssl_in_use:
        return Finding("transport", Health.GOOD, "TLS")
    if not way.hostaddr:
        return Finding("transport", Health.GOOD, "a socket of this machine")
    return Finding(
        "transport",
        Health.BAD if production else Health.WARNING,
        "no TLS: whoever is between can read and change everything",
        "end DATAVAULT_DATABASE_URL in ?sslmode=verify-full&sslrootcert=FILE",
    )


def _connections(connection: Connection, settings: Settings) -> Finding:
    most, each = int(_setting(connection, "max_connections")), settings.database_connections + 1
    seen = f"{each} of {most} connections for each process at most"
    if each * 2 > most:
        return Finding(
            "connections",
            Health.WARNING,
            seen,
            "raise max_connections or lower DATAVAULT_DATABASE_CONNECTIONS",
        )
    return Finding("connections", Health.GOOD, seen)


def _replication(connection: Connection) -> Finding:
    names = _setting(connection, "synchronous_standby_names")
    if names:
        return Finding("replication", Health.GOOD, f"synchronous: {names}")
    return Finding(
        "replication",
        Health.WARNING,
        "no synchronous standby: a failover may lose acknowledged records",
        "set synchronous_standby_names: docs/operations/postgresql.md",
    )


def _setting(connection: Connection, name: str) -> str:
    return str(
        connection.execute(
            text("SELECT pg_catalog.current_setting(CAST(:name AS text))"), {"name": name}
        ).scalar_one()
    )
