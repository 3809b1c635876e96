"""`--scrub`: nothing of what was destroyed is left in the database file, its WAL or the outside store."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.erasure import CANARY, Traces, class_traces, erase, files, subject_id, subject_traces
from tests.support.faults import Call
from tests.support.identity import FAKES_ARE_FINE
from tests.support.pipelines import House, open_house
from tests.support.store import database_at
from vault.domain.errors import StoreUnavailableError
from vault.store import scrub
from vault.store.sqlite_database import SqliteDatabase

pytestmark = FAKES_ARE_FINE


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        yield opened


def fill(house: House) -> tuple[Traces, Traces]:
    """A customer with values and consents among others; what leads to them, and to the customer."""
    number = f"{CANARY}-4711"
    for other in range(30):
        house.write(f"other-{other}", {"email": f"{other}@b.example", "given-name": "Eva"})
    house.write(number, {"email": f"{CANARY}@b.example", "offer-clicks": '{"a":1}'})
    house.record(number, "personalised-offers", "given", evidence=CANARY)
    # so that older versions of pages and cells are left about
    for version in range(20):
        house.write(number, {"email": f"{CANARY}{version}@b.example"})
        house.write(f"late-{version}", {"email": f"{CANARY}@b.example"})
    subject = subject_id(house, number)
    path = house.place
    classes = class_traces(path, subject, {"contact", "behaviour"})
    known = subject_traces(path, subject)
    needles = {**known.needles, "ledger": f"{CANARY}".encode()}
    del needles["pseudonym"]  # stands in the log for ever, and points at nobody then
    return classes, Traces(needles)


def litter(house: House) -> None:
    """Free pages with copies of every key and value, as any tool leaves them that does not overwrite what it
    deletes."""
    with contextlib.closing(sqlite3.connect(house.rooms.database.path)) as other:
        other.execute("PRAGMA secure_delete = OFF").fetchall()
        other.execute("CREATE TABLE copies AS SELECT wrapped, dek_id FROM subject_key")
        other.execute("CREATE TABLE more AS SELECT ciphertext FROM attribute_value")
        other.execute("DROP TABLE copies")
        other.execute("DROP TABLE more")


def test_nothing_of_the_erased_is_left_in_file_wal_and_outside_store(house: House) -> None:
    """Wrapped keys, their ids, ciphertexts, the lookup MAC, the encrypted number and the ledger's text are
    found before and nowhere after; the rest is served on."""
    classes, known = fill(house)
    litter(house)
    home = house.rooms.settings.home
    house.verify()
    found = {name for name, _ in classes.found(files(home)) | known.found(files(home))}
    assert found == set(classes.needles) | set(known.needles)

    outcome = erase(house, f"{CANARY}-4711", scrub=True)

    assert (outcome.scrubbed, outcome.scrub_problem, outcome.whole) == (True, "", True)
    house.verify()
    assert classes.found(files(home)) == set()
    assert known.found(files(home)) == set()
    assert house.read("fraud-detection", "other-3", "fraud-detection", ["email"]).value("email") == (
        "3@b.example"
    )
    assert house.verify().problems == []


def test_without_scrub_old_copies_are_left_and_the_receipt_says_where(house: House) -> None:
    """The WAL still has them: the search above can find what is there."""
    classes, _ = fill(house)
    outcome = erase(house, f"{CANARY}-4711")
    assert {place for _, place in classes.found(files(house.rooms.settings.home))}
    assert outcome.receipt is not None
    assert b"write-ahead log" in outcome.receipt.raw


def test_a_reader_that_does_not_end_stops_the_scrub_and_not_the_erasure(house: House) -> None:
    """The problem says so, the customer is erased, and the same request scrubs when the reader is gone."""
    house.write("4711", {"email": f"{CANARY}@b.example"})
    with contextlib.closing(sqlite3.connect(house.rooms.database.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM subject").fetchall()
        house.write("4712", {"email": "b@b.example"})
        stopped = _erase_with(house, 0.2)
        assert not stopped
    again = erase(house, "4711", request_id="scrub-1", scrub=True)
    assert (again.replayed, again.scrubbed) == (True, True)


def _erase_with(house: House, seconds: float) -> bool:
    """Erase 4711 with little time to scrub; whether it was scrubbed."""
    pipeline = house.pipelines.erasure
    database = house.rooms.database
    pipeline._scrub = lambda: database.scrub(seconds)
    try:
        outcome = erase(house, "4711", request_id="scrub-1", scrub=True)
    finally:
        pipeline._scrub = database.scrub
    assert outcome.whole
    assert "a reader kept an older state" in outcome.scrub_problem
    return outcome.scrubbed


def test_a_scrub_that_takes_too_long_is_given_up_and_leaves_the_database_whole(tmp_path: Path) -> None:
    """It is interrupted in the middle, says so, and changes can be made right after."""
    with database_at(tmp_path / "x.db") as database:
        with database.write() as connection:
            connection.exec_driver_sql("CREATE TABLE filler (x BLOB)")
            connection.exec_driver_sql(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
                " INSERT INTO filler SELECT randomblob(1000) FROM n"
            )
        with pytest.raises(StoreUnavailableError, match="was not rewritten"):
            database.scrub(0.02)
        with database.write() as connection:
            ((rows,),) = connection.exec_driver_sql("SELECT count(*) FROM filler").fetchall()
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        assert rows == 20_000


def test_changes_wait_for_a_scrub_and_reads_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file is rewritten a read answers; a change is made when it is done."""
    began, go_on = threading.Event(), threading.Event()
    whole = scrub.scrub

    def slow(driver: sqlite3.Connection, seconds: float) -> None:
        began.set()
        assert go_on.wait(30)
        whole(driver, seconds)

    monkeypatch.setattr(scrub, "scrub", slow)
    with database_at(tmp_path / "x.db") as database:
        scrubbing = Call(database.scrub)
        assert began.wait(30)
        change = Call(lambda: _change(database))
        with database.read() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM subject").fetchall()
        assert not change.ended
        go_on.set()
        scrubbing.result()
        change.result()


def _change(database: SqliteDatabase) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 0")
