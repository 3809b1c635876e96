"""Where a customer lives decides which legal bases hold, so setting it is an act of its own (ADR 0011)."""

import pytest

from tests.support.service import RunningService
from vault.client import DenialReason, NotPermitted

PURPOSE = "personalised-offers"


def test_a_writer_cannot_move_a_customer_to_other_laws(service: RunningService) -> None:
    """The engine may write what was clicked, but not where the customer lives, so consent stays missing."""
    number = service.customer()
    service.client("importer").write_attributes(number, {"given-name": "Ada"}, jurisdictions=["EU"])
    engine = service.client("personalization-engine")
    with pytest.raises(NotPermitted):
        engine.write_attributes(number, {"offer-clicks": {}}, jurisdictions=["US-CA"])
    answer = engine.read_attributes(number, purpose=PURPOSE, attributes=["given-name"])
    assert answer.denied["given-name"].reason is DenialReason.CONSENT_MISSING


def test_a_writer_without_the_act_still_writes(service: RunningService) -> None:
    """Without jurisdictions nothing else is asked than the right to write each attribute."""
    number = service.customer()
    service.client("importer").write_attributes(number, {"given-name": "Ada"}, jurisdictions=["EU"])
    receipt = service.client("personalization-engine").write_attributes(number, {"offer-clicks": {}})
    assert receipt.versions == {"offer-clicks": 1}


def test_the_record_says_what_they_were_and_are(service: RunningService) -> None:
    """An auditor sees every change of the laws that hold for a customer."""
    number = service.customer()
    importer = service.client("importer")
    importer.write_attributes(number, {"given-name": "Ada"}, jurisdictions=["EU"])
    importer.write_attributes(number, {"given-name": "Ada"}, jurisdictions=["US-CA", "EU"])
    records = [
        record.document["detail"]
        for record in service.client("auditor").query_records(customer_number=number, action="write")
    ]
    assert records == [
        {"jurisdictions": "EU"},
        {"jurisdictions": "EU,US-CA", "jurisdictions_before": "EU"},
    ]


def test_a_repeated_request_is_on_record_and_names_the_first(service: RunningService) -> None:
    """Whoever repeats a request sees an answer again, so the log says that they did."""
    number = service.customer()
    importer = service.client("importer")
    first, again = (
        importer.write_attributes(number, {"given-name": "Ada"}, jurisdictions=["EU"], request_id=number)
        for _ in range(2)
    )
    assert again.replayed
    assert again.record_id == first.record_id
    records = list(service.client("auditor").query_records(customer_number=number, action="write"))
    assert [record.document["detail"].get("replay_of") for record in records] == [None, first.record_id]
