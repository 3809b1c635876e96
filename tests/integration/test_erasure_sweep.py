"""What an erasure left goes by itself when its ground has run out; so does evidence past keeping."""

import asyncio
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.erasure import class_traces, erase, set_retention, subject_id, subject_traces, tables
from tests.support.identity import FAKES_ARE_FINE
from tests.support.pipelines import House, open_house
from vault import housekeeping
from vault.domain.errors import NotFoundError
from vault.testing import FakeClock

pytestmark = [FAKES_ARE_FINE, pytest.mark.usefixtures("every_store")]

YEAR = 366 * 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def house(tmp_path: Path, clock: FakeClock) -> Iterator[House]:
    with open_house(tmp_path, clock) as opened:
        yield opened


async def at_once(work: Callable[[], Any]) -> Any:
    return work()


def sweep(house: House) -> None:
    asyncio.run(house.pipelines.sweep.sweep(at_once))


def end(house: House, number: str) -> None:
    """The relationship ends today."""
    days = house.rooms.clock.now() // 86_400_000_000
    set_retention(house, number, ended_on=str(datetime.date(1970, 1, 1) + datetime.timedelta(days=days)))


def test_what_was_left_goes_when_its_ground_runs_out_class_by_class(house: House, clock: FakeClock) -> None:
    """After five years the identity, after ten the accounts, and with the last class the customer; nothing
    before, and nothing of a customer who was never erased."""
    values = {"email": "ana@b.example", "given-name": "Ana", "income": "41000"}
    for number in ("ana", "never-erased"):
        house.write(number, values)
        end(house, number)
    erase(house, "ana")
    subject, path = subject_id(house, "ana"), house.place
    identity = class_traces(path, subject, {"identity"})
    financial = class_traces(path, subject, {"financial"})
    known = subject_traces(path, subject)

    clock.advance(4 * YEAR)
    sweep(house)
    assert identity.found(tables(path))
    clock.advance(YEAR)
    sweep(house)
    assert identity.found(tables(path)) == set()
    assert financial.found(tables(path))
    clock.advance(5 * YEAR)
    sweep(house)
    places = tables(path)
    assert financial.found(places) == set()
    assert known.found(places) == {("pseudonym", "log_entry")}
    actions = [(one["action"], one["caller"], one["detail"]["whole"]) for one in house.records()[-2:]]
    assert actions == [("subject.erase", "housekeeping", 0), ("subject.erase", "housekeeping", 1)]
    assert house.sql("SELECT count(*) FROM subject") == [(1,)]
    before = len(house.records())
    sweep(house)
    assert len(house.records()) == before
    assert house.verify().problems == []


def test_a_customer_who_came_back_keeps_what_is_in_use(house: House, clock: FakeClock) -> None:
    """Only what the erasure had left is destroyed; values written since, in the same class too, stay."""
    house.write("ana", {"given-name": "Ana", "tax-id": "123456789"})
    erase(house, "ana")
    house.write("ana", {"given-name": "Eva"}, jurisdictions=())
    end(house, "ana")
    clock.advance(6 * YEAR)
    sweep(house)
    answer = house.read("fraud-detection", "ana", "fraud-detection", ["given-name", "tax-id"])
    assert answer.value("given-name") == "Eva"
    assert answer.denied["tax-id"].reason.value in ("not-set", "not-permitted")
    assert house.sql("SELECT count(*) FROM subject_key WHERE retained_since > 0") == [(0,)]


def test_a_hold_stops_the_sweep(house: House, clock: FakeClock) -> None:
    """However long ago the ground ran out, nothing goes while the hold is on."""
    house.write("ana", {"given-name": "Ana"})
    erase(house, "ana")
    end(house, "ana")
    set_retention(house, "ana", hold="Case 7")
    clock.advance(20 * YEAR)
    sweep(house)
    assert house.sql("SELECT count(*) FROM subject_key") == [(1,)]
    set_retention(house, "ana", hold="")
    sweep(house)
    with pytest.raises(NotFoundError):
        erase(house, "ana")


def test_what_no_ground_keeps_waits_until_somebody_asks(house: House) -> None:
    """A class without a ground, which a hold had kept, is not swept: a second erasure takes it."""
    house.write("ana", {"email": "ana@b.example"})
    set_retention(house, "ana", hold="Case 7")
    erase(house, "ana")
    set_retention(house, "ana", hold="")
    sweep(house)
    assert house.sql("SELECT count(*) FROM subject_key") == [(1,)]
    assert erase(house, "ana").whole


def test_many_customers_are_swept_page_by_page(house: House, clock: FakeClock) -> None:
    """More than a page holds, some due and some not: each of the due goes once."""
    for number in range(66):
        house.write(f"c{number}", {"given-name": "Ana"})
        erase(house, f"c{number}")
        if number % 2:
            end(house, f"c{number}")
    clock.advance(6 * YEAR)
    sweep(house)
    assert house.sql("SELECT count(*) FROM subject") == [(33,)]


def test_housekeeping_forgets_evidence_past_keeping(house: House, clock: FakeClock) -> None:
    """It is deleted in the hour after its ground ran out, and not before."""
    house.write("ana", {"email": "ana@b.example"})
    house.record("ana", "marketing", "refused")
    erase(house, "ana")
    for years, left in ((5, 1), (1, 0)):
        clock.advance(years * YEAR)
        asyncio.run(housekeeping.forget_old(at_once, house.rooms.database, clock))
        assert house.sql("SELECT count(*) FROM erasure_evidence") == [(left,)]
