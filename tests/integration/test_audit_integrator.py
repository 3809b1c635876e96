"""The integrator goes on where it was, whatever was killed or unavailable, and says how far it lags."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Connection

from tests.support.audit import (
    NOW,
    ORIGIN,
    KeySigner,
    Log,
    Signers,
    encoded,
    in_threads,
    make_record,
    vkey_of,
)
from vault.audit.checkpoint import Checkpoint, parse_and_verify
from vault.audit.integration import Integration
from vault.audit.integrator import Integrator
from vault.audit.outside import outbox_event
from vault.audit.outside_folder import FolderStore
from vault.audit.receipt import receipt
from vault.audit.receipt import verify as verify_receipt
from vault.audit.verify import verify
from vault.config import Settings
from vault.domain.errors import (
    AuditUnavailableError,
    IntegrityError,
    KeysUnavailableError,
    NotFoundError,
    StoreUnavailableError,
)
from vault.domain.protocols import PublicKey, Signer
from vault.outside import open_outside
from vault.testing import FakeClock


class Killed(BaseException):
    """Stands for the process ending: nothing may catch it and go on."""


class Telling(KeySigner):
    """A signer that calls back at each signature."""

    def __init__(self, tell: Callable[[], None], inner: KeySigner | None = None) -> None:
        super().__init__()
        self._tell = tell
        self._inner = inner or KeySigner()

    def sign(self, message: bytes) -> bytes:
        self._tell()
        return self._inner.sign(message)

    def public_key(self) -> bytes:
        return self._inner.public_key()


class Saboteur:
    """Counts the steps of a pass and ends it at one of them. Wraps database, signer and outside store."""

    def __init__(self, log: Log, kill_at: int) -> None:
        self._log = log
        self._left = kill_at

    def step(self) -> None:
        if self._left == 0:
            raise Killed
        self._left -= 1

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self.step()
        with self._log.database.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.step()
        with self._log.database.write() as connection:
            yield connection
            self.step()
        self.step()

    @property
    def providers(self) -> tuple[str, ...]:
        return self._log.signers.providers

    def newest(self) -> PublicKey:
        return self._log.signers.newest()

    def versions(self) -> list[PublicKey]:
        return self._log.signers.versions()

    def signer(self, provider: str, version: int) -> Signer:
        return Telling(self.step, self._log.signers.keys[version - 1])

    def put(self, path: str, content: bytes) -> None:
        self.step()
        self._log.outside.put(path, content)
        self.step()

    def get(self, path: str) -> bytes | None:
        return self._log.outside.get(path)

    def entries(self, folder: str, first: int = 0) -> list[str]:
        return self._log.outside.entries(folder, first)

    def last(self, folder: str) -> str | None:
        return self._log.outside.last(folder)


def assert_whole(log: Log, size: int) -> None:
    with log.database.read() as connection:
        report = verify(connection, log.id, vkey_of())
    assert report.problems == []
    assert (report.size, report.signed_size) == (size, size)
    assert log.sql("SELECT count(*) FROM outbox WHERE delivered_at IS NULL") == [(0,)]
    last = log.outside.last(f"{ORIGIN}/checkpoints") or ""
    content = log.outside.get(last) or b""
    assert parse_and_verify(content.decode(), vkey_of()).size == size


def test_integrator_killed_at_every_step_goes_on(tmp_path: Path, every_outside: dict[str, str]) -> None:
    """Ended before, within or after each transaction, signature and delivery, the next pass completes it."""
    log = Log(tmp_path, outside=open_outside(Settings(home=tmp_path)) if every_outside else None)
    log.grow(3)
    size, kill_at, finished = 3, 0, False
    while not finished:
        log.append(300)
        size += 300
        saboteur = Saboteur(log, kill_at)
        try:
            Integration(saboteur, saboteur, log.clock, saboteur).run_once()
            finished = True
        except Killed:
            kill_at += 1
        log.integrator().run_once()
        assert_whole(log, size)
    assert kill_at > 15


def test_same_integrator_goes_on_after_a_failure_at_every_step(tmp_path: Path) -> None:
    """The thread's own integrator, which lives on after an error, forgets what was not committed."""
    log = Log(tmp_path)
    size = 0
    for fail_at in range(18):
        saboteur = Saboteur(log, fail_at)
        integrator = Integration(saboteur, saboteur, log.clock, saboteur)
        log.append(300)
        size += 300
        with pytest.raises(Killed):
            integrator.run_once()
        saboteur._left = -1
        integrator.run_once()
        assert_whole(log, size)


