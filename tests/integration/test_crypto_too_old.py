"""Reads that meet a wrapped key of a version that was retired between their snapshot and their unwrap."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.support.pipelines import House, disclosed, open_house
from vault.client import DenialReason, Disclosure
from vault.crypto.envelope import DataKey, key_context
from vault.crypto.keyring import Keyring, Request
from vault.crypto.names import class_key
from vault.domain.errors import DatavaultError, KeysUnavailableError
from vault.domain.protocols import UnwrapItem
from vault.domain.types import KeyScope
from vault.reads import Released
from vault.server.worker import DisclosureWorker

NUMBERS = (f"c{number}" for number in itertools.count())
CONTACT = class_key("contact")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened


class Meanwhile:
    """The keyring of a lane, with something that happens before each unwrap."""

    def __init__(self, keyring: Keyring, happens: Callable[[], None]) -> None:
        self._keyring = keyring
        self._happens = happens
        self.unwraps = 0

    def unwrap(self, requests: Sequence[Request]) -> list[DataKey | DatavaultError]:
        self.unwraps += 1
        self._happens()
        return self._keyring.unwrap(requests)


def read(house: House, number: str, happens: Callable[[], None]) -> tuple[Disclosure | DatavaultError, int]:
    """One cold read through the worker, and how often its keys were asked for."""
    keyring = Meanwhile(Keyring(house.rooms.provider, house.rooms.clock, house.rooms.randomness), happens)
    house.pipelines.keyring._cache.clear()

    async def play() -> Any:
        running = DisclosureWorker(house.pipelines.disclosure, keyring, house.rooms.clock)  # type: ignore[arg-type]
        running.start(asyncio.get_running_loop())
        try:
            question = house.ask("fraud-detection", number, "fraud-detection", ["email"])
            return await running.submit([question])[0]
        finally:
            await running.stop()

    outcome = asyncio.run(play())
    if isinstance(outcome, Released):
        return disclosed(outcome), keyring.unwraps
    assert isinstance(outcome, DatavaultError)
    return outcome, keyring.unwraps


def rewrap(house: House, rows: "Sequence[Row]") -> None:
    """As `keys rewrap` does, of the rows that there are."""
    provider = house.rooms.provider
    provider.rotate(CONTACT)
    items = [
        UnwrapItem(old, key_context(KeyScope(tenant, subject, "contact"))) for tenant, subject, old in rows
    ]
    for (_, _, old), new in zip(rows, provider.rewrap(CONTACT, items), strict=True):
        house.sql("UPDATE subject_key SET wrapped = ? WHERE wrapped = ?", new, old)
    provider.retire(CONTACT, provider.info(CONTACT).latest_version)


Row = tuple[str, bytes, bytes]


def contact_rows(house: House) -> list[Row]:
    return house.sql("SELECT tenant, subject, wrapped FROM subject_key WHERE key_class = 'contact'")


@pytest.fixture
def customer(house: House) -> tuple[str, Callable[[], list[Row]]]:
    """A new customer's number, and a way to look at the row of its key."""
    before = {subject for _, subject, _ in contact_rows(house)}
    house.write(number := next(NUMBERS), {"email": "a@bank.example"})
    return number, lambda: [row for row in contact_rows(house) if row[1] not in before]


def test_a_row_that_was_rewrapped_is_read_again(
    house: House, customer: tuple[str, Callable[[], list[Row]]]
) -> None:
    """The read meets the old version once, then finds the new row and is answered."""
    number, rows = customer
    pending = rows()

    def happens() -> None:
        if pending:
            rewrap(house, pending)
            pending.clear()

    answer, unwraps = read(house, number, happens)
    assert isinstance(answer, Disclosure)
    assert answer.value("email") == "a@bank.example"
    assert unwraps == 2


def test_a_row_that_stays_too_old_is_denied(
    house: House, customer: tuple[str, Callable[[], list[Row]]]
) -> None:
    """The read ends with a reason after its row was read once more, and asks for no key twice."""
    number, _ = customer
    provider = house.rooms.provider
    provider.retire(CONTACT, provider.rotate(CONTACT))
    answer, unwraps = read(house, number, lambda: None)
    assert isinstance(answer, Disclosure)
    assert answer.denied["email"].reason is DenialReason.KEY_UNAVAILABLE
    assert unwraps == 1


def test_a_row_that_changes_every_time_ends_the_read(
    house: House, customer: tuple[str, Callable[[], list[Row]]]
) -> None:
    """A read is tried so often and no more; then its caller may come again."""
    number, rows = customer
    answer, unwraps = read(house, number, lambda: rewrap(house, rows()))
    assert isinstance(answer, KeysUnavailableError)
    assert answer.retry_after_seconds
    assert unwraps == 3
