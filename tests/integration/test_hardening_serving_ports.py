"""What the ports answer to whom: nobody without an identity can hold a call open or use one up."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support import wire
from tests.support.faults import start_service
from tests.support.faults_policies import FILES, write_policies
from tests.support.pipelines import open_house
from tests.support.service import JWT_ISSUER, RunningService
from vault.audit.append import EncodedRecord
from vault.domain.limits import LIMITS
from vault.server.listening import HEALTH_CALLS
from vault.v1 import audit_service_pb2 as audit

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Both TLS ports; the auditor is known by certificate and by token."""
    folder = tmp_path_factory.mktemp("ports")
    by_certificate = '{spiffe: "spiffe://bank.example/auditor"}'
    by_token = f'{{jwt: {{issuer: "{JWT_ISSUER}", subject: auditor}}}}'
    callers = FILES["callers.yaml"].replace(by_certificate, f"{by_certificate}, {by_token}")
    policies = write_policies(folder / "with-token", {"callers.yaml": callers})
    with start_service(folder, policies=policies, jwt=True) as running:
        yield running


@pytest.fixture(params=["main", "jwt"])
def stranger(request: pytest.FixtureRequest, service: RunningService) -> grpc.Channel:
    """A channel to each TLS port of somebody whom callers.yaml does not know."""
    if request.param == "jwt":
        return service.bare_channel(port="jwt")
    return service.channel("nobody-in-particular")


def reflect(channel: grpc.Channel, **call: Any) -> Any:
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    return next(stub.ServerReflectionInfo(iter([asked]), timeout=10, **call))


def test_a_load_balancer_can_check_on_a_tls_port(stranger: grpc.Channel) -> None:
    """Health needs no identity: Check says SERVING."""
    stub = health_pb2_grpc.HealthStub(stranger)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == SERVING


@pytest.mark.skipif(
    sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_OTHER,
    reason="SCHED_BATCH is Linux's, and a policy that was there is kept",
)
def test_threads_of_grpc_do_not_interrupt_the_event_loop(service: RunningService) -> None:
    """They are there when it serves. Those of executors: tests/unit/test_server_scheduling.py."""
    event_loop, engines = service.process.pid, []
    for thread in Path(f"/proc/{event_loop}/task").iterdir():
        with contextlib.suppress(OSError):  # they come and go
            if (thread / "comm").read_text("ascii").strip() == "event_engine":
                engines.append(os.sched_getscheduler(int(thread.name)))
    assert set(engines) == {os.SCHED_BATCH}
    assert os.sched_getscheduler(event_loop) == os.SCHED_OTHER


def test_nobody_can_watch_on_a_tls_port(stranger: grpc.Channel) -> None:
    """Watch is a stream that would hold one of the calls for ever: it is not served there."""
    watch = health_pb2_grpc.HealthStub(stranger).Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert wire.refused(lambda: next(watch)).code is grpc.StatusCode.UNIMPLEMENTED


def test_the_probe_port_serves_check_and_watch(service: RunningService) -> None:
    """Whoever watches on the probe port is told."""
    stub = health_pb2_grpc.HealthStub(service.health_channel())
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert next(watch).status == SERVING
    watch.cancel()


def test_the_probe_port_has_a_limit_of_its_own(service: RunningService) -> None:
    """Watches beyond it are refused, and calls of the vault are answered all the same."""
    stub = health_pb2_grpc.HealthStub(service.health_channel())
    watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=30) for _ in range(HEALTH_CALLS)]
    try:
        for watch in watches:
            assert next(watch).status == SERVING
        failure = wire.refused(lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=10))
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert service.client("fraud-detection").read_attributes(
            "unknown", purpose="fraud-detection", attributes=["email"]
        )
    finally:
        for watch in watches:
            watch.cancel()


def test_reflection_is_for_callers_alone(stranger: grpc.Channel) -> None:
    """Without an identity that callers.yaml maps it answers UNAUTHENTICATED."""
    failure = wire.refused(lambda: reflect(stranger))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_a_caller_can_reflect_on_both_ports(service: RunningService) -> None:
    """By certificate and by token."""
    bearer = (("authorization", f"Bearer {service.token('auditor')}"),)
    assert reflect(service.channel("auditor")).list_services_response.service
    by_token = reflect(service.bare_channel(port="jwt"), metadata=bearer)
    assert by_token.list_services_response.service


def test_reflection_streams_count_as_streams_of_their_caller(service: RunningService) -> None:
    """A caller has at most LIMITS.streams_per_caller open, whatever they are for."""
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel("auditor"))
    end = threading.Event()

    def one_and_no_end() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        end.wait()

    streams: list[Any] = [
        stub.ServerReflectionInfo(one_and_no_end(), timeout=30) for _ in range(LIMITS.streams_per_caller)
    ]
    try:
        assert all(next(answers).list_services_response.service for answers in streams)
        failure = wire.refused(lambda: reflect(service.channel("auditor")))
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    finally:
        end.set()


def test_an_auditor_gets_pages_of_large_records(tmp_path: Path) -> None:
    """150 records of 45 KB are more than one message holds: the largest page that can be asked for is short,
    and the pages together show each record once, in both directions."""
    policies = write_policies(tmp_path / "policies")
    with open_house(tmp_path, policies=policies) as house:
        recorder, caller = house.pipelines.recorder, house.caller("auditor")
        large = [recorder.draft(caller, "policy.read", detail={"note": "x" * 45_000}) for _ in range(150)]
        recorder.commit(lambda _: (None, [EncodedRecord.of(record) for record in large]))
    with RunningService.start(tmp_path, policies=policies) as service:
        newest, oldest = pages(service, newest_first=True), pages(service, newest_first=False)
        records = service.records()
    positions = [at for at, record in enumerate(records) if record["action"] == "policy.read"]
    assert len(positions) == 150
    assert oldest == positions
    assert newest == positions[::-1]


def pages(service: RunningService, *, newest_first: bool) -> list[int]:
    """Positions of the records of action policy.read, in the largest pages that can be asked for."""
    stub = wire.audit_stub(service.channel("auditor"))
    asked = audit.QueryRecordsRequest(page_size=1_000, newest_first=newest_first, action="policy.read")
    found: list[int] = []
    while True:
        page = stub.QueryRecords(asked, timeout=30)
        assert page.ByteSize() <= LIMITS.message_bytes
        found += [record.position for record in page.records]
        if not page.next_page_token:
            return found
        asked.page_token = page.next_page_token
