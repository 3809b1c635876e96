"""A write never commits data whose wrapped key is not durable, wherever the KMS or the database fails; and a
KMS that is known to be away is left alone."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import pytest

from tests.support.faults import eventually, read, refused_write
from tests.support.outage_proxy import Exchange, Fault, HalfAnswer, LostAnswer, LostRequest, Status
from tests.support.outages import (
    BOTH,
    ProxiedScene,
    expected,
    heals,
    keyless_values,
    reasons,
    refuses_write,
    succeeds,
    unopenable_keys,
    values,
)
from tests.support.service import RunningService
from vault.client import DenialReason, Unavailable

pytestmark = pytest.mark.xdist_group("outages-proxy")

WRITERS = 8
WRITES = 4
REFUSED_AT_ONCE = 20
DECRYPT = "/transit/decrypt/"
ENCRYPT = "/transit/encrypt/"


@dataclass
class Storm:
    """Each request meets the next of these in turn; None is no fault."""

    faults: Iterator[Fault | None] = field(
        default_factory=lambda: itertools.cycle(
            [LostAnswer(), None, HalfAnswer(), LostAnswer(), None, LostRequest(), Status(503), None]
        )
    )

    def answer(self, exchange: Exchange) -> None:
        fault = next(self.faults)
        if fault is not None:
            fault.answer(exchange)
            return
        answer = exchange.forward()
        exchange.send(answer.status, answer.body)


@contextmanager
def failing_inserts(service: RunningService, table: str) -> Iterator[None]:
    """The database refuses every new row of a table, in the middle of the transaction."""
    service.sql(f"CREATE TRIGGER outage BEFORE INSERT ON {table} BEGIN SELECT RAISE(FAIL, 'outage'); END")
    try:
        yield
    finally:
        service.sql("DROP TRIGGER outage")


def write_new(service: RunningService, number: str) -> bool:
    """Write a new customer's two attributes, of two classes; whether it was acknowledged."""
    try:
        service.client("importer").write_attributes(
            number, expected(number), jurisdictions=["EU"], timeout=20.0
        )
    except Unavailable:
        return False
    return True


def test_storm_of_cut_connections(proxied: ProxiedScene) -> None:
    """While connections are cut after the KMS has wrapped, before it, and within its answers, each write is
    there whole with its keys or not at all, and every stored key opens."""
    service = proxied.service
    numbers = [service.customer() for _ in range(WRITERS * WRITES)]
    heals(proxied, proxied.cold())
    start = proxied.rows()
    assert write_new(service, service.customer())
    before = proxied.rows()
    whole = {table: before[table] - start[table] for table in before}
    with proxied.proxy.trouble(Storm(), ENCRYPT), ThreadPoolExecutor(WRITERS) as pool:
        acknowledged = list(pool.map(lambda number: write_new(service, number), numbers))
    assert any(acknowledged)
    after = proxied.rows()
    made = {table: after[table] - before[table] for table in after}
    assert made == {table: sum(acknowledged) * count for table, count in whole.items()}
    assert keyless_values(service) == 0
    assert unopenable_keys(service) == []
    for number, written in zip(numbers, acknowledged, strict=True):
        if written:
            assert values(read(service, number, *BOTH)) == expected(number)


def test_answer_lost_after_wrapping(proxied: ProxiedScene) -> None:
    """When the KMS wraps and its answer is lost, nothing is committed but the record of the failure."""
    service, before = proxied.service, proxied.rows()
    records = len(service.records())
    with proxied.proxy.trouble(LostAnswer(), ENCRYPT):
        refuses_write(service, service.customer())
    assert proxied.rows() == before
    assert len(service.records()) == records + 1
    eventually(lambda: succeeds(service), "writes go on")


@pytest.mark.parametrize("table", ["subject_key", "attribute_value", "request", "log_entry"])
def test_database_fails_after_wrapping(proxied: ProxiedScene, table: str) -> None:
    """When the database fails after the KMS has wrapped, at whatever row, neither key nor value stays."""
    service, before = proxied.service, proxied.rows()
    with failing_inserts(service, table):
        refused = refused_write(service, service.customer())
    assert refused.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
    assert proxied.rows() == before
    eventually(lambda: succeeds(service), "writes go on")


def test_broken_circuit_leaves_the_kms_alone(proxied: ProxiedScene) -> None:
    """Once the KMS is known to be away, reads that lack keys are denied without asking it each time."""
    service, cold = proxied.service, [proxied.cold() for _ in range(REFUSED_AT_ONCE)]
    with proxied.proxy.trouble(Status(503)):
        for number in cold[:3]:
            read(service, number, *BOTH)
        asked = proxied.proxy.requests(DECRYPT)
        for number in cold:
            answer = read(service, number, *BOTH)
            assert reasons(answer) == dict.fromkeys(BOTH, DenialReason.KEY_UNAVAILABLE)
        assert proxied.proxy.requests(DECRYPT) - asked < REFUSED_AT_ONCE
    heals(proxied, cold[0])
