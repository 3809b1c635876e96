"""Processes of one server take turns at writing."""

import threading
from pathlib import Path

import pytest

from tests.support.faults import eventually
from vault.domain.errors import StoreUnavailableError
from vault.store.sqlite_database import SqliteDatabase
from vault.store.turnstile import Turnstile


def test_one_at_a_time(tmp_path: Path) -> None:
    """While one has the turn another one is told that the time was up, and gets it afterwards."""
    first, second = Turnstile(tmp_path / "db"), Turnstile(tmp_path / "db")
    assert first.acquire(0)
    assert not second.acquire(0.01)
    first.release()
    assert second.acquire(0)


def test_who_waits_comes_before_who_has_just_left(tmp_path: Path) -> None:
    """A process that commits on end cannot keep another one out: the turn goes to whoever stands there."""
    greedy, waiting = Turnstile(tmp_path / "db"), Turnstile(tmp_path / "db")
    assert greedy.acquire(0)
    got = threading.Event()
    thread = threading.Thread(target=lambda: got.set() if waiting.acquire(20) else None)
    thread.start()
    eventually(lambda: _shut(Turnstile(tmp_path / "db")), "it stands inside")
    greedy.release()
    assert not greedy.acquire(0)
    thread.join()
    assert got.is_set()


def _shut(turnstile: Turnstile) -> bool:
    """Whether somebody stands at the inner door."""
    free = turnstile._outer.acquire()
    turnstile._outer.release()
    return not free


def test_one_that_gives_up_leaves_the_way_free(tmp_path: Path) -> None:
    """Its time was up inside: the next one does not find the outer door shut."""
    first, second, third = (Turnstile(tmp_path / "db") for _ in range(3))
    assert first.acquire(0)
    assert not second.acquire(0.01)
    first.release()
    assert third.acquire(0)


def test_shared_databases_wait_for_each_other(tmp_path: Path) -> None:
    """A change of one process waits for that of another one, within its own time."""
    url = f"sqlite:///{tmp_path / 'datavault.db'}"
    first, second = SqliteDatabase(url), SqliteDatabase(url, slot_seconds=0.05)
    first.create()
    first.share()
    second.share()
    with first.write(), pytest.raises(StoreUnavailableError, match="busy with other changes"), second.write():
        pytest.fail("both write")
    with second.write():
        pass
    first.close()
    second.close()
