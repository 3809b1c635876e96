"""The service starts only on the log that the outside store knows; a restore is adopted, once, whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.support.audit import ORIGIN, TENANT, Log, quiet, records, vkey_of
from vault.audit.append import Appender
from vault.audit.origins import OpenLog, heads_of
from vault.audit.outside import outbox_event
from vault.audit.outside_folder import FolderStore
from vault.audit.record import parse
from vault.audit.restore import Adoption, Operator, adopt_restores, finish_adoption
from vault.audit.startup import check_durability, check_outside, open_log
from vault.audit.verify import verify
from vault.domain.errors import (
    AuditUnavailableError,
    ConfigurationError,
    IntegrityError,
    StartRefusedError,
)
from vault.testing import FixedRandomness

OPERATOR = Operator(TENANT, "operator", "dns:operator.bank.example")


class Killed(BaseException):
    """Stands for the process ending."""


def check(log: Log, seed: bytes | None = None) -> None:
    head = log.refreshed()
    key = vkey_of(head.origin, seed) if seed else vkey_of(head.origin)
    with log.database.read() as connection:
        check_outside(connection, head, log.outside, key)


def adopt(log: Log) -> Adoption:
    with quiet():
        randomness = FixedRandomness()
    (adoption,) = adopt_restores(
        log.database, {ORIGIN: OPERATOR}, log.outside, log.signers, log.clock, randomness
    )
    return adoption


def finish(log: Log, adoption: Adoption) -> None:
    with log.database.write() as connection:
        finish_adoption(connection, adoption.log.log)


def event(log: Log, position: int) -> None:
    origin = log.refreshed().origin
    with log.database.write() as connection:
        outbox_event(connection, log.open.log, origin, position, {"position": position}, log.clock.now())


class Restorable(Log):
    """A log whose database can be put back to what it was."""

    def keep(self) -> bytes:
        self.database.close()
        data = self.database.path.read_bytes()
        self._reopen()
        return data

    def restore(self, data: bytes) -> None:
        self.database.close()
        for path in self.database.path.parent.glob("audit.db*"):
            path.unlink()
        self.database.path.write_bytes(data)
        self._reopen()

    def _reopen(self) -> None:
        self.database = type(self.database)(self.database.path)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Restorable]:
    log = Restorable(tmp_path)
    yield log
    log.database.close()


def test_log_is_made_once_and_opened_again(log: Restorable) -> None:
    """The first start makes the log; later ones open the same one."""
    assert log.open == OpenLog(1, ORIGIN, 0, 0, "active")
    log.append(2)
    assert open_log(log.database, ORIGIN, log.signers, log.clock) == OpenLog(1, ORIGIN, 2, 0, "active")


def test_database_of_another_origin_is_refused(log: Restorable) -> None:
    """A database belongs to one origin."""
    with log.database.read() as connection, pytest.raises(ConfigurationError, match=ORIGIN):
        heads_of(connection, "other.example/log")


def test_database_that_may_lose_commits_is_refused(log: Restorable) -> None:
    """SQLite without synchronous=FULL is no place for the log."""
    with log.database.read() as connection:
        check_durability(connection)
    log.database._connection().exec_driver_sql("PRAGMA synchronous=NORMAL")
    with pytest.raises(StartRefusedError), log.database.read() as connection:
        check_durability(connection)


def test_log_that_extends_the_outside_store_is_served(log: Restorable) -> None:
    """With an empty store, with the last checkpoint, and with records beyond it, the service starts."""
    check(log)
    log.grow(5, 5)
    check(log)
    log.append(3)
    check(log)


@pytest.mark.parametrize("size", [0, 3])
def test_restored_log_is_refused_with_the_command(log: Restorable, size: int) -> None:
    """A log shorter than its last outside checkpoint is not served; the message names the way on."""
    if size:
        log.grow(size)
    old = log.keep()
    log.grow(5)
    log.restore(old)
    message = f"holds {size} records and its last checkpoint outside covers {size + 5}.*audit adopt-restore"
    with pytest.raises(StartRefusedError, match=message):
        check(log)


def test_restored_log_that_grew_again_is_refused(log: Restorable) -> None:
    """A log that was restored and then grew past the outside checkpoint has another tree."""
    log.grow(3)
    old = log.keep()
    log.grow(5)
    log.restore(old)
    with log.database.write() as connection:
        log.appender.append(connection, records(100, 20))
    with pytest.raises(StartRefusedError, match="not the one"):
        check(log)


def test_event_beyond_the_log_is_refused(log: Restorable) -> None:
    """An event outside whose record the log no longer has is lost data, though no checkpoint tells."""
    log.grow(3)
    log.outside.put(f"{ORIGIN}/events/{3:020d}.json", b"{}")
    with pytest.raises(StartRefusedError, match="datavault audit adopt-restore"):
        check(log)


def test_checkpoint_outside_that_is_not_ours_is_refused(log: Restorable) -> None:
    """A checkpoint in the store that our key did not sign, or that is no checkpoint, refuses the start."""
    log.grow(3)
    with pytest.raises(
        StartRefusedError, match=r"cannot be trusted.*not the log key of this database"
    ) as refused:
        check(log, seed=bytes(32))
    assert "adopt-restore" not in str(refused.value)
    log.outside.put(f"{ORIGIN}/checkpoints/{9:020d}", b"\xff")
    with pytest.raises(StartRefusedError, match="cannot be trusted"):
        check(log)


def lose(log: Restorable) -> None:
    """Restore a log of 4 records after it had 9, of which 3, 5 and 8 had gone outside as events."""
    log.append(4)
    event(log, 3)
    log.integrator().run_once()
    old = log.keep()
    log.append(5)
    event(log, 5)
    event(log, 8)
    log.integrator().run_once()
    log.restore(old)


def test_adoption_opens_a_log_whose_first_entry_names_the_lost_checkpoint(log: Restorable) -> None:
    """The successor's first record names what was lost; the old log is closed; what was lost comes back."""
    lose(log)
    adoption = adopt(log)
    assert adoption.log == OpenLog(2, f"{ORIGIN}/r2", 0, 0, "adopting")
    assert (adoption.lost_origin, adoption.lost_size, adoption.restored_size) == (ORIGIN, 9, 4)
    assert [(item.position, item.document) for item in adoption.events] == [
        (5, {"position": 5}),
        (8, {"position": 8}),
    ]
    ((entry,),) = log.sql("SELECT entry FROM log_entry WHERE log = 2")
    record = parse(bytes(entry))  # type: ignore[call-overload]
    assert record.action == "log.adopt-restore"
    assert record.detail["lost_size"] == 9
    assert log.sql("SELECT state FROM log ORDER BY log") == [("closed",), ("adopting",)]


