"""Every outside store keeps each entry once and whole, and finds it again."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from tests.support.audit import ORIGIN, Log, in_threads
from tests.support.object_store import object_store
from vault.audit.outside import OutsideStore, entry_number, outbox_event
from vault.audit.outside_folder import FolderStore
from vault.audit.outside_objects import ObjectStore
from vault.domain.errors import IntegrityError, InvalidArgumentError

CHECKPOINTS, EVENTS = f"{ORIGIN}/checkpoints", f"{ORIGIN}/events"
PATH = f"{CHECKPOINTS}/{7:020d}"


@dataclass(frozen=True)
class Place:
    """Where entries are: `open` gives a store as another process opens it, `plant` puts something there."""

    open: Callable[[], OutsideStore]
    plant: Callable[[str], object]


def folder(path: Path) -> Iterator[Place]:
    def plant(name: str) -> None:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"")

    yield Place(lambda: FolderStore(path), plant)


def memory(_: Path) -> Iterator[Place]:
    objects = MemoryStore()
    yield Place(lambda: ObjectStore(objects), lambda name: objects.put(name, b""))


def local(path: Path) -> Iterator[Place]:
    objects = LocalStore(path, mkdir=True)
    yield Place(lambda: ObjectStore(objects), lambda name: objects.put(name, b""))


def s3(_: Path) -> Iterator[Place]:
    with object_store() as server:
        yield Place(server.store, server.plant)


@pytest.fixture(params=[folder, memory, local, s3], ids=lambda kind: kind.__name__)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield from request.param(tmp_path / "outside")


def test_entry_is_found_by_another_process(place: Place) -> None:
    """What one store put, another one gets, lists and knows as the last."""
    place.open().put(PATH, b"seven")
    store = place.open()
    assert store.get(PATH) == b"seven"
    assert store.entries(CHECKPOINTS) == [PATH]
    assert store.last(CHECKPOINTS) == PATH


def test_nothing_is_found_where_nothing_is(place: Place) -> None:
    """A missing folder or entry is empty, not an error."""
    store = place.open()
    assert (store.get(PATH), store.entries(CHECKPOINTS), store.last(CHECKPOINTS)) == (None, [], None)


def test_put_again_is_the_same_or_an_error(place: Place) -> None:
    """The same content again changes nothing; other content is refused and the first stays."""
    place.open().put(PATH, b"seven")
    store = place.open()
    store.put(PATH, b"seven")
    with pytest.raises(IntegrityError, match="another entry at this place"):
        store.put(PATH, b"eight")
    assert store.get(PATH) == b"seven"
    assert store.entries(CHECKPOINTS) == [PATH]


def test_of_writers_at_once_one_wins(place: Place) -> None:
    """Of writers of different content one stays whole, and every other one is refused."""
    refused: list[bytes] = []

    def put(store: OutsideStore, content: bytes) -> None:
        try:
            store.put(PATH, content)
        except IntegrityError:
            refused.append(content)

    contents = [bytes([letter]) * 5_000 for letter in b"abcd"]
    in_threads(*(partial(put, place.open(), content) for content in contents))
    assert len(refused) == len(contents) - 1
    assert {place.open().get(PATH)} == set(contents) - set(refused)
    assert place.open().entries(CHECKPOINTS) == [PATH]


def test_order_is_by_number_and_strangers_are_not_entries(place: Place) -> None:
    """Entries come in order of number, from a first one on; another name, or a place deeper, is none."""
    store = place.open()
    for number in (10, 9, 100):
        store.put(f"{EVENTS}/{number:020d}.json", b"{}")
    for stranger in ("README", f"{200:020d}.txt", f"{201:020d}x", "3", f"deeper/{202:020d}.json"):
        place.plant(f"{EVENTS}/{stranger}")
    place.plant(f"{EVENTS}-of-another/{300:020d}.json")
    assert [entry_number(path) for path in store.entries(EVENTS)] == [9, 10, 100]
    for first, numbers in ((9, [9, 10, 100]), (10, [10, 100]), (11, [100]), (101, [])):
        assert [entry_number(path) for path in store.entries(EVENTS, first)] == numbers
    assert store.last(EVENTS) == f"{EVENTS}/{100:020d}.json"


def test_entries_of_either_kind_are_numbered_alike(place: Place) -> None:
    """Where a listing begins does not depend on whether the names have an ending."""
    store = place.open()
    for number in (4, 5, 6):
        store.put(f"{CHECKPOINTS}/{number:020d}", b"")
    assert [entry_number(path) for path in store.entries(CHECKPOINTS, 5)] == [5, 6]


def test_the_last_of_many_is_found(place: Place) -> None:
    """More entries than one listing gives, with gaps that grow: all are listed, the last is the last."""
    numbers = [index + index**3 for index in range(1_203)]
    for number in numbers:
        place.plant(f"{CHECKPOINTS}/{number:020d}")
    store = place.open()
    assert [entry_number(path) for path in store.entries(CHECKPOINTS)] == numbers
    assert store.last(CHECKPOINTS) == f"{CHECKPOINTS}/{numbers[-1]:020d}"


def test_logs_whose_origins_begin_alike_are_apart(place: Place) -> None:
    """The successor of a log has folders of its own, and so has a log whose name goes on."""
    store = place.open()
    for origin in (f"{ORIGIN}/r2", f"{ORIGIN}x", f"{ORIGIN}-x"):
        store.put(f"{origin}/checkpoints/{9:020d}", origin.encode())
        assert store.last(f"{origin}/checkpoints") == f"{origin}/checkpoints/{9:020d}"
    assert store.last(CHECKPOINTS) is None


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "a//b", "a/.b", "", "a/b\0", "a\\b", "a/"])
def test_paths_out_of_the_place_are_refused(place: Place, path: str) -> None:
    """No path leads out of the store or to a hidden file."""
    store = place.open()
    for call in (lambda: store.put(path, b"x"), lambda: store.get(path), lambda: store.last(path)):
        with pytest.raises(InvalidArgumentError):
            call()


def test_event_goes_out_when_its_transaction_commits_and_only_then(place: Place, tmp_path: Path) -> None:
    """An event queued in a transaction that is rolled back never reaches the store; a committed one does."""
    log = Log(tmp_path, outside=place.open())
    with contextlib.suppress(ConnectionError), log.database.write() as connection:
        outbox_event(connection, log.id, ORIGIN, 0, {"kind": "tombstone"}, log.clock.now())
        raise ConnectionError
    with log.database.write() as connection:
        outbox_event(connection, log.id, ORIGIN, 1, {"kind": "withdrawn", "a": 1}, log.clock.now())
    log.integrator().run_once()
    assert log.outside.entries(EVENTS) == [f"{EVENTS}/{1:020d}.json"]
    assert log.outside.get(f"{EVENTS}/{1:020d}.json") == b'{"a":1,"kind":"withdrawn"}'
    assert log.sql("SELECT count(*) FROM outbox WHERE delivered_at IS NULL") == [(0,)]
