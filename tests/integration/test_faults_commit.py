"""COMMIT fails and nobody knows whether it happened; the disk fills in the middle; the clock is set back.

In the test's own process, for a driver that fails on demand and a clock that is told.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.faults import FRAUD
from tests.support.faults_policies import write_policies
from tests.support.pipelines import House, open_house
from tests.support.store import database_url
from vault import assembly
from vault.client.results import Disclosure
from vault.client.words import DenialReason
from vault.domain.errors import AuditUnavailableError, DatavaultError, StoreUnavailableError
from vault.store.sqlite_database import SqliteDatabase
from vault.testing import FakeClock

ENGINE = ("personalization-engine", "personalised-offers")
HOUR_SECONDS = 3_600
EMAIL = "ana@mail.example"


class CutDriver(sqlite3.Connection):
    """The connection is lost at the next COMMIT, before or after it happened; the ones after it go well."""

    cut: ClassVar[str] = ""

    def commit(self) -> None:
        cut = type(self).cut if self.in_transaction else ""
        if cut != "before":
            super().commit()
        if cut:
            type(self).cut = ""
            error = sqlite3.OperationalError("cut")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error


@pytest.fixture
def driver() -> type[CutDriver]:
    """A class of its own per test."""
    return type("Cut", (CutDriver,), {})


@pytest.fixture
def house(tmp_path: Path, driver: type[CutDriver]) -> Iterator[House]:
    """The pipelines on a driver that can be cut."""
    with opened(tmp_path) as house:
        database = SqliteDatabase(database_url(house.rooms.database.path), driver=driver)
        try:
            yield on(house, database)
        finally:
            database.close()


@contextlib.contextmanager
def opened(folder: Path, clock: FakeClock | None = None) -> Iterator[House]:
    with open_house(folder, clock, policies=write_policies(folder / "policies")) as house:
        yield house


def on(house: House, database: SqliteDatabase) -> House:
    """The same house over another way to its database."""
    rooms = replace(house.rooms, database=database)
    signers = assembly.log_signers(rooms)
    return House(rooms, assembly.build_pipelines(rooms, assembly.open_logs(rooms, signers), signers))


def actions(house: House) -> list[str]:
    return [record["action"] for record in house.records()]


def assert_log_is_whole(house: House) -> None:
    assert house.verify().problems == []
    ids = [record["id"] for record in house.records()]
    assert len(set(ids)) == len(ids)


# --- an uncertain COMMIT ----------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_read_group_is_recorded_once(house: House, driver: type[CutDriver], moment: str) -> None:
    """Cut before or after its COMMIT happened, a group has one record per read, and each its answer."""
    house.write("4711", {"email": EMAIL})
    ask = house.ask(FRAUD, "4711", FRAUD, ["email"])
    house.read(FRAUD, "4711", FRAUD, ["email"])
    before = len(house.records())
    driver.cut = moment
    answers = house.read_group([ask] * 3)
    assert driver.cut == ""
    records = house.records()
    assert len(records) == before + 3
    for answer in answers:
        assert isinstance(answer, Disclosure)
        assert answer.value("email") == EMAIL
        assert records[answer.position]["id"] == answer.record_id
    assert_log_is_whole(house)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_write_happens_once(house: House, driver: type[CutDriver], moment: str) -> None:
    """Cut before or after its COMMIT happened, a write makes one version and one record."""
    house.write("4711", {"email": EMAIL})
    driver.cut = moment
    written = house.write("4711", {"email": "new@mail.example"}, request_id="once")
    assert driver.cut == ""
    assert dict(written.versions) == {"email": 2}
    assert actions(house) == ["write", "write"]
    assert house.records()[written.position]["id"] == written.record_id
    again = house.write("4711", {"email": "new@mail.example"}, request_id="once")
    assert (again.replayed, again.record_id, again.position) == (True, written.record_id, written.position)
    assert_log_is_whole(house)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_first_write_of_a_customer_happens_once(
    house: House, driver: type[CutDriver], moment: str
) -> None:
    """A new subject with its keys is made once, whenever the connection is cut."""
    driver.cut = moment
    assert house.write("4711", {"email": EMAIL, "income": 1}).subject_created
    assert house.sql("SELECT count(*) FROM subject") == [(1,)]
    assert house.read(FRAUD, "4711", FRAUD, ["email"]).value("email") == EMAIL
    assert actions(house) == ["write", "read"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_consent_event_is_recorded_once(house: House, driver: type[CutDriver], moment: str) -> None:
    """One event in the ledger, one record, and the decision that binds."""
    house.write("4711", {"email": EMAIL})
    house.record("4711", "personalised-offers", "given")
    driver.cut = moment
    outcome = house.record("4711", "personalised-offers", "withdrawn")
    assert outcome.token.seq == 2
    assert house.sql("SELECT count(*) FROM consent_event") == [(2,)]
    assert actions(house) == ["write", "consent.record", "consent.withdraw"]
    denial = house.read(ENGINE[0], "4711", ENGINE[1], ["email"]).denied["email"]
    assert denial.reason is DenialReason.CONSENT_WITHDRAWN
    assert_log_is_whole(house)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_denial_is_recorded_once(house: House, driver: type[CutDriver], moment: str) -> None:
    """The record of a refused write, which changes nothing else, is there once too."""
    driver.cut = moment
    with pytest.raises(DatavaultError):
        house.write("4711", {"email": EMAIL}, caller="auditor")
    assert [record["outcome"] for record in house.records()] == ["denied"]


# --- no room ----------------------------------------------------------------------------------------------


def allow_pages(house: House, pages: int) -> None:
    """As many pages as the database may have; SQLite refuses the next one as it does on a full disk."""
    with house.rooms.database.write() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def fill(house: House) -> str:
    """Write until there is no room; returns the request id that failed."""
    for count in range(10_000):
        request_id = f"fill-{count}"
        try:
            house.write("4711", {"email": f"{count}@{'x' * 200}.example"}, request_id=request_id)
        except (StoreUnavailableError, AuditUnavailableError):
            return request_id
    raise AssertionError("it never filled up")


def read_until_refused(house: House) -> None:
    while True:
        house.read(FRAUD, "4711", FRAUD, ["email"])


def test_a_database_without_room_refuses_and_goes_on_later(house: House) -> None:
    """When no page can be had a read gives nothing, a write changes nothing, and health sees it; with room
    the same write happens, once."""
    house.write("4711", {"email": EMAIL})
    (pages,) = house.sql("PRAGMA page_count")[0]
    allow_pages(house, pages)
    refused = fill(house)
    before = house.records()
    with pytest.raises(AuditUnavailableError):
        read_until_refused(house)
    assert [record for record in house.records() if record["action"] == "write"] == [
        record for record in before if record["action"] == "write"
    ]
    allow_pages(house, 1_000_000)
    answer = house.read(FRAUD, "4711", FRAUD, ["email"])
    assert house.pipelines.recorder.problem() == ""
    count = int(refused.partition("-")[2])
    value = f"{count}@{'x' * 200}.example"
    written = house.write("4711", {"email": value}, request_id=refused)
    assert not written.replayed
    assert dict(written.versions) == {"email": answer["email"].version + 1}
    assert_log_is_whole(house)


# --- the clock --------------------------------------------------------------------------------------------


def test_a_clock_set_back_does_not_change_the_order_of_consent(tmp_path: Path) -> None:
    """A withdrawal recorded an hour "before" the grant that it follows binds, and so does the next grant."""
    clock = FakeClock()
    with opened(tmp_path, clock) as house:
        house.write("4711", {"email": EMAIL})
        house.record("4711", "personalised-offers", "given")
        assert house.read(*asked(house)).value("email") == EMAIL
        clock.advance(-HOUR_SECONDS)
        house.record("4711", "personalised-offers", "withdrawn")
        denied = house.read(*asked(house)).denied["email"]
        assert denied.reason is DenialReason.CONSENT_WITHDRAWN
        clock.advance(HOUR_SECONDS)
        assert house.read(*asked(house)).denied["email"].reason is DenialReason.CONSENT_WITHDRAWN
        clock.advance(-2 * HOUR_SECONDS)
        house.record("4711", "personalised-offers", "given")
        assert house.read(*asked(house)).value("email") == EMAIL
        sequence = house.sql("SELECT seq, recorded_at FROM consent_event ORDER BY seq")
        assert [seq for seq, _ in sequence] == [1, 2, 3]
        assert sequence[0][1] > sequence[1][1] > sequence[2][1]


def test_expiry_is_what_the_clock_says_now(tmp_path: Path) -> None:
    """A grant that has expired holds again when the clock is set back before its end, and not a moment
    longer."""
    clock = FakeClock()
    with opened(tmp_path, clock) as house:
        house.write("4711", {"email": EMAIL})
        end = clock.now() + HOUR_SECONDS * 1_000_000
        house.record("4711", "personalised-offers", "given", expires_at=end)
        seen = []
        for seconds in (HOUR_SECONDS - 1, 1, -1, 1):
            clock.advance(seconds)
            seen.append("email" in house.read(*asked(house)))
        assert seen == [True, False, True, False]


def test_a_clock_set_back_leaves_the_log_in_order(tmp_path: Path) -> None:
    """Positions go on without a gap and record ids stay unique, whatever time the records bear."""
    clock = FakeClock()
    with opened(tmp_path, clock) as house:
        house.write("4711", {"email": EMAIL})
        positions = []
        for step in (HOUR_SECONDS, -HOUR_SECONDS, -HOUR_SECONDS, 2 * HOUR_SECONDS):
            clock.advance(step)
            positions += [house.read(FRAUD, "4711", FRAUD, ["email"]).position for _ in range(2)]
        assert positions == list(range(1, 9))
        assert_log_is_whole(house)


def asked(house: House) -> tuple[str, str, str, list[str]]:
    return ENGINE[0], "4711", ENGINE[1], ["email"]
