"""Damaged rows: whoever they belong to gets an error of their own, and the rest of the group its data."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.pipelines import House, open_house
from tests.support.service import policies_copy
from vault.client.results import Disclosure
from vault.domain.errors import DatavaultError, ErrorReason, IntegrityError, StoreUnavailableError
from vault.store import reader_sqlite
from vault.testing import FakeClock

QUOTA = 3
WHO, WHY = "fraud-detection", "fraud-detection"
SUBJECT = "(SELECT subject FROM subject WHERE audit_pseudonym = ?)"
DAMAGES = {
    "a blob among the jurisdictions": "UPDATE subject SET jurisdictions = x'4555' WHERE subject = {}",
    "a text as the restriction": "UPDATE subject SET restricted_seq = 'no' WHERE subject = {}",
    "a blob as the class of a key": "UPDATE subject_key SET key_class = x'00' WHERE subject = {}",
    "a text as wrapped key": "UPDATE subject_key SET wrapped = 'none' WHERE subject = {}",
    "a text as version": "UPDATE attribute_value SET version = 'first' WHERE subject = {}",
    "a number as ciphertext": "UPDATE attribute_value SET ciphertext = 1 WHERE subject = {}",
    "a blob as categories": "UPDATE consent_state SET categories = x'00' WHERE subject = {}",
    "a text as expiry": "UPDATE consent_state SET expires_at = 'never' WHERE subject = {}",
    "jurisdictions that are not UTF-8": (
        "UPDATE subject SET jurisdictions = CAST(x'ff45' AS TEXT) WHERE subject = {}"
    ),
    "a consent that is not UTF-8": (
        "UPDATE consent_state SET notice = CAST(x'c328' AS TEXT) WHERE subject = {}"
    ),
}
"""SQLite takes any type in any column."""


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    quota = 'description: "Ranks offers in the app and on the web site"\n'
    limited = quota + f"    quotas: {{subjects_per_hour: {{personalised-offers: {QUOTA}}}}}\n"
    policies = policies_copy(
        folder / "policies", {"callers.yaml": lambda text: text.replace(quota, limited, 1)}
    )
    with open_house(folder, clock=clock, policies=policies) as opened:
        yield opened


@pytest.fixture
def numbers(house: House, request: pytest.FixtureRequest) -> list[str]:
    """Five customers with an e-mail address and a consent."""
    found = [f"{request.node.name}-{n}" for n in range(5)]
    house.write_group([house.draft(number, {"email": f"e{n}@b.example"}) for n, number in enumerate(found)])
    for number in found:
        house.record(number, "personalised-offers", "given")
    return found


def told(outcome: Disclosure | DatavaultError) -> str:
    return outcome.reason.value if isinstance(outcome, DatavaultError) else str(outcome.value("email"))


def read(house: House, numbers: list[str]) -> list[str]:
    return [
        told(each) for each in house.read_group([house.ask(WHO, each, WHY, ["email"]) for each in numbers])
    ]


def damage(house: House, number: str, statement: str) -> None:
    house.read(WHO, number, WHY, ["email"])
    pseudonym = house.records()[-1]["subject"]
    with sqlite3.connect(house.rooms.database.path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        assert connection.execute(statement.format(SUBJECT), [pseudonym]).rowcount
    connection.close()


@pytest.mark.parametrize("statement", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_row_is_an_error_of_its_customer_alone(
    house: House, numbers: list[str], statement: str
) -> None:
    """INTEGRITY for that customer, data for the neighbours, and a record of each."""
    damage(house, numbers[2], statement)
    assert read(house, numbers) == [
        ErrorReason.INTEGRITY.value if n == 2 else f"e{n}@b.example" for n in range(5)
    ]
    assert house.records()[-3]["outcome"] == "error"


def test_who_is_not_entitled_does_not_learn_of_the_damage(house: House, numbers: list[str]) -> None:
    """The same answer as for a customer that is whole, or is not there."""
    damage(house, numbers[0], DAMAGES["a text as version"])
    asked = [house.ask("auditor", number, WHY, ["email"]) for number in (numbers[0], numbers[1], "nobody")]
    assert [each.denied["email"].reason for each in house.read_group(asked)] == ["not-permitted"] * 3  # type: ignore[union-attr]


def faulty_load(monkeypatch: pytest.MonkeyPatch, house: House, number: str, fault: Any) -> list[int]:
    """Loading any group with this customer calls `fault`; returns the list of group sizes asked for."""
    mac = house.pipelines.disclosure._tenant_keys.lookup("retail").mac(number)
    fetch, sizes = reader_sqlite.fetch, []

    def faulty(driver: Any, tenant: str, macs: Any, attributes: Any, rotating: bool) -> Any:
        sizes.append(len(macs))
        if mac in macs:
            fault()
        return fetch(driver, tenant, macs, attributes, rotating)

    monkeypatch.setattr(reader_sqlite, "fetch", faulty)
    return sizes


def fail(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("canary"), "INTERNAL"),
        (sqlite3.DatabaseError("canary"), "INTERNAL"),
        (IntegrityError("not whole"), "INTEGRITY"),
    ],
)
def test_a_load_that_fails_is_tried_one_by_one(
    house: House, numbers: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    """Only the customer it is about gets the error; a fault says nothing of what it was."""
    faulty_load(monkeypatch, house, numbers[1], lambda: fail(error))
    assert read(house, numbers) == [reason if n == 1 else f"e{n}@b.example" for n in range(5)]


def test_a_database_that_makes_everyone_wait_is_asked_once(
    house: House, numbers: list[str], monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """A lock that every try waits for must not be waited for by each of a group in turn."""

    def locked() -> None:
        clock.advance(2.0)
        raise StoreUnavailableError("the database is locked")

    sizes = faulty_load(monkeypatch, house, numbers[1], locked)
    assert read(house, numbers) == ["STORE_UNAVAILABLE"] * 5
    assert sizes == [5]


def test_a_quota_holds_for_a_group_that_was_loaded_one_by_one(
    house: House, numbers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone finds the whole quota left: they are counted together."""
    faulty_load(monkeypatch, house, numbers[0], lambda: fail(ZeroDivisionError()))
    asked = [
        house.ask("personalization-engine", number, "personalised-offers", ["email"]) for number in numbers
    ]
    assert [told(each) for each in house.read_group(asked)] == [
        "INTERNAL",
        *["e***@***.example"] * QUOTA,
        "QUOTA_EXCEEDED",
    ]
