"""The disk is full: nothing is half done, health says so, and it goes on once there is room."""

from collections.abc import Iterator

import grpc
import pytest

from tests.support.faults import (
    add_customer,
    eventually,
    full_disk,
    reads_again,
    refused_read,
    refused_write,
    serving,
    start_service,
    write,
)
from tests.support.service import RunningService


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One service for all tests here: each must leave it serving."""
    with start_service(tmp_path_factory.mktemp("disk")) as running:
        yield running


def test_a_full_disk_releases_nothing_and_changes_nothing(service: RunningService) -> None:
    """Reads fail with AUDIT_UNAVAILABLE and writes with STORE_UNAVAILABLE, whole; then both go on."""
    number = add_customer(service)
    before, values = service.records(), service.sql("SELECT * FROM attribute_value")
    with full_disk(service):
        reading, writing = refused_read(service, number), refused_write(service, number)
        eventually(lambda: not serving(service), "health says NOT_SERVING")
        again = refused_read(service, number)
    for failure in (reading, writing, again):
        assert failure.code is grpc.StatusCode.UNAVAILABLE
        assert failure.retry_seconds is not None
    assert {reading.reason, again.reason} == {"AUDIT_UNAVAILABLE"}
    assert writing.reason in {"STORE_UNAVAILABLE", "AUDIT_UNAVAILABLE"}
    assert service.records() == before
    assert service.sql("SELECT * FROM attribute_value") == values
    reads_again(service, number)
    assert write(service, number, "new@mail.example").versions == {"email": 2}
    assert service.verify().problems == []


def test_health_stays_down_while_the_disk_is_full(service: RunningService) -> None:
    """It does not say SERVING again while no record could be written."""
    number = add_customer(service)
    with full_disk(service):
        refused_read(service, number)
        eventually(lambda: not serving(service), "health says NOT_SERVING")
        looks = iter(range(80))  # over more than one round of its probes
        eventually(lambda: serving(service) or next(looks, None) is None, "it was looked at often")
        assert not serving(service)
    reads_again(service, number)
