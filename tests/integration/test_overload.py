"""More reads than can be answered in time: the surplus is refused at once, however few are waiting, and
nothing else suffers."""

import signal
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import wire
from tests.support.faults import (
    FRAUD,
    FaultySwitch,
    add_customer,
    eventually,
    faulty_service,
    read,
    reads_again,
    serving,
)
from tests.support.service import RunningService
from vault.domain.limits import LIMITS

BURST = 100
SENT = 5
NO_TIME_SECONDS = 1e-6
"""Any read that has to wait for another would wait longer."""


class Slow:
    """A service that knows how long reads take, and has a customer."""

    def __init__(self, service: RunningService, switch: FaultySwitch) -> None:
        self.service = service
        self.switch = switch
        self.number = add_customer(service)
        self._stub = wire.data_stub(service.channel(FRAUD))

    def send(self, count: int) -> list[Any]:
        """Reads that are not waited for."""
        request = wire.read_request(self.number, FRAUD, ["email"])
        return [self._stub.ReadAttributes.future(request, timeout=60.0) for _ in range(count)]

    def overload(self) -> tuple[list[Any], list[wire.Failure]]:
        """While its disk hangs: the calls that were taken, and what the others were told. One is under way
        and one waits behind it, or waits alone."""
        sent = self.send(SENT)
        eventually(lambda: sum(call.done() for call in sent) >= SENT - 2, "the surplus is refused")
        taken = [call for call in sent if not call.done()]
        return taken, [wire.failure_of(call) for call in sent if call not in taken]

    def learn(self) -> None:
        """Have it disclose a large group, after which it knows when to refuse. Nothing is left waiting."""

        def refuses() -> bool:
            ended = [call.exception() for call in self.send(BURST)]
            return any(ended)

        eventually(refuses, "a read is refused")


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    """One service for all tests here: each must leave it serving."""
    running, switch = faulty_service(
        tmp_path_factory.mktemp("slow"), queued_seconds=NO_TIME_SECONDS, append_stuck_seconds=120.0
    )
    with running:
        made = Slow(running, switch)
        made.learn()
        yield made


def answered(call: Any) -> bool:
    return bool(call.result(timeout=60).attributes[0].value.string_value)


def test_reads_that_would_wait_too_long_are_refused_at_once(slow: Slow) -> None:
    """While the disk hangs the surplus is told RESOURCE_EXHAUSTED and when to come again, though far fewer
    wait than may; those that were taken are answered when it goes on."""
    with slow.switch.hung():
        taken, refusals = slow.overload()
    assert {(each.code, each.reason) for each in refusals} == {
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    }
    assert all(each.retry_seconds for each in refusals)
    assert taken
    assert all(answered(call) for call in taken)
    reads_again(slow.service, slow.number)


def test_of_a_burst_on_one_connection_nothing_is_dropped_unseen(slow: Slow) -> None:
    """As many calls as a group's answers bring back at once: each is answered or told when to come again, and
    gRPC lets go of none of them."""
    told = {failure_of_ended(call) for call in slow.send(LIMITS.group_reads)}
    assert told <= {None, ("OVERLOADED", True)}


def failure_of_ended(call: Any) -> tuple[str, bool] | None:
    """The reason of a call that failed, and whether it was told when to come again."""
    if call.exception() is None:
        return None
    failure = wire.failure_of(call)
    return failure.reason, bool(failure.retry_seconds)


def test_a_refused_read_leaves_no_record(slow: Slow) -> None:
    """Only what was disclosed or decided is on record."""
    before = len(slow.service.records())
    with slow.switch.hung():
        taken, _ = slow.overload()
    assert all(answered(call) for call in taken)
    assert len(slow.service.records()) == before + len(taken)


def test_health_answers_while_reads_are_refused(slow: Slow) -> None:
    """On the probe port and on the port of the calls: an overloaded service is no dead one."""
    main = health_pb2_grpc.HealthStub(slow.service.channel(FRAUD))
    with slow.switch.hung():
        taken, _ = slow.overload()
        assert serving(slow.service)
        status = main.Check(health_pb2.HealthCheckRequest(), timeout=20).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    assert all(answered(call) for call in taken)


def test_a_batch_waits_for_room_instead(slow: Slow) -> None:
    """It is never refused for its length: it has a lane of its own, and nobody waits for one answer of it."""
    numbers = [slow.number] * 500
    client = slow.service.client(FRAUD)
    results = list(client.read_many(numbers, purpose=FRAUD, attributes=["email"], timeout=60))
    assert [result.error for result in results] == [None] * len(numbers)


def test_a_service_that_refuses_reads_still_stops(slow: Slow) -> None:
    """SIGTERM while reads wait: they are answered, and it ends as always."""
    with slow.switch.hung():
        taken, _ = slow.overload()
        slow.service.signal(signal.SIGTERM)
    assert all(answered(call) for call in taken)
    slow.service.wait_stopped()
    slow.service.launch()
    assert read(slow.service, slow.number).value("email")
