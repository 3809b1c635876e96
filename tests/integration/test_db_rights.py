"""`datavault db check` on rights: whoever could rewrite the log is named, with what takes it away."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.cli import run
from tests.support.postgres import SUPERUSER, PostgresServer
from tests.support.service import ORIGIN, POLICIES, run_sql
from vault.assembly import METADATAS
from vault.store import grants, schema
from vault.store.postgres_database import PostgresDatabase


class Cast(NamedTuple):
    """A database of an owner who is no superuser, with a service and an auditor."""

    url: str
    owner: str
    service: str
    auditor: str

    def sql(self, statement: str) -> None:
        run_sql(self.url, statement.format(**self._asdict()))


@pytest.fixture
def cast(postgres_server: PostgresServer) -> Iterator[Cast]:
    mark = secrets.token_hex(4)
    roles = [f"{kind}_{mark}" for kind in ("owner", "service", "auditor")]
    url = postgres_server.create(schema_too=False)
    made = Cast(url, *roles)
    for role in roles:
        made.sql(f"CREATE ROLE {role} LOGIN")
    made.sql(f"ALTER DATABASE {url.rpartition('/')[2]} OWNER TO {made.owner}")
    database = PostgresDatabase(url.replace(f"{SUPERUSER}@", f"{made.owner}@"))
    schema.upgrade(database, METADATAS)
    with database.write() as connection:
        for statement in grants.statements(made.service, made.auditor):
            connection.exec_driver_sql(statement)
    database.close()
    yield made
    made.sql("DROP OWNED BY {service}, {auditor}")
    postgres_server.drop(url)
    with postgres_server.connect() as connection:
        connection.execute(f"DROP ROLE {', '.join(roles)}")


@pytest.fixture
def check(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], list[tuple[str, str, str]]]:
    """What `db check` finds of rights, run by a role: health, detail, remedy."""

    def found(role: str) -> list[tuple[str, str, str]]:
        as_role(monkeypatch, cast, role, tmp_path)
        document = json.loads(run("db", "check", "--output", "json").stdout)
        return [(one["health"], one["detail"], one["remedy"]) for one in document if one["check"] == "rights"]

    return found


def as_role(monkeypatch: pytest.MonkeyPatch, cast: Cast, role: str, folder: Path) -> None:
    for name, value in (
        ("DATABASE_URL", cast.url.replace(f"{SUPERUSER}@", f"{role}@")),
        ("HOME", folder / "home"),
        ("POLICIES", POLICIES),
        ("ORIGIN", ORIGIN),
    ):
        monkeypatch.setenv(f"DATAVAULT_{name}", str(value))


Check = Callable[[str], list[tuple[str, str, str]]]


def test_the_least_rights_are_good(cast: Cast, check: Check) -> None:
    """Of the service, and of an auditor, who is not told to become a service."""
    good = "has what it needs, and cannot change records"
    assert check(cast.service) == [("good", f"{cast.service} {good}", "")]
    reads = f"{cast.auditor} reads the log, and cannot change records"
    assert check(cast.auditor) == [("good", reads, "")]
    cast.sql("REVOKE SELECT ON log_key FROM {auditor}")
    ((health, detail, remedy),) = check(cast.auditor)
    assert (health, detail) == ("bad", f"{cast.auditor} lacks SELECT on log_key")
    assert f"--auditor {cast.auditor}" in remedy


@pytest.mark.parametrize(
    ("statement", "detail", "remedy"),
    [
        (
            "GRANT UPDATE (entry, leaf_hash) ON log_entry TO {service}",
            "may UPDATE log_entry",
            "REVOKE UPDATE ON log_entry FROM {service}",
        ),
        (
            "GRANT DELETE ON log_entry, bundle TO PUBLIC",
            "may DELETE bundle, log_entry",
            "REVOKE DELETE ON bundle, log_entry FROM PUBLIC",
        ),
        (
            "GRANT TRIGGER ON log_entry TO {service}",
            "may TRIGGER log_entry",
            "REVOKE TRIGGER ON log_entry FROM {service}",
        ),
        (
            "GRANT {owner} TO {service} WITH INHERIT FALSE",
            "may become {owner}, which owns the tables",
            "REVOKE {owner} FROM {service}",
        ),
        (
            "GRANT pg_write_all_data TO {service} WITH INHERIT FALSE",
            "may become pg_write_all_data, which writes every table",
            "REVOKE pg_write_all_data FROM {service}",
        ),
        (
            "ALTER ROLE {service} CREATEROLE",
            "may make roles and become them",
            "ALTER ROLE {service} NOCREATEROLE",
        ),
        ("ALTER ROLE {service} SUPERUSER", "is a superuser", "docs/operations/postgresql.md"),
        (
            "GRANT CREATE ON SCHEMA public TO {service}",
            "may create in schema public",
            "REVOKE CREATE ON SCHEMA public FROM {service}",
        ),
        (
            "GRANT CREATE ON SCHEMA public TO PUBLIC",
            "may create in schema public, as everyone",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        ),
    ],
)
def test_what_could_rewrite_the_log_is_named(
    cast: Cast, check: Check, statement: str, detail: str, remedy: str
) -> None:
    """Exactly that, and what to do; done, all is good again."""
    cast.sql(statement)
    ((health, seen, to_do),) = check(cast.service)
    assert health == ("warning" if "superuser" in detail else "bad")
    names = cast._asdict()
    assert seen == f"{cast.service} {detail.format(**names)}: it could rewrite the log"
    assert remedy.format(**names) in to_do
    if "REVOKE" in remedy or "ALTER" in remedy:
        cast.sql(remedy)
        assert [health for health, _, _ in check(cast.service)] == ["good"]


PLANT = """
CREATE FUNCTION public.pg_try_advisory_xact_lock(integer) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$
"""


def test_what_the_service_put_into_public_does_not_run_as_the_owner(
    cast: Cast, check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A function whose arguments fit better than those of PostgreSQL's own is not called by `db upgrade`;
    that it is there is told, also once the schema is closed."""
    cast.sql("GRANT CREATE ON SCHEMA public TO PUBLIC")
    cast.sql(f"SET ROLE {cast.service}; {PLANT}")
    as_role(monkeypatch, cast, cast.owner, tmp_path)
    result = run("db", "upgrade")
    assert result.exit_code == 0, result.output
    assert run("db", "grant", "--service", cast.service, "--apply").exit_code == 0
    details = [detail for _, detail, _ in check(cast.service)]
    assert details == [f"{cast.service} has functions in schema public: it could rewrite the log"]
    with pytest.raises(Exception, match="permission denied for schema public"):
        cast.sql(f"SET ROLE {cast.service}; CREATE TABLE public.more (id integer)")
