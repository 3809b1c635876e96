"""SIGTERM under load: no accepted call is lost, no answer is without its record."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support import wire
from tests.support.service import RunningService
from vault.v1 import data_service_pb2 as data

REFUSALS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
"""What a call that came too late gets: it was not accepted, and may be sent to another replica."""


class Load:
    """Threads that call without a pause until they are refused; what they got is kept."""

    def __init__(self, calls: list[Callable[[], Any]]) -> None:
        self.answers: list[Any] = []
        self.failures: list[grpc.RpcError] = []
        self.under_way = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._go, args=(call,)) for call in calls]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        for _ in range(20 * len(self._threads)):
            self.under_way.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def _go(self, call: Callable[[], Any]) -> None:
        while True:
            try:
                self.answers.append(call())
                self.under_way.release()
            except grpc.RpcError as error:
                self.failures.append(error)
                return


def references(answers: list[Any]) -> list[Any]:
    """The record references in answers of reads, writes and batches."""
    found = []
    for answer in answers:
        results = answer if isinstance(answer, list) else [answer]
        found += [each.answer.record if hasattr(each, "answer") else each.record for each in results]
    return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningService]:
    with RunningService.start(tmp_path) as service:
        yield service


def test_no_answer_is_without_its_record(running: RunningService) -> None:
    """Reads, writes and batches from twelve threads, then SIGTERM: exit 0, and every answer is in the log."""
    number = running.customer()
    running.client("importer").write_attributes(number, {"email": "a@b.example"}, jurisdictions=["EU"])
    readers = [wire.data_stub(running.channel("fraud-detection")) for _ in range(2)]
    writer = wire.data_stub(running.channel("importer"))
    asked = wire.read_request(number, "fraud-detection", ["email"])
    chunk = data.BatchReadAttributesRequest(
        customer_numbers=[number] * 40, purpose="fraud-detection", attributes=["email"]
    )

    def read(stub: Any) -> Callable[[], Any]:
        return lambda: stub.ReadAttributes(asked, timeout=30)

    def write() -> Any:
        return writer.WriteAttributes(
            wire.write_request(running.customer(), {"email": "c@d.example"}), timeout=30
        )

    def batch() -> Any:
        responses = readers[0].BatchReadAttributes(iter([chunk]), timeout=30)
        return [result for response in responses for result in response.results]

    calls = [read(readers[0])] * 4 + [read(readers[1])] * 4 + [write] * 2 + [batch] * 2
    with Load(calls) as load:
        running.signal(signal.SIGTERM)
    running.wait_stopped()
    assert {failure.code() for failure in load.failures} <= REFUSALS
    records = {each["id"]: position for position, each in enumerate(running.records())}
    named = references(load.answers)
    assert len(named) > 200
    assert [records.get(each.record_id) for each in named] == [each.position for each in named]


def test_every_write_that_was_answered_is_there_and_none_twice(running: RunningService) -> None:
    """After the stop the database holds one version per acknowledged write, and the log verifies."""
    writer = wire.data_stub(running.channel("importer"))
    acknowledged: list[str] = []

    def write() -> Any:
        number = running.customer()
        answer = writer.WriteAttributes(wire.write_request(number, {"email": "c@d.example"}), timeout=30)
        acknowledged.append(number)
        return answer

    with Load([write] * 4):
        running.signal(signal.SIGTERM)
    running.wait_stopped()
    report = running.verify()
    assert report.ok, report.problems
    assert report.signed_size == report.size
    running.launch()
    reader = running.client("fraud-detection")
    results = reader.read_many(acknowledged, purpose="fraud-detection", attributes=["email"])
    values = [(each.disclosure.value("email"), each.disclosure["email"].version) for each in results]
    assert values == [("c@d.example", 1)] * len(acknowledged)


def test_a_stream_under_way_is_told_to_go_on_elsewhere(running: RunningService) -> None:
    """What it was answered before stands in the log; what comes after SIGTERM is refused as SHUTTING_DOWN."""
    number = running.customer()
    running.client("importer").write_attributes(number, {"email": "a@b.example"}, jurisdictions=["EU"])
    chunk = data.BatchReadAttributesRequest(
        customer_numbers=[number] * 50, purpose="fraud-detection", attributes=["email"]
    )
    release = threading.Event()

    def chunks() -> Iterator[Any]:
        yield chunk
        release.wait()
        yield chunk

    call = wire.data_stub(running.channel("fraud-detection")).BatchReadAttributes(chunks(), timeout=60)
    results = list(next(call).results)
    running.signal(signal.SIGTERM)
    running.wait_until(lambda: any('"stopping"' in line for line in running.log_lines()), "begin to stop")
    release.set()
    failure = wire.refused(lambda: results.extend(each for answer in call for each in answer.results))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert failure.retry_seconds is not None
    running.wait_stopped()
    recorded = [each["id"] for each in running.records()]
    assert [recorded[each.answer.record.position] for each in results] == [
        each.answer.record.record_id for each in results
    ]


def test_a_stopped_service_starts_again_where_it_was(running: RunningService) -> None:
    """Same data, same log, same certificates."""
    number = running.customer()
    running.client("importer").write_attributes(number, {"email": "a@b.example"}, jurisdictions=["EU"])
    size = len(running.records())
    running.stop()
    running.launch()
    answer = running.client("fraud-detection").read_attributes(
        number, purpose="fraud-detection", attributes=["email"]
    )
    assert answer.value("email") == "a@b.example"
    assert answer.position == size


def test_a_second_signal_does_not_hurt(running: RunningService) -> None:
    """Whoever is impatient gets the same clean end."""
    running.signal(signal.SIGTERM)
    running.signal(signal.SIGTERM)
    running.signal(signal.SIGINT)
    running.wait_stopped()