def test_nothing_is_served_until_the_adoption_is_finished(log: Restorable) -> None:
    """Between adoption and the events being applied again the service refuses to start."""
    lose(log)
    adoption = adopt(log)
    with pytest.raises(StartRefusedError, match="adopt-restore"):
        open_log(log.database, ORIGIN, log.signers, log.clock)
    with log.database.write() as connection, pytest.raises(AuditUnavailableError):
        Appender(1).append(connection, records(500, 1))
    finish(log, adoption)
    assert open_log(log.database, ORIGIN, log.signers, log.clock).origin == f"{ORIGIN}/r2"


def test_adopted_log_is_served_and_verifies(log: Restorable) -> None:
    """After the adoption the new log grows, is signed under its own origin, and both logs verify."""
    lose(log)
    adoption = adopt(log)
    finish(log, adoption)
    log.open, log.appender = adoption.log, Appender(2)
    log.append(3)
    log.integrator().run_once()
    check(log)
    with log.database.read() as connection:
        for number, origin in ((1, ORIGIN), (2, f"{ORIGIN}/r2")):
            assert verify(connection, number, vkey_of(origin)).problems == []
    with pytest.raises(ConfigurationError, match="nothing to adopt"):
        adopt(log)


def test_adoption_run_again_is_the_same(log: Restorable) -> None:
    """Killed after its commit, the adoption gives the same log and the same events again."""
    lose(log)
    first = adopt(log)
    again = adopt(log)
    assert (again.events, again.log.origin, again.restored_size) == (
        first.events,
        first.log.origin,
        first.restored_size,
    )
    assert log.sql("SELECT count(*) FROM log") == [(2,)]


