"""The folder store puts each entry once, whole, and inside its folder."""

import contextlib
import os
from pathlib import Path

import pytest

from tests.support.audit import ORIGIN, Log, in_threads
from vault.audit.outside import FolderStore, entry_number, outbox_event
from vault.domain.errors import IntegrityError, InvalidArgumentError, StoreUnavailableError

PATH = f"{ORIGIN}/checkpoints/{7:020d}"


def test_entry_is_stored_under_its_path(tmp_path: Path) -> None:
    """An entry is one file, found by get, entries and last."""
    store = FolderStore(tmp_path / "outside")
    store.put(PATH, b"seven")
    assert (tmp_path / "outside" / PATH).read_bytes() == b"seven"
    assert store.get(PATH) == b"seven"
    assert store.entries(f"{ORIGIN}/checkpoints") == [PATH]
    assert store.last(f"{ORIGIN}/checkpoints") == PATH


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    """A missing folder or entry is empty, not an error."""
    store = FolderStore(tmp_path / "none")
    assert (store.get(PATH), store.entries(ORIGIN), store.last(ORIGIN)) == (None, [], None)


def test_put_again_is_the_same_or_an_error(tmp_path: Path) -> None:
    """The same content again changes nothing; other content is refused and the first stays."""
    store = FolderStore(tmp_path)
    store.put(PATH, b"seven")
    store.put(PATH, b"seven")
    with pytest.raises(IntegrityError):
        store.put(PATH, b"eight")
    assert store.get(PATH) == b"seven"


def test_of_writers_at_once_one_wins(tmp_path: Path) -> None:
    """Two writers of different content: one stays whole, the other is refused."""
    refused: list[bytes] = []

    def put(content: bytes) -> None:
        try:
            FolderStore(tmp_path).put(PATH, content)
        except IntegrityError:
            refused.append(content)

    contents = [b"a" * 5_000, b"b" * 5_000]
    in_threads(*(lambda content=content: put(content) for content in contents))
    assert len(refused) == 1
    assert FolderStore(tmp_path).get(PATH) in set(contents) - set(refused)
    assert os.listdir((tmp_path / PATH).parent) == [Path(PATH).name]


def test_entry_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer's entry that appears just before ours is linked stays, and ours is refused."""
    target = tmp_path / PATH
    target.parent.mkdir(parents=True)
    others = [b"first"]
    monkeypatch.setattr(
        "vault.audit.outside.os.fsync", lambda _: target.write_bytes(others.pop()) if others else None
    )
    with pytest.raises(IntegrityError):
        FolderStore(tmp_path).put(PATH, b"second")
    assert target.read_bytes() == b"first"


def test_order_is_by_number_and_strangers_are_not_entries(tmp_path: Path) -> None:
    """Entries come in order of number, from a first one on; temporary and foreign files are left out."""
    store = FolderStore(tmp_path)
    for number in (10, 9, 100):
        store.put(f"{ORIGIN}/events/{number:020d}.json", b"{}")
    (tmp_path / ORIGIN / "events" / ".tmpabc").write_bytes(b"half")
    (tmp_path / ORIGIN / "events" / "README").write_bytes(b"")
    numbers = [entry_number(path) for path in store.entries(f"{ORIGIN}/events", 10)]
    assert numbers == [10, 100]
    assert entry_number(store.last(f"{ORIGIN}/events") or "") == 100


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "a//b", "a/.b", "", "a/b\0", "a\\b", "a/"])
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    """No path leads out of the folder or to a hidden file."""
    with pytest.raises(InvalidArgumentError):
        FolderStore(tmp_path / "outside").put(path, b"x")


def test_unwritable_folder_is_store_unavailable(tmp_path: Path) -> None:
    """Where the folder cannot be made or written, the error says so and shows no path."""
    (tmp_path / "outside").write_bytes(b"a file, not a folder")
    store = FolderStore(tmp_path / "outside")
    for call in (lambda: store.put(PATH, b"x"), lambda: store.get(PATH), lambda: store.entries(ORIGIN)):
        with pytest.raises(StoreUnavailableError) as caught:
            call()
        assert str(tmp_path) not in str(caught.value)


def test_event_goes_out_when_its_transaction_commits_and_only_then(tmp_path: Path) -> None:
    """An event queued in a transaction that is rolled back never reaches the store; a committed one does."""
    log = Log(tmp_path)
    with contextlib.suppress(ConnectionError), log.database.write() as connection:
        outbox_event(connection, log.id, ORIGIN, 0, {"kind": "tombstone"}, log.clock.now())
        raise ConnectionError
    with log.database.write() as connection:
        outbox_event(connection, log.id, ORIGIN, 1, {"kind": "withdrawn", "a": 1}, log.clock.now())
    log.integrator().run_once()
    assert log.outside.entries(f"{ORIGIN}/events") == [f"{ORIGIN}/events/{1:020d}.json"]
    assert log.outside.get(f"{ORIGIN}/events/{1:020d}.json") == b'{"a":1,"kind":"withdrawn"}'
    assert log.sql("SELECT count(*) FROM outbox WHERE delivered_at IS NULL") == [(0,)]


def test_event_that_is_not_json_is_refused(tmp_path: Path) -> None:
    """A document JSON cannot hold is the caller's error, before anything is stored."""
    log = Log(tmp_path)
    with pytest.raises(InvalidArgumentError), log.database.write() as connection:
        outbox_event(connection, log.id, ORIGIN, 0, {"a": b"bytes"}, 0)
