"""docs/operations/backup.md, step by step: its commands are run on a service that was killed."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.backup import Drill, drill_at, postgres_drill
from tests.support.faults import add_customer, eventually, read, start_service
from tests.support.postgres import METADATAS, PostgresServer, postgres_at
from tests.support.service import RunningService
from vault.client import DenialReason
from vault.store import grants, schema
from vault.store.postgres_database import PostgresDatabase

ADOPTED = ("refused", "adopt")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with start_service(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def bank() -> Iterator[PostgresServer]:
    """A PostgreSQL with the roles of docs/operations/postgresql.md and an empty database `vault`."""
    with tempfile.TemporaryDirectory(prefix="datavault-drill-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103  the server runs as another user
        with postgres_at(Path(folder) / "server") as server:
            with server.connect() as connection:
                for role in ("vault_owner", "vault_service", "vault_auditor"):
                    connection.execute(f"CREATE ROLE {role} LOGIN")
                connection.execute("CREATE DATABASE vault OWNER vault_owner")
            _grant(server.url_of("vault", "vault_owner"))
            yield server


def _grant(owners_url: str) -> None:
    database = PostgresDatabase(owners_url)
    schema.upgrade(database, METADATAS)
    with database.write() as connection:
        for statement in grants.statements("vault_service", "vault_auditor"):
            connection.exec_driver_sql(statement)
    database.close()


def drilled(service: RunningService, drill: Drill, backup: Sequence[str], restore: Sequence[str]) -> None:
    """A customer is restricted after the backup, the service is killed, the backup is restored and adopted:
    the restriction binds at the first read, and what the backup had is served."""
    restricted, kept = add_customer(service), add_customer(service)
    eventually(lambda: all_outside(service), "the log is signed")
    follow(drill, backup)
    service.client("privacy-office").restrict_subject(restricted)
    later = add_customer(service)
    eventually(lambda: all_outside(service), "the restriction is outside")
    service.kill()
    follow(drill, restore)
    service.launch()
    assert read(service, kept).value("email") == f"{kept}@mail.example"
    for number in (restricted, later):
        assert read(service, number).denied["email"].reason is DenialReason.NOT_AVAILABLE


def follow(drill: Drill, names: Sequence[str]) -> None:
    for name in names:
        drill.follow(name)


def all_outside(service: RunningService) -> bool:
    """Whether every record is under a checkpoint, and whatever is to be outside is there."""
    ((waiting,),) = service.sql("SELECT count(*) FROM outbox WHERE delivered_at IS NULL")
    ((signed,),) = service.sql("SELECT coalesce(max(size), 0) FROM log_checkpoint")
    return (waiting, signed) == (0, len(service.records()))


@pytest.mark.parametrize(
    ("backup", "restore"),
    [
        ("sqlite backup", "sqlite restore"),
        ("sqlite backup by sqlite3", "sqlite restore by hand"),
        ("sqlite backup by python", "sqlite restore"),
    ],
)
def test_a_killed_service_on_sqlite_goes_on_from_its_backup(
    service: RunningService, tmp_path: Path, backup: str, restore: str
) -> None:
    """Also with the WAL of the lost database left beside it, by every way that the page gives."""
    if "sqlite3" in backup and shutil.which("sqlite3") is None:
        pytest.skip("no sqlite3 program here")
    drill = drill_at(service.place, tmp_path / "backup.db", service.environment())
    wal = service.database_path.with_name("datavault.db-wal")
    assert wal.stat().st_size > 0
    drilled(service, drill, [backup, "sqlite check"], [restore, *ADOPTED, "sqlite clean up"])


def test_a_killed_service_on_postgresql_goes_on_from_its_backup(bank: PostgresServer, tmp_path: Path) -> None:
    """With the roles of the page: what was restored is the owner's, the service has its rights and no more,
    and nobody else may connect."""
    at = f"127.0.0.1:{bank.port}"
    environment = {"DATAVAULT_DATABASE_URL": f"postgresql://vault_service@{at}/vault"}
    with start_service(tmp_path, environment=environment) as service:
        drill = postgres_drill(at, tmp_path / "vault.dump", service.environment())
        steps = [f"postgresql {name}" for name in ("new database", "restore", "rename", "rights")]
        drilled(
            service,
            drill,
            ["postgresql backup", "postgresql check"],
            [*steps, *ADOPTED, "postgresql clean up"],
        )