def test_nothing_new_signs_nothing(tmp_path: Path) -> None:
    """An empty log has no checkpoint, and without new records there is no new one."""
    log = Log(tmp_path)

    def integrator() -> Integrator:
        return Integrator(log.database, log.id, log.signers, log.clock)

    assert integrator().run_once() is None
    log.append(1)
    first = integrator()
    assert isinstance(first.run_once(), Checkpoint)
    assert first.run_once() is None
    assert integrator().run_once() is None
    assert log.sql("SELECT size FROM log_checkpoint") == [(1,)]


def test_unavailable_signer_delays_checkpoints_only(tmp_path: Path) -> None:
    """Without the key records are integrated and events go out; the lag grows, and is made up later."""
    log = Log(tmp_path)
    assert isinstance(log.clock, FakeClock)
    log.signers.fail = KeysUnavailableError("sealed")
    log.append(3)
    with log.database.write() as connection:
        outbox_event(connection, log.id, ORIGIN, 2, {"kind": "withdrawn"}, log.clock.now())
    integrator = log.integrator()
    with pytest.raises(KeysUnavailableError):
        integrator.run_once()
    assert log.sql("SELECT integrated FROM log") == [(3,)]
    assert log.outside.last(f"{ORIGIN}/events") == f"{ORIGIN}/events/{2:020d}.json"
    log.clock.advance(90)
    assert integrator.lag_seconds() == 90.0
    log.signers.fail = None
    integrator.run_once()
    assert integrator.lag_seconds() == 0.0
    assert_whole(log, 3)


def test_unavailable_outside_store_delays_delivery_only(tmp_path: Path) -> None:
    """While the outside store is away checkpoints are signed and wait in the outbox; the lag shows it."""

    class Away(FolderStore):
        away = True

        def put(self, path: str, content: bytes) -> None:
            if self.away:
                raise StoreUnavailableError("away")
            super().put(path, content)

    store = Away(tmp_path / "outside")
    log = Log(tmp_path, outside=store)
    assert isinstance(log.clock, FakeClock)
    log.append(1)
    integrator = log.integrator()
    with pytest.raises(StoreUnavailableError):
        integrator.run_once()
    assert log.sql("SELECT size FROM log_checkpoint") == [(1,)]
    log.clock.advance(7)
    assert integrator.lag_seconds() == 7.0
    store.away = False
    integrator.run_once()
    assert_whole(log, 1)


def test_other_history_outside_is_kept_and_does_not_block_others(tmp_path: Path) -> None:
    """What stands outside is never overwritten; the entry waits on, and those behind it get out."""
    log = Log(tmp_path)
    log.outside.put(f"{ORIGIN}/checkpoints/{1:020d}", b"another history")
    log.grow(1, 1)
    assert log.outside.get(f"{ORIGIN}/checkpoints/{1:020d}") == b"another history"
    assert log.outside.last(f"{ORIGIN}/checkpoints") == f"{ORIGIN}/checkpoints/{2:020d}"
    assert log.sql("SELECT count(*) FROM outbox WHERE delivered_at IS NULL") == [(1,)]


def test_damaged_tree_is_never_signed(tmp_path: Path) -> None:
    """An integrator that starts on tiles other than those that were signed refuses to sign on."""
    log = Log(tmp_path)
    log.grow(5)
    log.sql("UPDATE log_tile SET hashes = zeroblob(160)")
    log.append(1)
    with pytest.raises(IntegrityError):
        log.integrator().run_once()
    assert log.sql("SELECT max(size) FROM log_checkpoint") == [(5,)]


