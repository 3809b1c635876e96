"""What is of the folder alone: tests/conformance/test_outside_store.py has what holds of every store."""

import os
from pathlib import Path

import pytest

from tests.support.audit import ORIGIN, Log, in_threads
from vault.audit.outside import outbox_event
from vault.audit.outside_folder import FolderStore
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
        "vault.audit.outside_folder.os.fsync", lambda _: target.write_bytes(others.pop()) if others else None
    )
    with pytest.raises(IntegrityError):
        FolderStore(tmp_path).put(PATH, b"second")
    assert target.read_bytes() == b"first"


def test_unwritable_folder_is_store_unavailable(tmp_path: Path) -> None:
    """Where the folder cannot be made or written, the error says so and shows no path."""
    (tmp_path / "outside").write_bytes(b"a file, not a folder")
    store = FolderStore(tmp_path / "outside")
    for call in (lambda: store.put(PATH, b"x"), lambda: store.get(PATH), lambda: store.entries(ORIGIN)):
        with pytest.raises(StoreUnavailableError) as caught:
            call()
        assert str(tmp_path) not in str(caught.value)


def test_event_that_is_not_json_is_refused(tmp_path: Path) -> None:
    """A document JSON cannot hold is the caller's error, before anything is stored."""
    log = Log(tmp_path)
    with pytest.raises(InvalidArgumentError), log.database.write() as connection:
        outbox_event(connection, log.id, ORIGIN, 0, {"a": b"bytes"}, 0)
