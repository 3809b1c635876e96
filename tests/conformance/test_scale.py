"""Growing past one machine: where each table's rows lie, and that a read after its lookup asks one shard."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import UniqueConstraint

from tests.support.pipelines import open_house
from tests.support.postgres import METADATAS
from tests.support.service import REPOSITORY
from vault.domain.errors import DatavaultError
from vault.store.distribution import PLACEMENTS, citus_statements
from vault.store.postgres_database import PostgresDatabase
from vault.store.reader import SubjectReader

SCALE = REPOSITORY / "docs" / "architecture" / "scale.md"
TABLES = {table.name: table for metadata in METADATAS for table in metadata.tables.values()}
OF_SUBJECT = {name for name, placement in PLACEMENTS.items() if placement.key == "subject"}
NUMBERS = ("ana", "bob", "cem")


def test_every_table_has_a_place() -> None:
    """No table is made without a decision about its rows."""
    assert PLACEMENTS.keys() == TABLES.keys()


@pytest.mark.parametrize("name", sorted(name for name, each in PLACEMENTS.items() if each.distributed))
def test_the_key_is_part_of_all_that_is_unique(name: str) -> None:
    """An engine can only keep unique what lies on one shard."""
    table, placement = TABLES[name], PLACEMENTS[name]
    assert placement.key in table.primary_key.columns
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.name not in placement.drop:
            assert placement.key in constraint.columns


def test_the_page_shows_the_statements_and_places() -> None:
    """docs/architecture/scale.md has the table and the DDL that the code gives."""
    page = SCALE.read_text("utf-8")
    assert "\n".join(citus_statements()) in page
    for name, placement in PLACEMENTS.items():
        assert f"| `{name}` | `{placement.key}` | {placement.why} |" in page


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that the driver gets from now on, with its parameters."""
    seen: list[tuple[str, Any]] = []
    execute = psycopg.Cursor.execute

    def noted(cursor: Any, query: Any, params: Any = None, **more: Any) -> Any:
        seen.append((query.decode() if isinstance(query, bytes) else str(query), params))
        return execute(cursor, query, params, **more)

    monkeypatch.setattr(psycopg.Cursor, "execute", noted)
    return seen


def scans(connection: "psycopg.Connection[Any]", sql: str, parameters: Any) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read tables."""
    (plan,) = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters).fetchone() or ("[]",)
    waiting = [entry["Plan"] for entry in (json.loads(plan) if isinstance(plan, str) else plan)]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        if "Relation Name" in node or "Index Name" in node:
            yield node


def table_of(node: dict[str, Any]) -> str:
    named: str = node.get("Relation Name") or node["Index Name"]
    return next(name for name in sorted(TABLES, key=len, reverse=True) if name in named)


def test_a_read_asks_one_shard_after_its_lookup(
    postgres_url: str, tmp_path: Path, statements: list[tuple[str, Any]]
) -> None:
    """Each statement on a subject's tables looks for (tenant, subject), as the plan of PostgreSQL shows; the
    lookup looks for (tenant, MAC)."""
    with open_house(tmp_path, database_url=postgres_url, database_sharded=True) as house:
        for number in NUMBERS:
            house.write(number, {"given-name": "Ana", "email": "ana@bank.example"})
            house.record(number, "personalised-offers", "given")
        statements.clear()
        asked = [
            house.ask("personalization-engine", number, "personalised-offers", ["given-name", "email"])
            for number in (*NUMBERS, "nobody")
        ]
        outcomes = house.read_group(asked)
        assert not any(isinstance(outcome, DatavaultError) for outcome in outcomes)
        done = list(statements)
    tables: list[str] = []
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_bitmapscan = off")
        for sql, parameters in done:
            if not re.match(r"\s*(SELECT|WITH)", sql):
                continue
            for node in scans(connection, sql, parameters):
                table, condition = table_of(node), f"{node.get('Index Cond')} {node.get('Filter')}"
                tables.append(table)
                if table in OF_SUBJECT:
                    assert "tenant = " in condition, (sql, node)
                    assert "subject = ANY" in condition or "subject = '" in condition, (sql, node)
                elif table == "subject_lookup":
                    assert "tenant = " in condition
                    assert "mac = ANY" in condition, (sql, node)
    assert set(tables) > {"subject", "subject_key", "attribute_value", "consent_state", "subject_lookup"}


def test_a_read_of_known_customers_takes_three_statements(
    postgres_url: str, tmp_path: Path, statements: list[tuple[str, Any]]
) -> None:
    """Lookup, load, append; two where the tables are not distributed: no BEGIN, no COMMIT, nothing else."""
    for sharded, expected in ((False, 2), (True, 3)):
        with open_house(tmp_path, database_url=postgres_url, database_sharded=sharded) as house:
            if not sharded:
                house.write("ana", {"mobile-phone": "+351210000000"})
            house.read("customer-portal", "ana", "account-security", ["mobile-phone"])
            statements.clear()
            house.read("customer-portal", "ana", "account-security", ["mobile-phone"])
            assert len(statements) == expected, [sql for sql, _ in statements]


def test_apart_and_joined_load_the_same(postgres_url: str, tmp_path: Path) -> None:
    """Two statements give the snapshots that one gives, also where two MACs lead to one subject."""
    with open_house(tmp_path, database_url=postgres_url) as house:
        for number in NUMBERS:
            house.write(number, {"given-name": "Ana", "email": "ana@bank.example"})
        house.record("ana", "personalised-offers", "given")
        house.record("ana", "marketing", "objected")
    database = PostgresDatabase(postgres_url)
    with database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO subject_lookup"
            " SELECT tenant, sha256(mac), key_version + 1, subject FROM subject_lookup"
        )
    with database.read() as connection:
        macs = [row[0] for row in connection.exec_driver_sql("SELECT mac FROM subject_lookup")]
        tenant = connection.exec_driver_sql("SELECT min(tenant) FROM subject").scalar_one()
        asked = (connection, tenant, [*macs, bytes(32)], ["email", "given-name"])
        joined = SubjectReader().load(*asked, rotating=True)
        assert len(joined) == 2 * len(NUMBERS)
        assert SubjectReader(sharded=True).load(*asked, rotating=True) == joined
    database.close()
