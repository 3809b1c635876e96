"""`datavault db`: an operator on an empty PostgreSQL, and on one of another release."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.cli import run
from tests.support.pipelines import open_house
from tests.support.postgres import AUDITOR_USER, SERVICE_USER, PostgresServer
from tests.support.service import ORIGIN, POLICIES, run_sql
from vault.assembly import METADATAS
from vault.domain.errors import StartRefusedError
from vault.store import schema
from vault.store.grants import SERVICE
from vault.store.postgres_database import PostgresDatabase
from vault.store.schema import MIGRATIONS

EMAIL = {"email": "ana@b.example"}
HEAD = "0003"


@pytest.fixture
def empty(postgres_server: PostgresServer) -> Iterator[str]:
    """The owner's URL of a database without tables."""
    postgres_server.create()
    url = postgres_server.create(schema_too=False)
    yield url
    postgres_server.drop(url)


@pytest.fixture
def owner(postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The commands run as the owner of a database with the schema."""
    as_user(monkeypatch, postgres_url, tmp_path)
    return postgres_url


def as_user(monkeypatch: pytest.MonkeyPatch, url: str, folder: Path) -> None:
    for name, value in (
        ("DATABASE_URL", url),
        ("HOME", folder / "home"),
        ("POLICIES", POLICIES),
        ("ORIGIN", ORIGIN),
    ):
        monkeypatch.setenv(f"DATAVAULT_{name}", str(value))


def document(*arguments: str) -> Any:
    result = run("db", *arguments, "--output", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def findings() -> dict[str, tuple[str, str]]:
    return {
        one["check"]: (one["health"], one["detail"])
        for one in json.loads(run("db", "check", "--output", "json").stdout)
    }


# --- from nothing -----------------------------------------------------------------------------------------


def test_from_an_empty_database_to_serving(
    empty: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """Status, upgrade, grant; then the service's user finds all it needs, and serves."""
    as_user(monkeypatch, empty, tmp_path)
    before = document("status")
    assert (before["schema"], before["servable"]) == ("", False)
    assert [one["revision"] for one in before["pending"]] == ["0001", "0002", HEAD]
    assert document("upgrade")["schema"] == HEAD
    assert run("db", "grant", "--service", SERVICE_USER, "--auditor", AUDITOR_USER, "--apply").exit_code == 0
    after = document("status")
    assert (after["servable"], after["pending"], after["processes"]) == (True, [], 0)
    as_user(monkeypatch, postgres_server.for_service(empty), tmp_path)
    assert findings()["rights"] == ("good", f"{SERVICE_USER} has what it needs, and cannot change records")
    with open_house(tmp_path, database_url=postgres_server.for_service(empty)) as house:
        house.write("ana", EMAIL)
        assert document("status")["processes"] == 1


def test_upgrading_twice_says_so(owner: str) -> None:
    """Nothing is done, and nothing fails."""
    result = run("db", "upgrade")
    assert (result.exit_code, result.stdout) == (0, f"the schema is {HEAD} already\n")


# --- rights -----------------------------------------------------------------------------------------------

AUDIT = ("log_entry", "log_checkpoint", "log_key", "audit_index", "consent_event")


@pytest.mark.parametrize("table", AUDIT)
@pytest.mark.parametrize(
    "statement",
    ["UPDATE {} SET {} = {}", "TRUNCATE {}", "DROP TABLE {}", "ALTER TABLE {} ADD COLUMN more TEXT"],
)
def test_the_service_cannot_change_what_it_appended(
    postgres_server: PostgresServer, postgres_url: str, table: str, statement: str
) -> None:
    """PostgreSQL itself refuses, whatever the service is made to do."""
    column = "tenant" if table in ("audit_index", "consent_event") else "log"
    with (
        psycopg.connect(postgres_server.for_service(postgres_url)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.format(table, column, column))


@pytest.mark.parametrize("table", ["log_entry", "log_checkpoint", "log_key", "audit_index", "bundle"])
def test_the_service_cannot_delete_from_the_log(
    postgres_server: PostgresServer, postgres_url: str, table: str
) -> None:
    """Nor from what an auditor needs beside it."""
    with (
        psycopg.connect(postgres_server.for_service(postgres_url)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"DELETE FROM {table}")


def test_an_auditor_verifies_the_log_and_sees_no_customer(
    postgres_server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`audit verify` with the log's key needs no more than reading the log."""
    with open_house(tmp_path, database_url=postgres_url) as house:
        house.write("ana", EMAIL)
        house.pipelines.integrator.run_once()
    as_user(monkeypatch, postgres_url, tmp_path)
    key = run("audit", "vkey").stdout.strip()
    theirs = postgres_server.url_of(postgres_url.rpartition("/")[2], AUDITOR_USER)
    as_user(monkeypatch, theirs, tmp_path)
    result = run("audit", "verify", "--vkey", key)
    assert result.exit_code == 0, result.output
    for table in SERVICE.keys() - {
        "log",
        "log_key",
        "log_entry",
        "log_tile",
        "log_checkpoint",
        "audit_index",
    }:
        if table in ("alembic_version", "schema_info"):
            continue
        with (
            psycopg.connect(theirs) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(f"SELECT FROM {table}")


def test_a_missing_right_is_named(
    owner: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """With the command that mends it; and a service that owns its log is told that it should not."""
    assert findings()["rights"][0] == "warning"
    run_sql(owner, f"REVOKE DELETE ON request FROM {SERVICE_USER}")
    as_user(monkeypatch, postgres_server.for_service(owner), tmp_path)
    result = run("db", "check")
    assert result.exit_code == 1
    assert "lacks DELETE on request" in result.stdout
    assert f"db grant --service {SERVICE_USER}" in result.stdout


def test_grant_prints_what_it_would_run() -> None:
    """For a database that only `psql` reaches."""
    result = run("db", "grant", "--service", "vault_service")
    assert result.exit_code == 0
    assert "GRANT SELECT, INSERT ON log_entry TO vault_service;" in result.stdout
    assert "GRANT SELECT, INSERT, UPDATE (size, integrated, state) ON log TO vault_service;" in result.stdout
    assert 'TO "x; DROP TABLE log";' in run("db", "grant", "--service", "x; DROP TABLE log").stdout
    assert run("db", "grant").exit_code == 2


# --- durability -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        f"ALTER ROLE {SERVICE_USER} SET synchronous_commit = off",
        "ALTER DATABASE {} SET synchronous_commit = off",
    ],
)
def test_a_commit_that_may_be_lost_refuses_the_start(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path, statement: str
) -> None:
    """Wherever it was set: records would be acknowledged that are not on disk."""
    service = postgres_server.for_service(postgres_url)
    run_sql(postgres_url, statement.format(postgres_url.rpartition("/")[2]))
    try:
        with (
            pytest.raises(StartRefusedError, match="synchronous_commit"),
            open_house(tmp_path, database_url=service),
        ):
            pass
    finally:
        run_sql(postgres_url, f"ALTER ROLE {SERVICE_USER} RESET synchronous_commit")


# --- other releases ---------------------------------------------------------------------------------------


def only(folder: Path, *migrations: str) -> Path:
    """A release that knows these migrations alone."""
    versions = folder / "versions"
    versions.mkdir(parents=True)
    (folder / "env.py").write_bytes((MIGRATIONS / "env.py").read_bytes())
    for name in migrations:
        (versions / name).write_bytes((MIGRATIONS / "versions" / name).read_bytes())
    return folder


def later(folder: Path, body: str, *, kind: str) -> Path:
    """The next release: all of today's migrations, and one more."""
    names = [path.name for path in (MIGRATIONS / "versions").glob("r*.py")]
    made = only(folder, *names)
    (made / "versions" / "r9000_later.py").write_text(
        f'"""Something later."""\nfrom alembic import op\nrevision = "9000"\ndown_revision = "{HEAD}"\n'
        f'kind = "{kind}"\n\n\ndef upgrade() -> None:\n    {body}\n',
        "utf-8",
    )
    return made


def test_an_expanded_schema_goes_on_serving_this_release(postgres_url: str, tmp_path: Path) -> None:
    """A newer release's `db upgrade` beside a running server: it goes on, and may start again."""
    newer = later(tmp_path / "newer", "op.execute('ALTER TABLE subject ADD COLUMN more TEXT')", kind="expand")
    owner = PostgresDatabase(postgres_url)
    with open_house(tmp_path, database_url=postgres_url) as house:
        house.write("ana", EMAIL)
        assert schema.upgrade(owner, METADATAS, contract=False, migrations=newer).current == "9000"
        house.write("ana", {"email": "next@b.example"})
    found = schema.status(owner)
    assert (found.known, found.servable) == (False, True)
    with open_house(tmp_path, database_url=postgres_url) as house:
        house.write("ana", EMAIL)
    owner.close()


def test_a_contracting_migration_waits_and_ends_older_releases(postgres_url: str, tmp_path: Path) -> None:
    """Not without being asked; afterwards a release that it does not name is refused."""
    body = "op.execute(\"UPDATE schema_info SET value = '9000' WHERE name = 'serves_from'\")"
    newer = later(tmp_path / "newer", body, kind="contract")
    owner = PostgresDatabase(postgres_url)
    kept = schema.upgrade(owner, METADATAS, contract=False, migrations=newer)
    assert (kept.current, [one.contracts for one in kept.pending]) == (HEAD, [True])
    assert schema.upgrade(owner, METADATAS, contract=True, migrations=newer).current == "9000"
    with pytest.raises(StartRefusedError, match="run the newer release"):
        schema.require_current(owner)
    owner.close()


def test_contracting_wants_to_be_alone(owner: str, tmp_path: Path) -> None:
    """While a server takes part it is refused, with what to do."""
    with open_house(tmp_path, database_url=owner):
        result = run("db", "upgrade", "--contract")
        assert result.exit_code == 2
        assert "stop all its servers first" in result.stderr
        assert run("db", "upgrade").exit_code == 0


def test_two_upgrades_do_not_meet(owner: str) -> None:
    """The second is told that one is under way."""
    first, second = PostgresDatabase(owner), PostgresDatabase(owner)
    with first.write() as connection:
        schema._claim_upgrade(connection)
        with pytest.raises(StartRefusedError, match="another upgrade"):
            schema.upgrade(second, METADATAS)
    first.close()
    second.close()


def test_a_database_that_does_not_answer_is_told_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One line, without user or password."""
    as_user(monkeypatch, "postgresql://ana:secret@127.0.0.1:1/bank", tmp_path)
    for command in (["status"], ["upgrade"], ["check"]):
        result = run("db", *command)
        assert result.exit_code != 0
        assert "secret" not in result.output
        assert "the database cannot be reached" in result.output
