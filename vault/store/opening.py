"""Which database a URL names."""

from collections.abc import Callable

from sqlalchemy import Connection

from vault.domain.errors import ConfigurationError
from vault.store import postgres
from vault.store.database import Database
from vault.store.postgres_database import CONNECTIONS, PostgresDatabase, no_objection
from vault.store.sqlite_database import SqliteDatabase


def open_database(
    url: str,
    *,
    password: Callable[[], str | None] = lambda: None,
    production: bool = False,
    connections: int = CONNECTIONS,
    objection: Callable[[Connection], str] = no_objection,
) -> Database:
    """The database of a URL; nothing is connected yet. The other arguments are for PostgreSQL.

    Raises:
        ConfigurationError: no URL, or of another database.
    """
    if postgres.is_postgres(url):
        return PostgresDatabase(
            url, password=password, production=production, connections=connections, objection=objection
        )
    try:
        return SqliteDatabase(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error.message}, or postgresql://USER@HOST:PORT/NAME") from None
