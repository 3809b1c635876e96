"""The disk hangs, the queues fill, callers give up: no data, quick refusals, and back to work by itself."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.support import wire
from tests.support.faults import (
    FRAUD,
    Call,
    FaultySwitch,
    add_customer,
    eventually,
    faulty_service,
    gauge,
    happened,
    read,
    reads_again,
    refused_read,
    serving,
)
from tests.support.service import RunningService

Faulty = tuple[RunningService, FaultySwitch]
QUEUED = 8
STUCK_SECONDS = 1.0


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """One service with small limits for all tests here: each must leave it serving."""
    running, switch = faulty_service(
        tmp_path_factory.mktemp("stuck"),
        append_stuck_seconds=STUCK_SECONDS,
        queued_reads=QUEUED,
        queued_changes=QUEUED,
    )
    with running:
        yield running, switch


class Calls:
    """Reads that are sent and not waited for."""

    def __init__(self, service: RunningService, number: str) -> None:
        self._stub = wire.data_stub(service.channel(FRAUD))
        self._number = number

    def send(self, request_id: str, timeout: float = 30.0) -> Any:
        request = wire.read_request(self._number, FRAUD, ["email"], request_id=request_id)
        return self._stub.ReadAttributes.future(request, timeout=timeout)


def recorded(service: RunningService, request_id: str) -> int:
    return len(happened(service, request_id))


def becomes_stuck(service: RunningService) -> None:
    """Wait until the service itself has noticed."""
    eventually(lambda: not serving(service), "health says NOT_SERVING")


def test_a_hung_append_releases_nothing_and_is_told(faulty: Faulty) -> None:
    """While COMMIT hangs no read is answered, health says NOT_SERVING, and new reads are refused at once;
    when the disk goes on, the read that waited is answered, with its record."""
    service, switch = faulty
    number = add_customer(service)
    with switch.hung():
        waiting = Call(lambda: read(service, number, timeout=40))
        becomes_stuck(service)
        refused = refused_read(service, number)
        assert not waiting.ended
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE")
        assert refused.retry_seconds is not None
        assert not serving(service)
    answer = waiting.result()
    assert answer.value("email") == f"{number}@mail.example"
    assert service.records()[answer.position]["id"] == answer.record_id
    reads_again(service, number)


def test_a_waiting_call_ends_at_its_deadline(faulty: Faulty) -> None:
    """A read in the hung group gives up when its caller said; its record stays, and the next read goes on."""
    service, switch = faulty
    number = add_customer(service)
    with switch.hung():
        call = Calls(service, number).send("deadline.1", timeout=0.5)
        assert call.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
        becomes_stuck(service)
    reads_again(service, number)
    assert recorded(service, "deadline.1") == 1


def test_writes_wait_no_longer_than_their_deadline(faulty: Faulty) -> None:
    """A write that hangs in COMMIT is not acknowledged; sent again with its request id it happens once."""
    service, switch = faulty
    number = add_customer(service)
    stub = wire.data_stub(service.channel("importer"))
    request = wire.write_request(number, {"email": "late@mail.example"}, request_id="late.1")
    with switch.hung():
        failure = wire.refused(lambda: stub.WriteAttributes(request, timeout=0.5))
        assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
    answer = stub.WriteAttributes(request, timeout=20)
    assert answer.replayed
    assert [version.version for version in answer.versions] == [2]
    assert recorded(service, "late.1") == 1


def test_a_cancelled_call_of_a_running_group_stays_on_record(faulty: Faulty) -> None:
    """A caller that goes away while its group is being recorded has a record, and nobody else is harmed."""
    service, switch = faulty
    number = add_customer(service)
    calls = Calls(service, number)
    eventually(lambda: gauge(service, "group_seconds") == 0, "the gauge forgot the group of another test")
    with switch.hung():
        gone = calls.send("gone.1")
        eventually(lambda: gauge(service, "group_seconds") > 0, "its group is under way")
        gone.cancel()
        eventually(lambda: gauge(service, "queued_reads") == 0, "the service knows that it went")
    reads_again(service, number)
    assert recorded(service, "gone.1") == 1


def test_a_call_cancelled_before_its_group_leaves_no_trace(faulty: Faulty) -> None:
    """Reads queue behind a hung group and one is cancelled: it is neither disclosed nor recorded, and the
    others are answered."""
    service, switch = faulty
    number = add_customer(service)
    calls = Calls(service, number)
    eventually(lambda: gauge(service, "group_seconds") == 0, "the gauge forgot the group of another test")
    with switch.hung():
        leading = calls.send("leading.1")
        eventually(lambda: gauge(service, "group_seconds") > 0, "its group is under way")
        queued = [calls.send(f"queued.{index}") for index in range(4)]
        eventually(lambda: gauge(service, "queued_reads") == 5, "all five are there")
        queued[2].cancel()
        eventually(lambda: gauge(service, "queued_reads") == 4, "the service knows that one went")
    for call in (leading, *queued[:2], queued[3]):
        assert call.result(timeout=30).attributes[0].value.string_value == f"{number}@mail.example"
    reads_again(service, number)
    assert recorded(service, "leading.1") == 1
    assert [recorded(service, f"queued.{index}") for index in range(4)] == [1, 1, 0, 1]


def test_a_full_queue_of_reads_is_refused_at_once(faulty: Faulty) -> None:
    """More reads than may wait are refused with RESOURCE_EXHAUSTED and when to come again; health answers;
    those that waited are all answered."""
    service, switch = faulty
    number = add_customer(service)
    calls = Calls(service, number)
    with switch.hung():
        sent = [calls.send(f"full.{index}") for index in range(3 * QUEUED)]
        eventually(lambda: sum(call.done() for call in sent) >= 2 * QUEUED, "the surplus is refused")
        serving(service)
    failures = [wire.failure_of(call) for call in sent if call.exception() is not None]
    assert {failure.code for failure in failures} <= {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    }
    overloaded = [failure for failure in failures if failure.reason == "OVERLOADED"]
    assert overloaded
    assert all(failure.retry_seconds for failure in overloaded)
    assert len(sent) - len(failures) == QUEUED
    reads_again(service, number)
    assert sum(recorded(service, f"full.{index}") for index in range(len(sent))) == QUEUED


def test_a_full_queue_of_changes_is_refused_at_once(faulty: Faulty) -> None:
    """The same for writes: the surplus is refused and not written, the others are."""
    service, switch = faulty
    number = add_customer(service)
    stub = wire.data_stub(service.channel("importer"))
    requests = [
        wire.write_request(number, {"income": index}, request_id=f"many.{index}")
        for index in range(3 * QUEUED)
    ]
    with switch.hung():
        sent = [stub.WriteAttributes.future(request, timeout=30) for request in requests]
        eventually(lambda: sum(call.done() for call in sent) == 2 * QUEUED, "the surplus is refused")
        serving(service)
    failures = [wire.failure_of(call) for call in sent if call.exception() is not None]
    assert {(failure.code, failure.reason) for failure in failures} == {
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    }
    assert all(failure.retry_seconds for failure in failures)
    assert read(service, number, "income")["income"].version == 1 + QUEUED
    assert sum(recorded(service, f"many.{index}") for index in range(len(sent))) == QUEUED


def test_nothing_is_lost_by_all_this(faulty: Faulty) -> None:
    """After all of this the log is gapless and verifies."""
    assert faulty[0].verify().problems == []
