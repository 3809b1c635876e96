"""What a read shows of itself: not whose it is, and no value."""

import json
from typing import Any

import pytest

from vault.disclosing.item import Opened
from vault.domain.types import Caller
from vault.reads import Attempt, Read, Released

CANARY = "CUSTOMER-4711-canary"
READ = Read(Caller("engine", "retail", "spiffe://bank.example/engine"), CANARY, "offers", ("email",))


@pytest.mark.parametrize(
    "shown",
    [
        READ,
        Attempt(READ),
        Released(CANARY.encode(), "record-1", 7, "authorised"),
        Opened([CANARY.encode()], {}, ()),
    ],
    ids=lambda each: type(each).__name__,
)
def test_it_shows_neither_customer_nor_value(shown: Any) -> None:
    """In text, and in JSON as the log renders what it does not know."""
    assert CANARY not in repr(shown)
    assert CANARY not in f"{shown!s}"
    assert CANARY not in json.dumps({"event": shown}, default=repr)