def test_gap_is_never_integrated(tmp_path: Path) -> None:
    """Where a record is missing the integrator stops before it."""
    log = Log(tmp_path)
    log.append(5)
    log.sql('DELETE FROM log_entry WHERE "index" = 2')
    with pytest.raises(IntegrityError):
        log.integrator().run_once()
    assert log.sql("SELECT integrated FROM log") == [(0,)]


def test_unreadable_record_does_not_stop_the_log(tmp_path: Path) -> None:
    """A record changed before integration is left out of the index; the log goes on and verify names it."""
    log = Log(tmp_path)
    log.append(3)
    log.sql("UPDATE log_entry SET entry = x'00' WHERE \"index\" = 1")
    log.integrator().run_once()
    assert log.sql('SELECT "index" FROM audit_index ORDER BY 1') == [(0,), (2,)]
    with log.database.read() as connection:
        problem = verify(connection, log.id, vkey_of()).first_problem
    assert problem is not None
    assert problem.index == 1


def test_integrators_at_once_do_no_harm(tmp_path: Path) -> None:
    """Several integrators of one log, run against each other, leave one right tree."""
    log = Log(tmp_path)
    log.append(2_000)

    def run() -> None:
        integrator = log.integrator()
        for _ in range(20):
            with contextlib.suppress(AuditUnavailableError):
                integrator.run_once()

    in_threads(run, run, run)
    log.integrator().run_once()
    assert_whole(log, 2_000)


def test_integrator_that_was_overtaken_changes_nothing(tmp_path: Path) -> None:
    """An integrator that another one overtook between reading and writing never puts an older tile back."""
    log = Log(tmp_path)
    log.append(3)
    overtake = [log]

    class Overtaken(Saboteur):
        def step(self) -> None:
            pass

        @contextmanager
        def write(self) -> Iterator[Connection]:
            if overtake:
                overtake.pop().grow(4)
            with super().write() as connection:
                yield connection

    slow = Overtaken(log, 0)
    integrator = Integration(slow, slow, log.clock, slow)
    integrator.run_once()
    assert_whole(log, 7)
    integrator.run_once()
    assert_whole(log, 7)


def test_thread_signs_what_was_notified_and_stops(tmp_path: Path) -> None:
    """The thread wakes on notify and signs; stop makes a last pass, so nothing is left unsigned."""
    log = Log(tmp_path)
    signed = Event()
    integrator = Integration(
        log.database, Signers(Telling(signed.set)), log.clock, log.outside, interval_seconds=0.001
    )
    log.append(1)
    integrator.start()
    integrator.notify()
    assert signed.wait(20)
    log.append(1)
    integrator.stop()
    assert_whole(log, 2)


def test_thread_goes_on_after_errors(tmp_path: Path) -> None:
    """An error, of a known kind or not, ends a pass and not the thread."""
    log = Log(tmp_path)
    log.append(1)
    failures: list[Exception] = [KeysUnavailableError("sealed"), RuntimeError("a bug")]
    signed = Event()

    def sometimes() -> None:
        if failures:
            raise failures.pop()
        signed.set()

    integrator = Integration(
        log.database, Signers(Telling(sometimes)), log.clock, log.outside, interval_seconds=0.001
    )
    integrator.start()
    while not signed.wait(0.01):
        integrator.notify()
    integrator.stop()
    assert_whole(log, 1)


def test_receipt_of_every_record_verifies_offline(tmp_path: Path) -> None:
    """From the next checkpoint on each record has a receipt that needs nothing but the verifier key."""
    log = Log(tmp_path)
    log.grow(1, 260)
    log.append(1)
    with log.database.read() as connection:
        for index in (0, 1, 255, 256, 260):
            verified = verify_receipt(receipt(connection, log.id, index), vkey_of())
            assert verified.entry == encoded(make_record(index)).entry
            assert verified.checkpoint.size == (1 if index == 0 else 261)
        for index in (261, 262, -1):
            with pytest.raises(NotFoundError):
                receipt(connection, log.id, index)


def test_checkpoint_keeps_its_time(tmp_path: Path) -> None:
    """A stored checkpoint says when it was signed."""
    log = Log(tmp_path)
    log.grow(1)
    assert log.sql("SELECT signed_at FROM log_checkpoint") == [(NOW,)]
