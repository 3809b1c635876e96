"""The real service for a benchmark: `datavault serve` on SQLite with mTLS, and a client of no weight.

with bench_service(folder, customers=1_000) as service:
    seen = drive(target_of(service), clients=32, seconds=5)
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.customers import ATTRIBUTES, CALLER, PURPOSE, customer_number, load_customers
from bench.http2 import ANSWERED, DROPPED, EXPIRED, REFUSED
from tests.support import wire
from tests.support.service import RunningService
from vault.assembly import Use, build_pipelines, log_signers, open_logs, open_rooms
from vault.config import load_settings

_CUSTOMER: Final = 7
_CONNECTIONS: Final = 16
_READS: Final = '%"action":"read"%'


@dataclass(frozen=True, slots=True)
class Seen:
    """What a load saw. Rates count what ended while load was offered."""

    per_second: float
    refused_per_second: float
    dropped_per_second: float
    """Calls that gRPC let go of before the service saw them."""
    answered: list[float]
    """Milliseconds, sorted."""
    refused: list[float]
    client_cores: float
    retry_seconds: float
    """What the last refusal that a real client saw told it to wait."""
    expired_per_second: float
    """Calls whose deadline passed before their connection had room for them."""
    reads: int
    """All answers that were given, also to the real client and after the time was over."""

    def share(self, per_second: float) -> float:
        """Of all calls that ended."""
        ended = self.per_second + self.refused_per_second + self.dropped_per_second + self.expired_per_second
        return per_second / (ended or 1.0)


def make_home(home: Path, customers: int, url: str = "") -> None:
    """A home whose database holds so many customers; `url` names one of PostgreSQL."""
    with open_rooms(load_settings(home=home, database_url=url), Use.SERVE) as rooms:
        signers = log_signers(rooms)
        load_customers(build_pipelines(rooms, open_logs(rooms, signers), signers), customers)


@contextlib.contextmanager
def bench_service(
    folder: Path, customers: int, *, url: str = "", workers: int = 1
) -> Iterator[RunningService]:
    """Serve a home of its own, which is made where it is not there."""
    if not (folder / "home").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_home(folder / "home", customers, url)
    environment = {"DATAVAULT_METRICS": "127.0.0.1:0"} | ({"DATAVAULT_DATABASE_URL": url} if url else {})
    with RunningService.start(folder, workers=workers, environment=environment) as service:
        yield service


def read_request(number: int = _CUSTOMER) -> Any:
    """The read that all benchmarks make."""
    return wire.read_request(customer_number(number), PURPOSE, ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Target:
    """A port, with paths of CA, key and certificate where it wants mTLS, and the requests to send in turn."""

    port: int
    certificates: tuple[str, ...] = ()
    requests: tuple[bytes, ...] = (read_request().SerializeToString(),)


def target_of(service: RunningService, customers: Sequence[int] = (_CUSTOMER,)) -> Target:
    """Its main port, and reads of these customers."""
    certificate, key = service.certificate(CALLER)
    return Target(
        int(service.addresses["main"].rpartition(":")[2]),
        (str(service.ca_certificate), str(key), str(certificate)),
        tuple(read_request(number).SerializeToString() for number in customers),
    )


def drive(
    target: Target,
    *,
    seconds: float,
    clients: int = 0,
    rate: float = 0.0,
    connections: int = _CONNECTIONS,
    warm_seconds: float = 0.0,
) -> Seen:
    """Load from a process of its own, see bench/load_client.py.

    Raises:
        RuntimeError: a connection broke, or a call never ended.
    """
    plan = {
        "port": target.port, "certificates": target.certificates,
        "requests": [request.hex() for request in target.requests],
        "clients": clients, "rate": rate, "connections": min(connections, clients or connections),
        "seconds": seconds, "warm_seconds": warm_seconds,
    }  # fmt: skip
    with tempfile.NamedTemporaryFile() as found:
        subprocess.run(
            [sys.executable, "-m", "bench.load_client", found.name],
            input=json.dumps(plan).encode(), check=True, timeout=seconds + warm_seconds + 120,
        )  # fmt: skip
        result = json.load(found)
    if result["broken"] or result["lost"]:
        raise RuntimeError(f"{result['lost']} calls never ended; connections: {result['broken']}")
    rates, milliseconds = result["per_second"], result["milliseconds"]
    return Seen(
        rates[ANSWERED], rates[REFUSED], rates[DROPPED], milliseconds[ANSWERED], milliseconds[REFUSED],
        result["client_cores"], result["retry_seconds"], rates[EXPIRED],
        len(milliseconds[ANSWERED]) + result["uncounted"],
    )  # fmt: skip


def reads_on_record(service: RunningService) -> int:
    """How many reads the log holds."""
    ((count,),) = service.sql("SELECT count(*) FROM log_entry WHERE CAST(entry AS TEXT) LIKE ?", _READS)
    return int(count)


def percentile(sorted_milliseconds: list[float], share: float) -> float:
    """0.0 where there are none."""
    if not sorted_milliseconds:
        return 0.0
    return sorted_milliseconds[min(len(sorted_milliseconds) - 1, int(len(sorted_milliseconds) * share))]
