"""Statements that SQLite and PostgreSQL understand alike and SQLAlchemy Core has only per dialect."""

from collections.abc import Sequence

from sqlalchemy import Table, TextClause, text


def upsert(table: Table, *, only_if: str = "") -> TextClause:
    """Insert a whole row, or replace all but the key of the one with its primary key.

    `only_if` is a condition on `excluded` and the table, for rows that are there.
    """
    key = [column.name for column in table.primary_key.columns]
    changed = [column.name for column in table.columns if column.name not in key]
    settings = ", ".join(f"{name} = excluded.{name}" for name in changed)
    condition = f" WHERE {only_if}" if only_if else ""
    return text(f"{_insert(table)} ON CONFLICT ({_list(key)}) DO UPDATE SET {settings}{condition}")


def insert_new(table: Table) -> TextClause:
    """Insert a whole row unless one with its primary key is there."""
    key = [column.name for column in table.primary_key.columns]
    return text(f"{_insert(table)} ON CONFLICT ({_list(key)}) DO NOTHING")


def _insert(table: Table) -> str:
    names = [column.name for column in table.columns]
    # names come from the metadata alone, values are always bound
    return f"INSERT INTO {table.name} ({_list(names)}) VALUES ({_list([':' + name for name in names])})"  # noqa: S608


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
