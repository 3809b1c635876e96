"""Erasure with keys in a real Transit server: evidence, receipt, rotation, and a KMS that goes away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.erasure import class_traces, erase, evidence, subject_id, tables
from tests.support.pipelines import House, open_house
from tests.support.transit_server import provider_on, transit_server
from vault.crypto.dev_server import DevTransit
from vault.crypto.names import RECEIPT
from vault.crypto.receipts import verify_receipt

__all__ = ["transit_server"]


@pytest.fixture
def house(tmp_path: Path, transit_server: DevTransit) -> Iterator[House]:
    with open_house(
        tmp_path,
        keys="transit",
        transit_address=transit_server.address,
        transit_token_file=transit_server.token_file,
        transit_cacert=transit_server.ca_certificate,
    ) as opened:
        yield opened


def test_receipt_and_evidence_come_from_the_kms(house: House, transit_server: DevTransit) -> None:
    """What Transit wrapped is in no table any more, its receipt key signs, also after a rotation, and the
    evidence opens under its own class."""
    house.write("4711", {"email": "ana@b.example", "given-name": "Ana"})
    house.record("4711", "marketing", "refused")
    traces = class_traces(house.place, subject_id(house, "4711"), {"contact"})
    assert any(needle.startswith(b"vault:v1:") for needle in traces.needles.values())
    first = erase(house, "4711", request_id="transit-1")
    assert traces.found(tables(house.place)) == set()
    assert first.receipt is not None
    assert b'"state":"refused"' in evidence(house, first.receipt.id)
    provider_on(transit_server).rotate(RECEIPT)
    again = erase(house, "4711", request_id="transit-1")
    assert first.signature is not None
    assert again.signature is not None
    assert again.signature.public_key != first.signature.public_key
    for signed in (first.signature, again.signature):
        verify_receipt(first.receipt.raw, signed.signature, signed.public_key)