def test_adoption_killed_before_its_commit_did_nothing(
    log: Restorable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adoption is one transaction: killed within, the old log is as it was."""
    lose(log)
    whole = log.database.write

    @contextmanager
    def killed() -> Iterator[Connection]:
        with whole() as connection:
            yield connection
            raise Killed

    monkeypatch.setattr(log.database, "write", killed)
    with pytest.raises(Killed):
        adopt(log)
    monkeypatch.undo()
    assert log.sql("SELECT log, state FROM log") == [(1, "active")]
    assert adopt(log).log.log == 2


def test_healthy_log_is_not_adopted(log: Restorable) -> None:
    """Where nothing was lost there is nothing to adopt."""
    log.grow(3)
    with pytest.raises(ConfigurationError, match="nothing to adopt"):
        adopt(log)


def test_adoption_of_an_empty_database_brings_all_events_back(log: Restorable) -> None:
    """With the database lost altogether every event outside is given back."""
    empty = log.keep()
    log.append(4)
    event(log, 1)
    log.integrator().run_once()
    log.restore(empty)
    log.sql("DELETE FROM log_key")
    log.sql("DELETE FROM log")
    adoption = adopt(log)
    assert adoption.restored_size == 0
    assert [item.position for item in adoption.events] == [1]


def test_second_restore_brings_back_what_both_logs_lost(log: Restorable) -> None:
    """Restored to before an adoption, the next one takes a fresh origin and the events of both lost logs."""
    log.append(4)
    log.integrator().run_once()
    old = log.keep()
    log.append(5)
    event(log, 5)
    log.integrator().run_once()
    log.restore(old)
    finish(log, adopt(log))
    log.open, log.appender = log.refreshed(), Appender(2)
    log.append(2)
    event(log, 2)
    log.integrator().run_once()
    log.restore(old)
    with pytest.raises(StartRefusedError):
        check(log)
    adoption = adopt(log)
    assert adoption.log.origin == f"{ORIGIN}/r3"
    assert [(item.origin, item.position) for item in adoption.events] == [(ORIGIN, 5), (f"{ORIGIN}/r2", 2)]


def test_complete_log_beside_a_later_one_is_refused(log: Restorable) -> None:
    """A database from before an adoption is refused even where its own log is whole."""
    log.grow(4)
    log.outside.put(f"{ORIGIN}/r2/checkpoints/{1:020d}", b"")
    with pytest.raises(StartRefusedError, match="later audit log"):
        check(log)


def test_diverged_log_brings_back_events_from_where_it_parted(log: Restorable) -> None:
    """A log that grew on after a restore gets the events since the last checkpoint it still extends."""
    lose(log)
    with log.database.write() as connection:
        log.appender.append(connection, records(100, 20))
    adoption = adopt(log)
    assert adoption.restored_size == 4
    assert [item.position for item in adoption.events] == [5, 8]


def test_untrusted_checkpoint_is_not_adopted(log: Restorable) -> None:
    """What our key did not sign is not taken for the lost checkpoint."""
    log.grow(3)
    log.outside.put(f"{ORIGIN}/checkpoints/{9:020d}", b"no checkpoint")
    with pytest.raises(IntegrityError):
        adopt(log)
    shutil.rmtree(log.database.path.parent / "outside")
    check(log)


class Unhurried(FolderStore):
    """Lists and gets for as long as a transaction may not be idle: it finds out whether one is open."""

    log: Restorable

    def entries(self, folder: str, first: int = 0) -> list[str]:
        with self.log.database.write():
            return super().entries(folder, first)


def test_an_adoption_holds_no_transaction_while_it_lists(tmp_path: Path) -> None:
    """However long an object store takes to list a million checkpoints, the database waits for nothing."""
    store = Unhurried(tmp_path / "outside")
    store.log = log = Restorable(tmp_path, outside=store)
    log.grow(2)
    backup = log.keep()
    event(log, 2)
    log.grow(3)
    log.restore(backup)
    adoption = adopt(log)
    assert [each.position for each in adoption.events] == [2]
    assert adopt(log).events == adoption.events
    log.database.close()
