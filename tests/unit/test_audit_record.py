"""Records: exact bytes, strict reading, size limit."""

import json

import pytest

from tests.support.audit import BASE, make_record
from vault.audit.record import AttributeEntry, encode, parse
from vault.domain.errors import IntegrityError, InvalidArgumentError, RecordTooLargeError
from vault.domain.limits import LIMITS


def test_record_bytes_are_those_written_down() -> None:
    """The bytes of one record are fixed: keys sorted, no spaces, absent fields left out."""
    assert encode(BASE) == (
        b'{"action":"read","attributes":{"iban":{"act":"read.clear","reason":"not-permitted"},'
        b'"income":{"act":"read.generalise","bases":["consent"],"rule":"offers-income"}},'
        b'"caller":"personalization-engine","consents":["0190a000-0000-7000-8000-000000000001"],'
        b'"id":"00000000-0000-7000-8000-000000000000",'
        b'"identity":"spiffe://bank.example/personalization-engine","outcome":"partial","policy":"'
        + b"ab" * 32
        + b'","purpose":"personalised-offers","require_all":0,"subject":"'
        + b"5f" * 16
        + b'","tenant":"retail","time":1760000000000000,"v":1}'
    )


def test_absent_fields_are_left_out() -> None:
    """A record without optional fields has the required keys alone."""
    record = make_record(1, purpose="", attributes={}, require_all=None, policy="", consents=())
    required = {"v", "id", "time", "tenant", "caller", "identity", "action", "subject", "outcome"}
    assert json.loads(encode(record)).keys() == required


def test_record_over_the_limit_is_refused() -> None:
    """A record of one byte more than LIMITS.record_bytes is refused, one of exactly that size is not."""
    spare = LIMITS.record_bytes - len(encode(make_record(1, request="x")))
    assert len(encode(make_record(1, request="x" * (spare + 1)))) == LIMITS.record_bytes
    with pytest.raises(RecordTooLargeError):
        encode(make_record(1, request="x" * (spare + 2)))


@pytest.mark.parametrize(
    "changes",
    [
        {"request": "\ud800"},
        {"attributes": {"\udfff": AttributeEntry("read.clear")}},
        {"time": 2**63},
        {"detail": {"a": 2**64}},
    ],
)
def test_what_json_cannot_hold_is_refused(changes: dict[str, object]) -> None:
    """Lone surrogates and integers beyond 64 bits are an InvalidArgumentError, never written."""
    with pytest.raises(InvalidArgumentError):
        encode(make_record(1, **changes))


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        encode(BASE) + b" ",
        encode(BASE).replace(b'"v":1', b'"v":2'),
        encode(BASE).replace(b'"v":1', b'"v":1.0'),
        encode(BASE).replace(b'"require_all":0', b'"require_all":false'),
        encode(BASE).replace(b'"require_all":0', b'"require_all":2'),
        encode(BASE).replace(b'"purpose":"personalised-offers"', b'"purpose":""'),
        encode(BASE).replace(b'"purpose":"personalised-offers"', b'"purpose":null'),
        encode(BASE).replace(b'"tenant":"retail",', b'"tenant":"a","tenant":"retail",'),
        encode(BASE).replace(b'"tenant":"retail",', b'"tenant":"retail","tenant2":"x",'),
        encode(BASE).replace(b'"tenant":"retail",', b""),
        encode(BASE).replace(b'"tenant":"retail"', b'"tenant":"r\\u0065tail"'),
        encode(BASE).replace(b'"tenant":"retail"', '"tenant":"rétail"'.encode()),
        encode(BASE).replace(b'"act":"read.clear",', b""),
        encode(BASE).replace(b'["consent"]', b'"consent"'),
        encode(BASE).replace(b'["consent"]', b"[1]"),
        encode(BASE).replace(b'"time":1760000000000000', b'"time":99999999999999999999'),
    ],
)
def test_other_bytes_are_not_a_record(entry: bytes) -> None:
    """Bytes that are not exactly those of a record are refused when read."""
    with pytest.raises(IntegrityError):
        parse(entry)
