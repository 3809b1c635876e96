"""Which database a URL names."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from vault.domain.errors import ConfigurationError
from vault.store.database import Database
from vault.store.pool import CONNECTIONS
from vault.store.sqlite_database import SqliteDatabase

_POSTGRES: Final = ("postgresql+psycopg://", "postgresql://", "postgres://")
Objection = Callable[[Connection], str]
"""Why a database that answers must not be used, '' when it may (postgres_database.py)."""


def open_database(
    url: str,
    *,
    password: Callable[[], str | None] = lambda: None,
    production: bool = False,
    connections: int = CONNECTIONS,
    objection: Objection | None = None,
) -> Database:
    """The database of a URL; nothing is connected yet. The other arguments are for PostgreSQL.

    Raises:
        ConfigurationError: no URL, or of another database.
    """
    if url.startswith(_POSTGRES):
        # psycopg and its C library are a tenth of the imports of a start on SQLite
        from vault.store.postgres_database import PostgresDatabase, no_objection

        return PostgresDatabase(
            url,
            password=password,
            production=production,
            connections=connections,
            objection=objection or no_objection,
        )
    try:
        return SqliteDatabase(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error.message}, or postgresql://USER@HOST:PORT/NAME") from None
