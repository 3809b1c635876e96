"""A service whose outside store is a bucket serves through an outage, and doctor says what is wrong."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.faults import (
    add_customer,
    command,
    eventually,
    read,
    refused_start,
    serving,
    start_service,
)
from tests.support.object_store import BUCKET, S3Server, Silence, Status, object_store
from tests.support.service import ORIGIN, RunningService
from vault.audit.outside import entry_number

CHECKPOINTS = f"{ORIGIN}/checkpoints"


@pytest.fixture
def server() -> Iterator[S3Server]:
    with object_store() as running:
        yield running


@pytest.fixture
def service(tmp_path: Path, server: S3Server) -> Iterator[RunningService]:
    with start_service(tmp_path, environment=server.environment()) as running:
        yield running


def all_outside(service: RunningService, server: S3Server) -> bool:
    last = server.store().last(CHECKPOINTS)
    return last is not None and entry_number(last) == len(service.records())


def test_an_object_store_that_hangs_delays_only_itself(service: RunningService, server: S3Server) -> None:
    """Reads and health go on, and the log says what waits; when it answers again everything gets there."""
    number = add_customer(service)
    eventually(lambda: all_outside(service, server), "everything is outside")
    with server.trouble(Silence()):
        assert read(service, number).value("email") == f"{number}@mail.example"
        eventually(
            lambda: any("audit_integration_delayed" in line for line in service.log_lines()), "it is told"
        )
        assert serving(service)
    eventually(lambda: all_outside(service, server), "everything is outside")
    assert service.verify().problems == []


def test_a_start_and_a_stop_end_while_the_object_store_hangs(
    service: RunningService, server: S3Server
) -> None:
    """A stop does not wait for an object store for ever; a start says what is wrong, without a secret."""
    add_customer(service)
    eventually(lambda: all_outside(service, server), "everything is outside")
    with server.trouble(Silence()):
        add_customer(service)
        service.stop()
        refused = refused_start(service)
    assert refused.returncode == 1
    assert "the object store does not answer as it should" in refused.stderr
    for secret in (server.key, server.secret, "Generic S3 error"):
        assert secret not in refused.stderr
        assert secret not in "\n".join(service.log_lines())
    service.launch()
    eventually(lambda: all_outside(service, server), "everything is outside")


def test_doctor_reads_and_says_what_is_wrong(service: RunningService, server: S3Server) -> None:
    """The log is compared with its last checkpoint in the bucket; what prevents that is named."""
    add_customer(service)
    eventually(lambda: all_outside(service, server), "everything is outside")
    service.stop()

    def doctor(**changes: str) -> str:
        options = replace(service.options, environment=server.environment(**changes))
        return " ".join(command(RunningService(service.folder, options), "doctor").stdout.split())

    assert "the log extends its last checkpoint there" in doctor()
    assert "credentials must allow" in doctor(AWS_ACCESS_KEY_ID="another")
    assert "holds no checkpoint of this log" in doctor(DATAVAULT_OUTSIDE_STORE=f"{BUCKET}/empty")
    with server.trouble(Status(503)):
        assert "does not answer as it should" in doctor()
