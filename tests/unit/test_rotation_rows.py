"""Wrapped keys as rows: counted by mark, paged in order over all tenants, replaced only as they were."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.store import NOW, any_database_at, database_at, mac_of, subject_of
from vault.domain.types import WrappedKey
from vault.store.database import Database
from vault.store.key_rows import KeyRow, KeyRowRepository, KeySource, KeyTable, MarkCount
from vault.store.subjects import SubjectRepository

CONTACT = KeySource(KeyTable.SUBJECT, "contact")
LOOKUP = KeySource(KeyTable.TENANT, "lookup")
EVIDENCE = KeySource(KeyTable.EVIDENCE, "evidence")
ROWS = KeyRowRepository()
TEXTS = (b"vault:v1:a", b"vault:v2:b", b"vault:v12:c", b"local:v1:d", b"vault:v1:e", b"no wrapped text")


@pytest.fixture
def database(tmp_path: Path, every_store: str) -> Iterator[Database]:
    """Six customers of two tenants with a contact DEK each, and one wrapped key of every other source."""
    with any_database_at(tmp_path / "keys.db") as opened:
        fill(opened)
        yield opened


def fill(database: Database) -> None:
    subjects = SubjectRepository()
    with database.write() as connection:
        for number, wrapped in enumerate(TEXTS, 1):
            tenant = "retail" if number % 2 else "private"
            subjects.create(connection, tenant, mac_of(number), 1, subject_of(number), NOW)
            key = WrappedKey("contact", bytes([number]) * 32, wrapped)
            subjects.put_keys(connection, tenant, [(subject_of(number).id, key)], NOW)
        other = WrappedKey("special", b"o" * 32, b"vault:v1:x")
        subjects.put_keys(connection, "retail", [(subject_of(1).id, other)], NOW)
        connection.execute(
            text("INSERT INTO tenant_key VALUES ('retail', 'lookup', 1, :wrapped, 0)"),
            {"wrapped": b"vault:v3:k"},
        )
        connection.execute(
            text("INSERT INTO erasure_evidence VALUES ('retail', :id, :dek, :wrapped, :sealed, 1, 2)"),
            {"id": bytes(16), "dek": bytes(32), "wrapped": b"vault:v4:e", "sealed": b"\0"},
        )


def page(database: Database, source: KeySource, marks: list[bytes], most: int = 100) -> list[KeyRow]:
    """All rows, page after page."""
    found: list[KeyRow] = []
    with database.read() as connection:
        while rows := ROWS.page(connection, source, marks, found[-1].place if found else None, most):
            found += rows
    return found


def test_rows_are_counted_by_source_and_mark(database: Database) -> None:
    """The mark is the text before the second colon; what has none is counted under an empty one."""
    with database.read() as connection:
        counted = ROWS.count(connection)
    assert set(counted) == {
        MarkCount(CONTACT, b"vault:v1", 2),
        MarkCount(CONTACT, b"vault:v2", 1),
        MarkCount(CONTACT, b"vault:v12", 1),
        MarkCount(CONTACT, b"local:v1", 1),
        MarkCount(CONTACT, b"", 1),
        MarkCount(KeySource(KeyTable.SUBJECT, "special"), b"vault:v1", 1),
        MarkCount(LOOKUP, b"vault:v3", 1),
        MarkCount(EVIDENCE, b"vault:v4", 1),
    }


@pytest.mark.parametrize("most", [1, 2, 100])
def test_pages_hold_every_row_with_a_mark_once_and_in_order(database: Database, most: int) -> None:
    """Of all tenants, and of no other class or mark."""
    rows = page(database, CONTACT, [b"vault:v1", b"vault:v12", b""], most)
    assert [row.wrapped for row in rows] == [b"no wrapped text", b"vault:v1:a", b"vault:v12:c", b"vault:v1:e"]
    assert [row.place for row in rows] == sorted(row.place for row in rows)
    assert [row.place[0] for row in rows] == ["private", "retail", "retail", "retail"]


def test_the_other_tables_are_gone_through_alike(database: Database) -> None:
    """A tenant's key by use and version, evidence by its receipt."""
    (key,) = page(database, LOOKUP, [b"vault:v3"])
    assert (key.place, key.wrapped) == (("retail", "lookup", 1), b"vault:v3:k")
    (evidence,) = page(database, EVIDENCE, [b"vault:v4"])
    assert (evidence.place, evidence.wrapped) == (("retail", bytes(16)), b"vault:v4:e")


def test_a_row_is_replaced_only_as_it_was_read(database: Database) -> None:
    """What somebody else rewrapped or destroyed meanwhile is left, and not counted."""
    first, second = page(database, CONTACT, [b"vault:v1"])
    with database.write() as connection:
        assert ROWS.replace(connection, CONTACT, [(first, b"vault:v3:theirs")]) == 1
    with database.write() as connection:
        changes = [(first, b"vault:v2:ours"), (second, b"vault:v2:ours")]
        assert ROWS.replace(connection, CONTACT, changes) == 1
    assert [row.wrapped for row in page(database, CONTACT, [b"vault:v3"])] == [b"vault:v3:theirs"]


def test_a_row_of_another_type_shows_no_text(tmp_path: Path) -> None:
    """SQLite stores any type anywhere: such a row is told, never read as if it were whole."""
    with database_at(tmp_path / "keys.db") as database:
        fill(database)
        with database.write() as connection:
            connection.exec_driver_sql(
                "UPDATE subject_key SET wrapped = 'vault:v1:text' WHERE dek_id = ?", (bytes([1]) * 32,)
            )
        assert [row.wrapped for row in page(database, CONTACT, [b""])] == [b"no wrapped text", b""]
