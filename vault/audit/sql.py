"""SQL on the driver's own cursor.

Through SQLAlchemy one small statement costs as much as a whole append (performance.md), so the audit room
keeps its statements as text with `?` marks, which are rewritten once for drivers that mark with `%s`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from vault.domain.errors import AuditUnavailableError

POSTGRESQL: Final = "postgresql"


@contextmanager
def driver_errors(connection: Connection) -> Iterator[None]:
    """Turn every error of the database into AuditUnavailableError, without its text: it may show SQL."""
    dbapi = connection.dialect.loaded_dbapi
    try:
        yield
    except (SQLAlchemyError, dbapi.Error, dbapi.Warning):
        raise AuditUnavailableError("the audit log cannot be written or read") from None


def fetch(
    connection: Connection, sql: str, parameters: Sequence[Any] | dict[str, Any], **options: Any
) -> list[Any]:
    """All rows, as tuples. Errors are the driver's: call it under `driver_errors`. `options` are those of
    the driver's `execute`."""
    cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
    try:
        marked = _marked(connection.dialect.name, sql)
        rows: list[Any] = cursor.execute(marked, parameters, **options).fetchall()
    finally:
        cursor.close()
    return rows


def execute(connection: Connection, sql: str, parameters: Sequence[Any]) -> int:
    """Run one statement; returns how many rows it changed."""
    cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
    try:
        count: int = cursor.execute(_marked(connection.dialect.name, sql), parameters).rowcount
    finally:
        cursor.close()
    return count


def execute_many(connection: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run one statement once per row."""
    cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
    try:
        cursor.executemany(_marked(connection.dialect.name, sql), rows)
    finally:
        cursor.close()


@lru_cache(maxsize=256)
def _marked(dialect: str, sql: str) -> str:
    return sql.replace("?", "%s") if dialect == POSTGRESQL else sql


def fetch_tolerantly(connection: Connection, sql: str, parameters: Sequence[Any]) -> list[Any]:
    """`fetch`, giving text that is not UTF-8 with surrogates: verification must name it, not stop at it.

    PostgreSQL stores no such text. SQLite does, and its driver refuses a whole result for one bad byte.
    """
    try:
        return fetch(connection, sql, parameters)
    except connection.dialect.loaded_dbapi.Error:
        driver: Any = connection.connection.driver_connection
        factory = getattr(driver, "text_factory", None)
        if factory is None:
            raise
        driver.text_factory = _decode
        try:
            return fetch(connection, sql, parameters)
        finally:
            driver.text_factory = factory


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
