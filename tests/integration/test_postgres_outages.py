"""A service whose PostgreSQL goes away: what callers see, and that it comes back by itself."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from tests.support.faults import FRAUD, add_customer, eventually, health, serving, start_service
from tests.support.postgres import PostgresServer, postgres_at
from tests.support.service import RunningService
from vault.client.errors import DatavaultClientError, DeadlineExceeded, Unavailable


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """These tests stop it."""
    with tempfile.TemporaryDirectory(prefix="datavault-outage-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103  the server runs as another user
        with postgres_at(Path(folder) / "server") as server:
            yield server


@pytest.fixture(scope="module")
def service(own_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    url = own_server.for_service(own_server.create())
    folder = tmp_path_factory.mktemp("service")
    with start_service(folder, environment={"DATAVAULT_DATABASE_URL": url}) as running:
        yield running


@pytest.fixture(scope="module")
def ana(service: RunningService) -> str:
    return add_customer(service)


def email(service: RunningService, number: str, seconds: float = 10.0) -> str:
    answer = service.client(FRAUD).read_attributes(
        number, purpose=FRAUD, attributes=["email"], timeout=seconds
    )
    return str(answer.value("email"))


def failure(service: RunningService, number: str) -> DatavaultClientError:
    with pytest.raises(DatavaultClientError) as caught:
        email(service, number)
    return caught.value


def comes_back(service: RunningService, number: str) -> None:
    eventually(lambda: serving(service), "it serves again")
    assert email(service, number) == f"{number}@mail.example"


def test_a_restart_is_an_outage_and_no_more(
    service: RunningService, own_server: PostgresServer, ana: str
) -> None:
    """While it is down: UNAVAILABLE with a time to try again, NOT_SERVING and yet alive, so that nobody
    restarts the service; afterwards as before."""
    own_server.crash()
    error = failure(service, ana)
    assert isinstance(error, Unavailable)
    assert error.retry_after_seconds
    eventually(lambda: not serving(service), "health tells it")
    assert health(service, "alive") == HealthCheckResponse.SERVING
    own_server.launch()
    comes_back(service, ana)


def test_cut_connections_cost_one_call_at_most(
    service: RunningService, own_server: PostgresServer, ana: str
) -> None:
    """pg_terminate_backend on all of them: the next calls are answered on new ones."""
    own_server.terminate(service.options.environment["DATAVAULT_DATABASE_URL"])
    failed = 0
    for _ in range(5):
        try:
            email(service, ana)
        except Unavailable:
            failed += 1
    assert failed <= 1


def test_a_server_that_hangs_holds_up_nobody_for_ever(
    service: RunningService, own_server: PostgresServer, ana: str
) -> None:
    """Stopped in its tracks, it answers no statement: calls end at their deadline, health says so, and when
    it goes on so does the service."""
    assert own_server.process is not None
    with own_server.connect() as connection:
        pids = [
            row[0]
            for row in connection.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        ]
    everyone = [own_server.process.pid, *pids]
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises((DeadlineExceeded, Unavailable)):
            email(service, ana, seconds=1.0)
        eventually(lambda: not serving(service), "health tells it")
    finally:
        for pid in reversed(everyone):
            os.kill(pid, signal.SIGCONT)
    comes_back(service, ana)


def test_a_commit_that_may_be_lost_ends_serving(
    service: RunningService, own_server: PostgresServer, ana: str
) -> None:
    """Durability is turned off while it serves: health says so and calls are refused, until it is back."""
    with own_server.connect() as connection:
        connection.execute("ALTER SYSTEM SET synchronous_commit = off")
        connection.execute("SELECT pg_reload_conf()")
        eventually(lambda: not serving(service), "health tells it")
        assert isinstance(failure(service, ana), Unavailable)
        connection.execute("ALTER SYSTEM RESET synchronous_commit")
        connection.execute("SELECT pg_reload_conf()")
    comes_back(service, ana)


def test_a_held_lock_ends_in_time(service: RunningService, own_server: PostgresServer, ana: str) -> None:
    """Somebody locks a table by hand: changes give up after the lock's time, and nothing is half done."""
    url = own_server.url_of(service.options.environment["DATAVAULT_DATABASE_URL"].rpartition("/")[2])
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE log IN ACCESS EXCLUSIVE MODE")
        error = failure(service, ana)
        assert isinstance(error, (Unavailable, DeadlineExceeded))
    comes_back(service, ana)
    assert service.verify().problems == []
