"""The database is locked, gone, another one, read-only, of a newer release, or another server's."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.faults import (
    add_customer,
    copy_database,
    eventually,
    moved_away,
    read,
    reads_again,
    refused_read,
    refused_start,
    refused_write,
    serving,
    start_service,
    together,
    unstarted,
    write_lock,
)
from tests.support.faults_policies import write_policies
from tests.support.service import RunningService, run_sql
from tests.support.store import without_root
from tests.support.wire import Failure
from vault import assembly
from vault.config import Settings
from vault.domain.errors import StartRefusedError


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One service for all tests here: each must leave it serving."""
    with start_service(tmp_path_factory.mktemp("database")) as running:
        yield running


def assert_unavailable(failure: Failure, *reasons: str) -> None:
    assert (failure.code, failure.reason in reasons) == (grpc.StatusCode.UNAVAILABLE, True), failure
    assert failure.retry_seconds is not None
    assert failure.retry_seconds > 0


def test_reads_and_writes_wait_for_another_process_and_then_fail(service: RunningService) -> None:
    """While another process holds the write lock nothing is given and nothing changed; then it goes on."""
    number = add_customer(service)
    before = service.records()
    with write_lock(service.database_path):
        refused = together(lambda: refused_read(service, number), lambda: refused_write(service, number))
    assert_unavailable(refused[0], "AUDIT_UNAVAILABLE")
    assert_unavailable(refused[1], "STORE_UNAVAILABLE")
    assert service.records() == before
    reads_again(service, number)
    assert read(service, number).value("email") == f"{number}@mail.example"


def test_a_missing_database_is_unavailable_until_it_is_back(service: RunningService) -> None:
    """Nothing is answered from a file that nobody would find again."""
    number = add_customer(service)
    with moved_away(service.database_path):
        assert_unavailable(refused_read(service, number), "AUDIT_UNAVAILABLE", "STORE_UNAVAILABLE")
        assert_unavailable(refused_write(service, number), "AUDIT_UNAVAILABLE", "STORE_UNAVAILABLE")
        eventually(lambda: not serving(service), "health says NOT_SERVING")
        assert not service.database_path.exists()
    reads_again(service, number)


def test_a_replaced_database_is_not_served(service: RunningService) -> None:
    """A copy put in place of the open file gets neither reads nor writes."""
    number = add_customer(service)
    with moved_away(service.database_path) as original:
        # by its bytes: SQLite would take the WAL of the original for that of the copy
        shutil.copyfile(original, service.database_path)
        before = service.database_path.read_bytes()
        assert_unavailable(refused_read(service, number), "AUDIT_UNAVAILABLE", "STORE_UNAVAILABLE")
        assert_unavailable(refused_write(service, number), "AUDIT_UNAVAILABLE", "STORE_UNAVAILABLE")
        assert service.database_path.read_bytes() == before
    reads_again(service, number)


def test_a_second_server_on_the_same_file_refuses_to_start(service: RunningService) -> None:
    """It says who is in the way and what to do, with exit code 2, and the first one goes on."""
    second = refused_start(service)
    assert second.returncode == 2
    assert "another datavault server uses" in second.stderr
    assert "DATAVAULT_HOME" in second.stderr
    assert "Traceback" not in second.stderr
    reads_again(service, add_customer(service))


def test_a_database_of_a_newer_release_is_refused(service: RunningService, tmp_path: Path) -> None:
    """The start is refused with exit code 2 and what to run instead, and the file stays as it is."""
    newer = unstarted(tmp_path, service.options.policies)
    copy_database(service.database_path, newer.database_path)
    run_sql(newer.database_path, "UPDATE alembic_version SET version_num = 'r9999'")
    refused = refused_start(newer)
    assert refused.returncode == 2
    assert "r9999" in refused.stderr
    assert "run the newer release" in refused.stderr
    assert run_sql(newer.database_path, "SELECT version_num FROM alembic_version") == [("r9999",)]


def test_a_damaged_database_is_refused(service: RunningService, tmp_path: Path) -> None:
    """A file that is no database ends the start with one line that says so."""
    damaged = unstarted(tmp_path, service.options.policies)
    damaged.database_path.write_bytes(b"not a database, but long enough to be taken for one " * 100)
    refused = refused_start(damaged)
    assert refused.returncode == 2
    assert "damaged" in refused.stderr
    assert str(damaged.database_path) in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_read_only_database_is_refused(service: RunningService) -> None:
    """The start on a file that may only be read is refused, naming the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        home = folder / "home"
        home.mkdir(mode=0o777)
        home.chmod(0o777)
        copy_database(service.database_path, home / "datavault.db")
        run_sql(home / "datavault.db", "PRAGMA journal_mode=WAL")
        (home / "datavault.db").chmod(0o444)
        settings = Settings(home=home, policies=write_policies(folder / "policies"))
        with (
            without_root(),
            pytest.raises(StartRefusedError, match=r"home/datavault\.db: .* rights"),
            assembly.open_rooms(settings, assembly.Use.SERVE),
        ):
            raise AssertionError("it opened")


def test_a_locked_database_refuses_the_start(service: RunningService, tmp_path: Path) -> None:
    """Who starts beside a process that holds the write lock is told so."""
    locked = unstarted(tmp_path, service.options.policies)
    copy_database(service.database_path, locked.database_path)
    with write_lock(locked.database_path):
        refused = refused_start(locked)
    assert refused.returncode == 2
    assert "locked" in refused.stderr
    assert str(locked.database_path) in refused.stderr


def test_sqlite_agrees_that_nothing_was_damaged(service: RunningService) -> None:
    """After all of this the file is sound and the log verifies."""
    assert run_sql(service.database_path, "PRAGMA integrity_check") == [("ok",)]
    assert service.verify().problems == []
