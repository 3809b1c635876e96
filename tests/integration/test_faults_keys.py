"""The KMS hangs or is gone while the service runs: what needs it fails in bounded time, the rest goes on."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import grpc
import pytest

from tests.support.faults import (
    add_customer,
    eventually,
    read,
    refused_write,
    serving,
    start_service,
    together,
    write,
)
from tests.support.faults_proxy import Proxy, proxy_to
from tests.support.service import RunningService
from vault.client import DenialReason
from vault.crypto.dev_server import DevTransit, start_dev_transit
from vault.domain.limits import LIMITS

AT_ONCE = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTransit]:
    """A real KMS of this module's own, which it may stop."""
    running = start_dev_transit(tmp_path_factory.mktemp("kms"))
    try:
        yield running
    finally:
        running.process.send_signal(signal.SIGCONT)
        running.stop()


@pytest.fixture(scope="module")
def way(server: DevTransit) -> Iterator[Proxy]:
    """The network between the service and the KMS."""
    with proxy_to(server.address) as between:
        yield between


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, server: DevTransit, way: Proxy
) -> Iterator[RunningService]:
    """One service for all tests here: each must leave it serving."""
    by_the_way = replace(server, address=f"https://127.0.0.1:{way.port}")
    with start_service(tmp_path_factory.mktemp("keys"), transit=by_the_way) as running:
        yield running


@pytest.fixture(scope="module")
def uncached(service: RunningService) -> Iterator[str]:
    """Customers of whom the service, started anew, holds no key yet; each is given out once."""
    numbers = [add_customer(service) for _ in range(AT_ONCE + 8)]
    service.stop()
    service.launch()
    return iter(numbers)


@pytest.fixture
def half_cached(service: RunningService, uncached: Iterator[str]) -> str:
    """A customer of whom it holds the key of the email address and not that of the income."""
    number = next(uncached)
    read(service, number, "email")
    return number


@contextlib.contextmanager
def hung(server: DevTransit) -> Iterator[None]:
    """The KMS takes connections and answers nothing."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def gone(way: Proxy) -> Iterator[None]:
    """Every connection to the KMS is closed at once."""
    way.refuse()
    try:
        yield
    finally:
        way.cut()


@pytest.fixture(params=["hung", "gone"])
def without_keys(
    request: pytest.FixtureRequest, server: DevTransit, way: Proxy
) -> contextlib.AbstractContextManager[None]:
    """Each way of being without the KMS."""
    return hung(server) if request.param == "hung" else gone(way)


def test_what_is_cached_is_served_and_the_rest_says_why_not(
    service: RunningService, half_cached: str, without_keys: contextlib.AbstractContextManager[None]
) -> None:
    """Without the KMS a cached key goes on serving; an attribute whose key is not cached is denied with
    key-unavailable beside the others of the same read; writes that need a new key fail and change nothing.
    With the KMS back everything works again, in the same process."""
    number = half_cached
    process = service.process.pid
    with without_keys:
        subjects = service.sql("SELECT count(*) FROM subject")
        assert read(service, number).value("email") == f"{number}@mail.example"
        mixed = read(service, number, "email", "income")
        assert mixed.value("email") == f"{number}@mail.example"
        assert mixed.denied["income"].reason is DenialReason.KEY_UNAVAILABLE
        assert service.records()[mixed.position]["attributes"]["income"]["reason"] == "key-unavailable"
        assert write(service, number, "new@mail.example").versions == {"email": 2}
        refused = refused_write(service, service.customer())
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE")
        assert refused.retry_seconds is not None
        assert service.sql("SELECT count(*) FROM subject") == subjects
        assert serving(service)
    eventually(lambda: read(service, number, "income").value("income") == 41_000, "the key is had again")
    new = add_customer(service)
    assert read(service, new).value("email") == f"{new}@mail.example"
    assert service.process.pid == process


def test_many_reads_without_their_keys_do_not_wait_for_each_other(
    service: RunningService, half_cached: str, uncached: Iterator[str], server: DevTransit
) -> None:
    """Many reads of uncached customers at once are all answered within the default deadline, and do not hold
    up the read of a cached one."""
    seconds = LIMITS.default_deadline_seconds
    calls = [partial(read, service, next(uncached), "income", timeout=seconds) for _ in range(AT_ONCE)]
    with hung(server):
        *answers, cached = together(*calls, partial(read, service, half_cached, timeout=seconds))
    assert cached.value("email") == f"{half_cached}@mail.example"
    assert {answer.denied["income"].reason for answer in answers} == {DenialReason.KEY_UNAVAILABLE}


def test_checkpoints_wait_for_the_signer_and_reads_do_not(
    service: RunningService, half_cached: str, server: DevTransit
) -> None:
    """Without the signer records go on and checkpoints lag, which is told; then one covers them all."""
    with hung(server):
        position = read(service, half_cached).position
        eventually(
            lambda: any('"KEYS_UNAVAILABLE"' in line for line in service.log_lines()), "the lag is told"
        )
        assert signed(service) <= position
        assert read(service, half_cached).position == position + 1
    eventually(lambda: signed(service) == len(service.records()), "a checkpoint covers all records")
    assert service.verify().problems == []


def signed(service: RunningService) -> int:
    """How many records are under the newest checkpoint."""
    ((size,),) = service.sql("SELECT coalesce(max(size), 0) FROM log_checkpoint")
    return int(size)
