"""The service is killed, or told to stop, while many call it."""

import random
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.faults import PATIENCE, happened, read, serving, start_service
from tests.support.faults_load import Traffic, Writing, write_next
from tests.support.service import RunningService
from vault.domain.limits import LIMITS


def indices(service: RunningService) -> list[int]:
    return [index for (index,) in service.sql('SELECT "index" FROM log_entry ORDER BY "index"')]


def assert_recorded(service: RunningService, traffic: Traffic) -> None:
    """Everything that was answered is in a gapless log that verifies."""
    records = service.records()
    assert indices(service) == list(range(len(records)))
    assert traffic.record_ids <= {record["id"] for record in records}
    assert service.verify().problems == []


def stored(service: RunningService, writing: Writing) -> tuple[Any, Any, set[int]]:
    """Both attributes of a customer, and their versions."""
    answer = read(service, writing.number, "email", "income")
    return (
        answer.value("email"),
        answer.value("income"),
        {one.version for one in answer.attributes.values()},
    )


def assert_whole(service: RunningService, writing: Writing) -> None:
    """The acknowledged writes are there; the one under way is wholly there, or wholly not."""
    found = stored(service, writing)
    possible = [writing.acknowledged, writing.acknowledged + 1]
    assert found in [(*writing.values(count).values(), {count}) for count in possible if count]


def assert_once(service: RunningService, writing: Writing) -> None:
    """The write under way, sent again with its request id, happens once however often it is sent."""
    count = writing.acknowledged + 1
    write_next(service, writing)
    writing.record_ids.pop()
    assert write_next(service, writing)
    assert stored(service, writing) == (*writing.values(count).values(), {count})
    (record,) = happened(service, writing.request_id(count))
    assert record["id"] == writing.record_ids[-1]


def test_kill_9_under_load_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """Killed at random points of reads, writes and their commits, again and again on the same home."""
    source = random.Random(3)  # noqa: S311 - a repeatable choice, no secret
    with start_service(tmp_path) as service:
        for _ in range(4):
            traffic = Traffic(service, readers=3, writers=3)
            with traffic.running():
                traffic.wait_for(source.randint(10, 150))
                service.signal(signal.SIGKILL)
                service.process.wait(PATIENCE)
            service.kill()
            assert {failure.code for failure in traffic.failures} <= {grpc.StatusCode.UNAVAILABLE}
            service.launch()
            assert_recorded(service, traffic)
            for writing in traffic.writings:
                assert_whole(service, writing)
                assert_once(service, writing)
            assert serving(service)


@pytest.mark.parametrize("seed", [1, 2])
def test_sigterm_under_load_answers_or_refuses_every_call(tmp_path: Path, seed: int) -> None:
    """It ends with exit code 0, each answer has its record, and what it refused did not happen."""
    source = random.Random(seed)  # noqa: S311 - a repeatable choice, no secret
    with start_service(tmp_path) as service:
        traffic = Traffic(service, readers=4, writers=2)
        with traffic.running():
            traffic.wait_for(source.randint(50, 200))
            service.signal(signal.SIGTERM)
            # not yet service.stop(), which would cancel the calls on the client's side
            assert service.process.wait(LIMITS.drain_seconds) == 0
    # CANCELLED is what gRPC makes of calls that lie unread when a server stops (grpc issue 41785)
    refused = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert {failure.code for failure in traffic.failures} <= refused
    assert_recorded(service, traffic)
    assert sum(record["action"] == "read" for record in service.records()) == len(traffic.read_record_ids)
    for writing in traffic.writings:
        # a call that was taken was answered before the end: there is none whose caller was left in doubt
        assert not happened(service, writing.request_id(writing.acknowledged + 1))
