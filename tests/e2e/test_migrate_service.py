"""From embedded to production with real processes: a service on the key file becomes one on Transit."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.support.service import REPOSITORY, RunningService
from vault.audit.checkpoint import signed_by
from vault.crypto.dev_server import DevTransit
from vault.v1 import key_service_pb2, key_service_pb2_grpc

PURPOSE = "customer-support"


def test_service_moves_to_transit_and_rotates_its_log_key(tmp_path: Path, transit_server: DevTransit) -> None:
    """A move that is killed keeps the service from starting; run again it ends, the service serves the same
    customers from Transit, rotates its log key there, and the first verifier key verifies it all."""
    with RunningService.start(tmp_path) as service:
        for number in ("4711", "4712"):
            service.client("importer").write_attributes(
                number, {"given-name": "Ana", "email": "ana@mail.example"}, jurisdictions=["EU"]
            )
        first = service.client("auditor").get_checkpoint().verifier_key
        service.stop()
        service.options = replace(service.options, transit=transit_server)

        killed = run(service, "tests.support.migrate", "5")
        assert killed.returncode == -signal.SIGKILL
        refused = cli(service, "serve")
        assert refused.returncode == 2
        assert "moved to transit only in part: run `datavault keys migrate" in refused.stderr
        moved = cli(service, "keys", "migrate", "--from", "local", "--to", "transit", "--output", "json")
        assert (moved.returncode, json.loads(moved.stdout)["finished"]) == (0, True), moved.stderr
        (service.home / "keys.json").unlink()

        service.launch()
        for number in ("4711", "4712"):
            shown = service.client("call-centre").read_attributes(
                number, purpose=PURPOSE, attributes=["given-name"]
            )
            assert shown.value("given-name") == "Ana"
        announced = rotate(service)
        assert announced.verifier_key not in (first, json.loads(moved.stdout)["verifier_key"])
        service.wait_until(lambda: told(service) == announced.verifier_key, "sign with its new log key")
        newest = service.client("auditor").get_checkpoint()
        assert announced.verifier_key in signed_by(newest.checkpoint, newest.verifier_key)[1]
        verified = cli(service, "audit", "verify", "--vkey", first, "--output", "json")
        assert (verified.returncode, json.loads(verified.stdout)["problems"]) == (0, []), verified.stderr


def rotate(service: RunningService) -> key_service_pb2.RotateKeyResponse:
    stub = key_service_pb2_grpc.KeyServiceStub(service.channel("operator"))
    answer = stub.RotateKey(key_service_pb2.RotateKeyRequest(key="log"), timeout=30)
    record = service.records()[answer.record.position]
    assert (record["action"], record["detail"]["verifier_key"]) == ("log.key", answer.verifier_key)
    return answer


def told(service: RunningService) -> str:
    return service.client("auditor").get_checkpoint().verifier_key


def cli(service: RunningService, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(service, "vault.cli", *arguments)


def run(service: RunningService, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=service.environment(),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
