"""The migrations make exactly the tables that the rooms declare."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, LargeBinary, create_engine

from tests.support.store import METADATAS, database_at
from vault.store.sqlite_database import SqliteDatabase
from vault.store.tables import metadata

SUBJECT_OWNED = ("subject", "subject_key", "attribute_value", "consent_event", "consent_state")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    with database_at(tmp_path / "vault.db") as opened:
        yield opened


def definitions(connection: Connection) -> dict[str, str]:
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
    )
    return {name: re.sub(r"\s+", " ", sql) for name, sql in rows}


def test_alembic_finds_no_difference(database: SqliteDatabase) -> None:
    """Columns, types, keys and indexes of the migrated schema are those of both metadatas."""
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, list(METADATAS)) == []


def test_the_definitions_are_the_same_to_the_letter(database: SqliteDatabase, tmp_path: Path) -> None:
    """Checks, names and storage (WITHOUT ROWID) agree too, which alembic does not compare."""
    declared = create_engine(f"sqlite:///{tmp_path / 'declared.db'}")
    with declared.begin() as connection:
        for tables in METADATAS:
            tables.create_all(connection)
        expected = definitions(connection)
    declared.dispose()
    with database.read() as connection:
        assert definitions(connection) == expected


@pytest.mark.parametrize("name", SUBJECT_OWNED)
def test_subject_owned_keys_lead_with_tenant_and_subject(name: str) -> None:
    """So that rows can be distributed by subject and a read is served from one place."""
    columns = [column.name for column in metadata.tables[name].primary_key.columns]
    assert columns[:2] == ["tenant", "subject"]


def test_what_is_secret_is_bytes() -> None:
    """Keys, ciphertexts, MACs and fingerprints are binary columns: no text encoding touches them."""
    for table, column in (
        ("subject_lookup", "mac"),
        ("subject_key", "wrapped"),
        ("attribute_value", "ciphertext"),
        ("tenant_key", "wrapped"),
        ("request", "fingerprint"),
    ):
        assert isinstance(metadata.tables[table].c[column].type, LargeBinary)
