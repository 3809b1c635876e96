"""AuditService: who read what, when and why; the caller's tenant only; every look is itself on record."""

import datetime
from typing import Any

from tests.e2e.test_reading import customer
from tests.support import wire
from tests.support.service import ORIGIN, RunningService
from vault.audit.checkpoint import parse_and_verify, vkey
from vault.crypto.names import LOG
from vault.v1 import audit_service_pb2 as audit


def some_activity(service: RunningService) -> str:
    """A customer that was written once, read twice and refused once."""
    number = customer(service)
    fraud = service.client("fraud-detection")
    fraud.read_attributes(number, purpose="fraud-detection", attributes=["email"])
    fraud.read_attributes(number, purpose="fraud-detection", attributes=["email", "income"])
    service.client("auditor").read_attributes(number, purpose="fraud-detection", attributes=["email"])
    return number


def query(service: RunningService, number: str, **filters: Any) -> list[tuple[str, str]]:
    """(caller, outcome) of the records of a customer, by the auditor."""
    found = service.client("auditor").query_records(customer_number=number, **filters)
    return [(each.document["caller"], each.document["outcome"]) for each in found]


EVERYTHING = [
    ("importer", "authorised"),
    ("fraud-detection", "authorised"),
    ("fraud-detection", "partial"),
    ("auditor", "denied"),
]


def test_a_customers_records_are_found_by_customer_number(service: RunningService) -> None:
    """In the order of the log, through the pseudonym: the records themselves hold no number."""
    number = some_activity(service)
    assert query(service, number) == EVERYTHING
    assert all(number not in str(record) for record in service.records())


def test_each_filter_keeps_what_matches_it(service: RunningService) -> None:
    """Caller, purpose, attribute, outcome and action, alone and together."""
    number = some_activity(service)
    assert query(service, number, caller="fraud-detection", action="read") == EVERYTHING[1:3]
    assert query(service, number, outcome="denied", action="read") == EVERYTHING[3:]
    assert query(service, number, action="write") == EVERYTHING[:1]
    assert query(service, number, attribute="email", action="read") == EVERYTHING[1:]
    assert query(service, number, attribute="income", outcome="partial") == EVERYTHING[2:3]
    assert query(service, number, purpose="fraud-detection", action="read") == EVERYTHING[1:]
    assert query(service, number, purpose="personalised-offers") == []
    assert query(service, number, caller="fraud-detection", outcome="denied", action="read") == []


def test_newest_first_is_the_other_order(service: RunningService) -> None:
    """Pages go backwards."""
    number = some_activity(service)
    assert query(service, number, newest_first=True, action="read") == EVERYTHING[:0:-1]


def test_a_period_is_from_its_start_until_before_its_end(service: RunningService) -> None:
    """A record is in the period that begins with it, and not in the one that ends with it."""
    number = some_activity(service)
    records = list(service.client("auditor").query_records(customer_number=number, action="read"))
    times = [each.document["time"] for each in records]
    middle = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=times[1])
    assert query(service, number, start_time=middle, action="read") == EVERYTHING[2:]
    assert query(service, number, end_time=middle, action="read") == EVERYTHING[1:2]


def test_pages_show_each_record_once_while_records_come_in(service: RunningService) -> None:
    """Whatever is appended between two pages, and in both directions."""
    number = some_activity(service)
    stub = wire.audit_stub(service.channel("auditor"))
    for newest_first in (False, True):
        positions: list[int] = []
        token = ""
        while True:
            request = audit.QueryRecordsRequest(
                customer_number=number,
                action="read",
                page_size=1,
                page_token=token,
                newest_first=newest_first,
            )
            page = stub.QueryRecords(request, timeout=20)
            assert len(page.records) <= 1
            positions += [each.position for each in page.records]
            token = page.next_page_token
            if not token:
                break
        assert positions == sorted(set(positions), reverse=newest_first)
        assert len(positions) == 3


def test_entries_are_the_exact_bytes_of_the_log(service: RunningService) -> None:
    """What the auditor gets is what the Merkle tree was built over."""
    number = some_activity(service)
    for each in service.client("auditor").query_records(customer_number=number):
        ((entry,),) = service.sql('SELECT entry FROM log_entry WHERE log = 1 AND "index" = ?', each.position)
        assert each.entry == entry


def test_another_tenant_sees_nothing_of_this_one(service: RunningService) -> None:
    """Neither by customer number nor by any other filter."""
    number = some_activity(service)
    other = service.client("other-bank-auditor")
    assert list(other.query_records(customer_number=number)) == []
    assert {each.document["tenant"] for each in other.query_records()} <= {"private"}


def test_each_tenant_sees_its_own(service: RunningService) -> None:
    """The same number in two tenants is two customers with two histories."""
    number = some_activity(service)
    service.client("other-bank-importer").write_attributes(
        number, {"email": "x@y.example"}, jurisdictions=["GB"]
    )
    found = service.client("other-bank-auditor").query_records(customer_number=number)
    assert [each.document["caller"] for each in found] == ["other-bank-importer"]
    assert query(service, number) == EVERYTHING


def test_a_query_is_itself_on_record(service: RunningService) -> None:
    """With the pseudonym of the customer it was about."""
    number = some_activity(service)
    stub = wire.audit_stub(service.channel("auditor"))
    answer = stub.QueryRecords(audit.QueryRecordsRequest(customer_number=number), timeout=20)
    record = service.records()[answer.record.position]
    assert (record["action"], record["caller"]) == ("audit.read", "auditor")
    found = [each for each in service.records() if each["id"] == answer.record.record_id]
    assert found == [record]
    pseudonyms = {each.entry for each in answer.records}
    assert all(record["subject"].encode() in entry for entry in pseudonyms)


def test_a_query_about_an_unknown_customer_finds_nothing_and_is_on_record(service: RunningService) -> None:
    """The record says that somebody asked."""
    stub = wire.audit_stub(service.channel("auditor"))
    answer = stub.QueryRecords(audit.QueryRecordsRequest(customer_number="no-such-customer"), timeout=20)
    assert not answer.records
    assert service.records()[answer.record.position]["subject"] == "unknown"


def test_a_checkpoint_verifies_with_the_public_key_alone(service: RunningService) -> None:
    """Signed by the log key, for this origin, over no more records than there are."""
    customer(service)
    shown = None

    def signed() -> bool:
        nonlocal shown
        shown = service.client("auditor").get_checkpoint()
        return bool(shown.checkpoint)

    service.wait_until(signed, "sign a checkpoint")
    assert shown is not None
    verified = parse_and_verify(shown.checkpoint, shown.verifier_key)
    assert (verified.origin, shown.verifier_key) == (
        ORIGIN,
        vkey(ORIGIN, service.key_provider().public_key(LOG).raw),
    )
    assert 0 < verified.size <= shown.size
    assert shown.size <= shown.position


def test_the_log_of_all_that_was_done_verifies(service: RunningService) -> None:
    """While the service runs, from beside it."""
    some_activity(service)
    report = service.verify()
    assert report.ok, report.problems
