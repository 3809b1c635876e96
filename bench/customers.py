"""The customers that the benchmark reads: five attributes each, consented, made up by counting."""

import datetime
from typing import Final

from vault.assembly import Pipelines
from vault.consents import ConsentWrite
from vault.domain.errors import DatavaultError
from vault.domain.types import Caller, ConsentState, ValueType
from vault.domain.values import TypedValue
from vault.writes import AttributeChange, Write

CALLER: Final = "personalization-engine"
PURPOSE: Final = "personalised-offers"
ATTRIBUTES: Final = ("given-name", "email", "income", "customer-segment", "preferred-language")
_WRITER: Final = Caller("importer", "retail", "bench")
_PORTAL: Final = Caller("customer-portal", "retail", "bench")
_PART: Final = 200


def customer_number(index: int) -> str:
    return f"B-{index:07d}"


def load_customers(pipelines: Pipelines, count: int) -> None:
    """Write `count` customers with consent through the pipelines."""
    for start in range(0, count, _PART):
        numbers = range(start, min(count, start + _PART))
        for outcome in pipelines.intake.write([_write(index) for index in numbers]):
            if isinstance(outcome, DatavaultError):
                raise outcome
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    for index in range(count):
        pipelines.rights.record_consent(_PORTAL, _consent(index, int(expires.timestamp() * 1e6)))


def _write(index: int) -> Write:
    changes = tuple(AttributeChange(name, value) for name, value in values_of(index).items())
    return Write(_WRITER, f"bench-{index}", customer_number(index), changes, ("EU",))


def values_of(index: int) -> dict[str, TypedValue]:
    """What a customer has."""
    return {
        "given-name": TypedValue(ValueType.STRING, f"Name{index}"),
        "email": TypedValue(ValueType.STRING, f"customer{index}@example.org"),
        "income": TypedValue(ValueType.DECIMAL, f"{20_000 + index % 60_000}.00"),
        "customer-segment": TypedValue(ValueType.STRING, "affluent"),
        "preferred-language": TypedValue(ValueType.STRING, "en"),
    }


def _consent(index: int, expires_at: int) -> ConsentWrite:
    return ConsentWrite(
        request_id=f"consent-{index}",
        customer_number=customer_number(index),
        purpose=PURPOSE,
        state=ConsentState.GIVEN,
        channel="bench",
        notice="offers",
        notice_version=2,
        language="en",
        jurisdiction="EU",
        expires_at=expires_at,
    )
