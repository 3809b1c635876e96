"""Who gets rights: by `datavault db grant`, and again by `datavault db upgrade` on what it adds."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_db_commands import as_user, only
from tests.support.cli import run
from tests.support.postgres import SUPERUSER, PostgresServer
from tests.support.service import run_sql
from vault.assembly import METADATAS
from vault.store import grants, schema
from vault.store.postgres_database import PostgresDatabase


@pytest.fixture
def roles(postgres_server: PostgresServer) -> Iterator[dict[str, str]]:
    """Roles by what they are for; two names need quotes."""
    mark = secrets.token_hex(4)
    names = {"owner": f"o_{mark}", "service": f"svc-{mark}", "auditor": f"Aud {mark}", "backup": f"b_{mark}"}
    with postgres_server.connect() as connection:
        for name in names.values():
            connection.execute(f'CREATE ROLE "{name}" LOGIN')  # type: ignore[call-overload]
    yield names
    with postgres_server.connect() as connection:
        for name in names.values():
            connection.execute(f'DROP ROLE IF EXISTS "{name}"')  # type: ignore[call-overload]


@pytest.fixture
def first(
    postgres_server: PostgresServer,
    roles: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[str]:
    """The superuser's URL of a database with the first schema; commands run as its owner."""
    url = postgres_server.create(schema_too=False)
    run_sql(url, f"ALTER DATABASE {url.rpartition('/')[2]} OWNER TO {roles['owner']}")
    owners = url.replace(f"{SUPERUSER}@", f"{roles['owner']}@")
    database = PostgresDatabase(owners)
    schema.upgrade(database, METADATAS, migrations=only(tmp_path / "first", "r0001_first.py"))
    with database.read() as connection:
        tables = connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        there = list(tables.scalars())
    added = ", ".join(table for table in there if table != "alembic_version")
    with database.write() as connection:
        connection.exec_driver_sql(f'GRANT SELECT, INSERT ON {added} TO "{roles["service"]}"')
        for statement in grants.auditor_grants(roles["auditor"], there):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {roles['backup']}")
        connection.exec_driver_sql("GRANT SELECT ON log_entry TO PUBLIC")
    database.close()
    as_user(monkeypatch, owners, tmp_path)
    yield url
    postgres_server.drop(url)


def may(url: str, role: str, privilege: str, table: str) -> bool:
    ((given,),) = run_sql(url, "SELECT has_table_privilege(?, ?, ?)", role, table, privilege)
    return bool(given)


def test_an_upgrade_gives_rights_on_what_it_adds_and_takes_none(first: str, roles: dict[str, str]) -> None:
    """To a service and an auditor, whatever their names; a role for backups keeps its own."""
    assert (result := run("db", "upgrade")).exit_code == 0, result.output
    for table, rights in grants.SERVICE.items():
        assert may(first, roles["service"], "INSERT", table) == rights.insert, table
    assert may(first, roles["auditor"], "SELECT", "log_key")
    assert may(first, roles["backup"], "SELECT", "subject")
    assert not may(first, roles["backup"], "INSERT", "log_key")
    assert not may(first, roles["service"], "DELETE", "log_key")
    assert run_sql(
        first,
        "SELECT count(*) FROM information_schema.role_table_grants WHERE grantee = 'PUBLIC'"
        " AND table_schema = 'public'",
    ) == [(1,)]


def test_an_upgrade_without_anything_to_do_grants_nothing(first: str, roles: dict[str, str]) -> None:
    """A right that was taken since stays taken."""
    run("db", "upgrade")
    run_sql(first, f'REVOKE DELETE ON request FROM "{roles["service"]}"')
    assert run("db", "upgrade").exit_code == 0
    assert not may(first, roles["service"], "DELETE", "request")


def test_rights_and_schema_are_raised_together_or_not_at_all(
    first: str, roles: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where granting fails the schema is as it was."""
    monkeypatch.setattr(grants, "SEQUENCES", ("no_such_sequence",))
    assert run("db", "upgrade").exit_code != 0
    assert run_sql(first, "SELECT version_num FROM alembic_version") == [("0001",)]


def test_grant_refuses_who_must_keep_other_rights(first: str, roles: dict[str, str]) -> None:
    """The owner, a superuser, nobody, everyone, and one role for both; each is told why."""
    run("db", "upgrade")
    for kind in ("--service", "--auditor"):
        for role, why in (
            (roles["owner"], "owns the tables"),
            (SUPERUSER, "is a superuser"),
            ("nosuch", "there is no role nosuch"),
            ("public", "not everyone"),
        ):
            result = run("db", "grant", kind, role, "--apply")
            assert (result.exit_code, why in result.stderr) == (2, True), (role, result.output)
    both = run("db", "grant", "--service", roles["service"], "--auditor", roles["service"], "--apply")
    assert "must be two roles" in both.stderr
    assert may(first, roles["owner"], "UPDATE", "log_entry")
    assert run("db", "grant", "--service", roles["service"], "--apply").exit_code == 0
