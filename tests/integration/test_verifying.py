"""Several processes verify a log as one does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audit import Log, vkey_of
from vault import verifying
from vault.audit import stretch
from vault.audit.stretch import Plan, Spans, Stretch
from vault.audit.verify import VerifyReport, verify
from vault.config import load_settings
from vault.domain.errors import AuditUnavailableError

SIZE = 1_100


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    # short stretches, so that a small log has several
    monkeypatch.setattr(stretch, "_RECORDS", 256)
    monkeypatch.setattr(verifying, "_WORTHWHILE_SPANS", 2)
    log = Log(tmp_path)
    log.grow(5, 700, SIZE - 705)
    yield log
    log.database.close()


def by_processes(log: Log, path: Path) -> VerifyReport:
    settings = load_settings(home=path.parent, database_url=f"sqlite:///{path}")
    readers = verifying.reading_processes(settings, not_here, 2)
    with log.database.read() as connection:
        return verify(connection, log.id, vkey_of(), readers=readers)


def by_one(log: Log) -> VerifyReport:
    with log.database.read() as connection:
        return verify(connection, log.id, vkey_of())


def not_here(plan: Plan, spans: Spans) -> Iterator[Stretch]:
    raise AssertionError("read in this process")


def test_processes_say_what_one_says(log: Log) -> None:
    """Whole or changed in several places, the report of two processes is that of one."""
    assert by_processes(log, log.database.path) == by_one(log)
    assert by_one(log).ok
    log.sql("UPDATE log_entry SET entry = CAST('{}' AS BLOB) WHERE \"index\" IN (3, 600, 1000)")
    log.sql("UPDATE audit_index SET caller = 'x' WHERE \"index\" = 1050")
    changed = by_processes(log, log.database.path)
    assert changed == by_one(log)
    assert {problem.index for problem in changed.problems} == {3, 600, 1000, 1050}


def test_missing_record_ends_the_reading(log: Log) -> None:
    """Where a record is missing, processes stop as one does."""
    log.sql('DELETE FROM log_entry WHERE "index" = 300')
    assert by_processes(log, log.database.path) == by_one(log)


def test_short_log_is_read_here(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started for a log that is read sooner than one starts."""
    monkeypatch.setattr(verifying, "_WORTHWHILE_SPANS", 100)
    with pytest.raises(AssertionError, match="in this process"):
        by_processes(log, log.database.path)


def test_database_that_fails_in_a_process_is_told(log: Log, tmp_path: Path) -> None:
    """A process that cannot read says so as one does: verification ends with the error, not with a report."""
    other = tmp_path / "empty.db"
    other.touch()
    with pytest.raises(AuditUnavailableError):
        by_processes(log, other)
