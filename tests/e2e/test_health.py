"""Health, reflection and the probe port."""

import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support import wire
from tests.support.service import RunningService, policies_copy

SERVICES = ("DataService", "ConsentService", "RightsService", "PolicyService", "AuditService")


def status(channel: grpc.Channel, service: str = "") -> Any:
    answer = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service), timeout=10
    )
    return answer.status


def reflect(channel: grpc.Channel, **request: Any) -> Any:
    asked = reflection_pb2.ServerReflectionRequest(**request)
    (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        iter([asked]), timeout=10
    )
    return answer


@pytest.mark.parametrize("name", ["", *(f"vault.v1.{service}" for service in SERVICES)])
def test_every_service_says_that_it_serves(service: RunningService, name: str) -> None:
    """On the main port and on the probe port, the whole and each service."""
    serving = health_pb2.HealthCheckResponse.SERVING
    assert status(service.channel("operator"), name) == serving
    assert status(service.health_channel(), name) == serving


def test_a_service_that_serves_is_alive(service: RunningService) -> None:
    """On the probe port, by the name that liveness probes ask for."""
    assert status(service.health_channel(), "alive") == health_pb2.HealthCheckResponse.SERVING


def test_health_of_a_service_that_does_not_exist_is_not_found(service: RunningService) -> None:
    """As grpc.health.v1 says."""
    assert wire.refused(lambda: status(service.health_channel(), "no.such.Service")).code is (
        grpc.StatusCode.NOT_FOUND
    )


def test_the_probe_port_serves_health_and_nothing_else(service: RunningService) -> None:
    """It is plain text: no call of the vault, and no reflection, is answered there."""
    channel = service.health_channel()
    request = wire.read_request("c", "fraud-detection", ["email"])
    assert wire.refused(lambda: wire.data_stub(channel).ReadAttributes(request, timeout=10)).code is (
        grpc.StatusCode.UNIMPLEMENTED
    )
    assert wire.refused(lambda: reflect(channel, list_services="")).code is grpc.StatusCode.UNIMPLEMENTED


def test_the_probe_port_is_on_loopback(service: RunningService) -> None:
    """By default nobody outside the machine reaches it."""
    assert service.addresses["health"].startswith("127.0.0.1:")


def test_reflection_lists_every_service(service: RunningService) -> None:
    """grpcurl needs no proto files: all services are there, with health."""
    answer = reflect(service.channel("operator"), list_services="")
    listed = {each.name for each in answer.list_services_response.service}
    assert {f"vault.v1.{name}" for name in SERVICES} | {"grpc.health.v1.Health"} <= listed


def test_reflection_describes_a_method(service: RunningService) -> None:
    """The descriptor that comes back is that of the proto."""
    answer = reflect(service.channel("operator"), file_containing_symbol="vault.v1.DataService")
    (raw,) = answer.file_descriptor_response.file_descriptor_proto[:1]
    described = descriptor_pb2.FileDescriptorProto.FromString(raw)
    names = {method.name for each in described.service for method in each.method}
    assert {"ReadAttributes", "BatchReadAttributes", "WriteAttributes", "BatchWriteAttributes"} <= names


def test_plain_text_does_not_reach_the_main_port(service: RunningService) -> None:
    """There is no insecure mode."""
    with grpc.insecure_channel(service.addresses["main"]) as channel:
        request = wire.read_request("c", "fraud-detection", ["email"])
        failure = wire.refused(lambda: wire.data_stub(channel).ReadAttributes(request, timeout=10))
    assert failure.code is grpc.StatusCode.UNAVAILABLE


def test_a_method_that_does_not_exist_is_unimplemented(service: RunningService) -> None:
    """Like in every gRPC service."""
    call: Any = service.channel("operator").unary_unary("/vault.v1.DataService/ExportEverything")
    assert wire.refused(lambda: call(b"", timeout=10)).code is grpc.StatusCode.UNIMPLEMENTED


def test_a_bad_bundle_is_refused_and_the_last_good_one_goes_on_serving(tmp_path: Path) -> None:
    """SIGHUP with one misspelt effect: the log says so, the hash stays; corrected, the new bundle serves."""
    policies = policies_copy(tmp_path / "policies")
    rules = policies / "policy.csv"
    good = rules.read_text("utf-8")
    with RunningService.start(tmp_path / "service", policies=policies) as service:
        client = service.client("security-team")
        before = client.get_bundle().bundle_hash
        rules.write_text(good.replace("read.exists, any, deny", "read.exists, any, Deny", 1), "utf-8")
        service.signal(signal.SIGHUP)
        service.wait_until(
            lambda: any('"policy_refused"' in line for line in service.log_lines()), "refuse the policies"
        )
        assert client.get_bundle().bundle_hash == before
        rules.write_text(good + "# a comment more\n", "utf-8")
        service.signal(signal.SIGHUP)
        service.wait_until(
            lambda: any('"policy_loaded"' in line for line in service.log_lines()), "load the policies"
        )
        assert client.get_bundle().bundle_hash != before
