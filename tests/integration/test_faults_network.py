"""The connection is cut after the service took a change and before its answer came."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.faults import (
    FRAUD,
    PATIENCE,
    Call,
    add_customer,
    eventually,
    happened,
    read,
    start_service,
)
from tests.support.faults_proxy import Proxy, proxy_to
from tests.support.service import RunningService
from vault.client import Client, RetryPolicy, WriteItem


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with start_service(tmp_path_factory.mktemp("network")) as running:
        yield running


@pytest.fixture
def proxy(service: RunningService) -> Iterator[Proxy]:
    with proxy_to(service.addresses["main"]) as between:
        yield between


def through(service: RunningService, proxy: Proxy, caller: str, attempts: int = 4) -> Client:
    """A client that reaches the service by way of the proxy, and tries again."""
    connection = replace(service.connection(caller), address=f"localhost:{proxy.port}")
    return Client(connection, timeout=PATIENCE, retry=RetryPolicy(attempts=attempts, first_seconds=0.01))


def test_a_retried_write_after_a_cut_connection_happens_once(service: RunningService, proxy: Proxy) -> None:
    """The write is committed, its answer lost: the client's own retry gets the first answer again."""
    number = add_customer(service)
    with through(service, proxy, "importer") as client:
        client.write_attributes(number, {"income": 1}, request_id="cut-0")
        proxy.lose_answers()
        call = Call(lambda: client.write_attributes(number, {"email": "b@mail.example"}, request_id="cut-1"))
        eventually(lambda: len(happened(service, "cut-1")) == 1, "the write is committed")
        assert not call.ended
        proxy.cut()
        receipt = call.result()
    assert proxy.connections >= 2
    assert receipt.replayed
    assert receipt.versions == {"email": 2}
    (record,) = happened(service, "cut-1")
    assert (receipt.record_id, receipt.position) == (record["id"], service.records().index(record))
    assert read(service, number)["email"].version == 2


def test_a_retried_consent_after_a_cut_connection_happens_once(service: RunningService, proxy: Proxy) -> None:
    """The same for a withdrawal: one event in the ledger, and the first answer again."""
    number = add_customer(service)
    with through(service, proxy, "customer-portal") as client:
        client.withdraw_consent(number, purpose="marketing", channel="app", request_id="cut-2")
        proxy.lose_answers()
        call = Call(
            lambda: client.withdraw_consent(
                number, purpose="personalised-offers", channel="app", request_id="cut-3"
            )
        )
        eventually(lambda: len(happened(service, "cut-3")) == 1, "the withdrawal is committed")
        proxy.cut()
        receipt = call.result()
    assert receipt.replayed
    events = [event for record in happened(service, "cut-3") for event in record["consents"]]
    assert events == [receipt.event_id]


def test_a_read_whose_answer_was_lost_stays_on_record(service: RunningService, proxy: Proxy) -> None:
    """Each attempt of a retried read is a read of its own: what left the process is in the log."""
    number = add_customer(service)
    with through(service, proxy, FRAUD) as client:
        client.read_attributes(number, purpose=FRAUD, attributes=["email"])
        proxy.lose_answers()
        call = Call(
            lambda: client.read_attributes(number, purpose=FRAUD, attributes=["email"], request_id="cut-4")
        )
        eventually(lambda: len(happened(service, "cut-4")) == 1, "the read is on record")
        proxy.cut()
        answer = call.result()
    ids = [record["id"] for record in happened(service, "cut-4")]
    assert len(ids) == 2
    assert answer.record_id == ids[-1]


def test_a_batch_of_writes_resumes_after_a_cut_connection(service: RunningService, proxy: Proxy) -> None:
    """Items whose results were lost are sent again, and each is written once."""
    numbers = [service.customer() for _ in range(60)]
    items = [
        WriteItem(
            number, {"email": f"{number}@mail.example"}, jurisdictions=("EU",), request_id=f"batch.{number}"
        )
        for number in numbers
    ]
    last = f"batch.{numbers[19]}"

    def lose_then_send() -> Iterator[WriteItem]:
        yield from items[:20]
        proxy.lose_answers()
        yield from items[20:]

    with through(service, proxy, "importer") as client:
        call = Call(lambda: list(client.write_many(lose_then_send(), chunk=20)))
        eventually(lambda: len(happened(service, last)) == 1, "the first chunk is committed")
        eventually(
            lambda: len(happened(service, f"batch.{numbers[39]}")) == 1 or call.ended,
            "the second chunk is committed",
        )
        proxy.cut()
        results = call.result()
    assert [result.error for result in results] == [None] * len(items)
    assert any(result.receipt.replayed for result in results)
    for item in items:
        assert len(happened(service, str(item.request_id))) == 1
