"""Bad days for a running service: held locks, full disks, hung disks, and ways to see how it bears them.

Nothing here waits for a time to pass: `eventually` polls for what must come, with a bound nobody reaches.
"""

import contextlib
import json
import resource
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import wire
from tests.support.faults_policies import write_policies
from tests.support.service import Options, RunningService
from vault.client import DatavaultClientError

PATIENCE: Final = 60.0
FRAUD: Final = "fraud-detection"
"""A caller, and the purpose for which it reads `email` and `income` in clear without consent."""
_POLL_SECONDS: Final = 0.02


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"not within {PATIENCE} s: {what}"
        time.sleep(_POLL_SECONDS)


# --- services ---------------------------------------------------------------------------------------------


def start_service(folder: Path, **options: Any) -> RunningService:
    """A service on the small policies, unless told otherwise."""
    options.setdefault("policies", write_policies(folder / "policies"))
    return RunningService.start(folder, **options)


@dataclass(frozen=True)
class FaultySwitch:
    """Makes the disk under a faulty service hang."""

    path: Path

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Every COMMIT of the service hangs inside the block."""
        self.path.touch()
        try:
            yield
        finally:
            self.path.unlink()


def faulty_service(folder: Path, **limits: float) -> tuple[RunningService, FaultySwitch]:
    """A service whose disk can be made to hang, with limits other than the published ones."""
    switch = FaultySwitch(folder / "hang")
    environment = {
        "DATAVAULT_TEST_HANG": str(switch.path),
        "DATAVAULT_TEST_LIMITS": json.dumps(limits),
        "DATAVAULT_METRICS": "127.0.0.1:0",
    }
    return start_service(folder, environment=environment), switch


def command(home: RunningService, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `datavault` command on a home, with the service's own settings."""
    return subprocess.run(
        [sys.executable, "-m", "vault.cli", *arguments],
        env=home.environment(),
        cwd=home.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def refused_start(home: RunningService) -> subprocess.CompletedProcess[str]:
    """Run `datavault serve` on a home where it must not start; gives its exit code and what it said."""
    return command(home, "serve")


def unstarted(folder: Path, policies: Path, **options: Any) -> RunningService:
    """A home that no process serves yet."""
    service = RunningService(folder, Options(policies=policies, **options))
    service.home.mkdir(parents=True)
    return service


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a database in use, as a backup makes it."""
    with (
        contextlib.closing(sqlite3.connect(source)) as live,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)


# --- calls ------------------------------------------------------------------------------------------------


def add_customer(service: RunningService, **values: Any) -> str:
    """A new customer with an email address and an income, unless told otherwise."""
    number = service.customer()
    given = values or {"email": f"{number}@mail.example", "income": 41_000}
    service.client("importer").write_attributes(number, given, jurisdictions=["EU"])
    return number


def read(service: RunningService, number: str, *attributes: str, timeout: float = 20.0) -> Any:
    """The disclosure to fraud detection."""
    return service.client(FRAUD).read_attributes(
        number, purpose=FRAUD, attributes=attributes or ("email",), timeout=timeout
    )


def write(service: RunningService, number: str, email: str, **more: Any) -> Any:
    """Set one email address."""
    return service.client("importer").write_attributes(
        number, {"email": email}, jurisdictions=["EU"], timeout=20.0, **more
    )


def refused_read(service: RunningService, number: str, timeout: float = 20.0) -> wire.Failure:
    """The error of a read that must fail, with everything it says."""
    stub = wire.data_stub(service.channel(FRAUD))
    request = wire.read_request(number, FRAUD, ["email"])
    return wire.refused(lambda: stub.ReadAttributes(request, timeout=timeout))


def refused_write(service: RunningService, number: str, timeout: float = 20.0) -> wire.Failure:
    """The error of a write that must fail, with everything it says."""
    stub = wire.data_stub(service.channel("importer"))
    request = wire.write_request(number, {"email": "changed@mail.example"})
    return wire.refused(lambda: stub.WriteAttributes(request, timeout=timeout))


def happened(service: RunningService, request_id: str) -> list[dict[str, Any]]:
    """The records of what was done for a request id: a repeat that only got the first answer again is on
    record too, and names the first."""
    return [
        record
        for record in service.records()
        if record.get("request") == request_id and "replay_of" not in record.get("detail", {})
    ]


def reads_again(service: RunningService, number: str) -> None:
    """Assert that it serves reads and says so, without a restart."""
    process = service.process.pid
    eventually(lambda: _succeeds(lambda: read(service, number)), "a read is answered")
    eventually(lambda: serving(service), "health says SERVING")
    assert service.process.pid == process


def serving(service: RunningService) -> bool:
    """What the health port says; it answers in any state of the service."""
    return bool(health(service) == health_pb2.HealthCheckResponse.SERVING)


def health(service: RunningService, name: str = "") -> Any:
    """The status of one service, by gRPC's health protocol."""
    stub = health_pb2_grpc.HealthStub(_health_channel(service))
    return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status


def gauge(service: RunningService, name: str) -> float:
    """A gauge as the service last measured it (twice a second); it must have been started with metrics."""
    with urllib.request.urlopen(f"http://{service.addresses['metrics']}/metrics", timeout=20) as answer:
        text = answer.read().decode("ascii")
    (line,) = [line for line in text.splitlines() if line.startswith(f"datavault_{name} ")]
    return float(line.split()[1])


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls at the same time; their results in order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(call) for call in calls]]


class Call:
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._result: Any = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"a call did not end within {PATIENCE} s"

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        """What it returned; raises what it raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._call()
        except Exception as error:
            self._error = error


# --- faults -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def write_lock(database: Path) -> Iterator[None]:
    """Hold the write lock of a database, as any other process might."""
    with contextlib.closing(sqlite3.connect(database, timeout=20, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


@contextlib.contextmanager
def full_disk(service: RunningService, largest_file_bytes: int = 1_024) -> Iterator[None]:
    """No file of the running service can grow any more: database, WAL, log output, outside store.

    RLIMIT_FSIZE of its process, which the kernel enforces at every write, for root too; SQLite sees EFBIG.
    """
    _, hard = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (largest_file_bytes, hard))
    try:
        yield
    finally:
        if service.process.poll() is None:
            resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextlib.contextmanager
def moved_away(path: Path) -> Iterator[Path]:
    """`path` is not where it was; gives where it is."""
    elsewhere = path.with_name(path.name + ".away")
    path.rename(elsewhere)
    try:
        yield elsewhere
    finally:
        elsewhere.replace(path)


# --- inside -----------------------------------------------------------------------------------------------

_HEALTH_CHANNELS: dict[str, grpc.Channel] = {}


def _health_channel(service: RunningService) -> grpc.Channel:
    address = service.addresses["health"]
    if address not in _HEALTH_CHANNELS:
        _HEALTH_CHANNELS[address] = service.health_channel()
    return _HEALTH_CHANNELS[address]


def _succeeds(call: Callable[[], Any]) -> bool:
    try:
        call()
    except DatavaultClientError:
        return False
    return True
