"""The service at several times its capacity: `python -m bench.overload` (6 minutes).

First its capacity: the best rate over some numbers of callers. Then, each beside a round at capacity, so that
a slow minute of the machine hits both,

    callers   as many and 3 times as many callers as it answers in half a second; who is refused comes again
              when told to
    flood     as many and 3 times as many calls a second as it can answer, whatever the refusals say

The real service with mTLS, SQLite, durability and audit on; load, service and probes share the machine.
Afterwards the log holds as many reads as were answered, or the run fails. Kept in
bench/results/overload.json.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.table import Table

from bench.measuring import keep
from bench.service import Seen, bench_service, drive, percentile, reads_on_record, target_of
from tests.support.service import RunningService
from vault import logs

CUSTOMERS: Final = 1_000
CAPACITY_CLIENTS: Final = (32, 64, 128)
TIMES: Final = (1, 3)
ROUNDS: Final = 3
FULL_SECONDS: Final = 0.5
"""As many callers as the service answers in this time are one time its capacity."""
WARM_SECONDS: Final = 15.0
"""In which callers learn when to come again."""
_PROBE_SECONDS: Final = 0.05
_PROBE_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Row:
    """`of_peak` is the rate of answers against the rounds at capacity beside it. Dropped are calls that gRPC
    let go of before the service saw them; expired those whose deadline passed while their connection had no
    room for them."""

    load: str
    times: int
    per_second: float
    of_peak: float
    p50_ms: float
    p99_ms: float
    refused_share: float
    dropped_share: float
    expired_share: float
    refusal_p50_ms: float
    refusal_p99_ms: float
    retry_seconds: float
    health_p50_ms: float
    health_max_ms: float
    health_failures: int
    client_cores: float


class Prober:
    """Asks the probe port for health, a call every 50 ms."""

    def __init__(self, service: RunningService) -> None:
        self._stub = health_pb2_grpc.HealthStub(service.health_channel())
        self.milliseconds: list[float] = []
        self.failures = 0

    @contextmanager
    def probing(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._run, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _run(self, over: threading.Event) -> None:
        while not over.wait(_PROBE_SECONDS):
            began = time.perf_counter()
            try:
                answer = self._stub.Check(health_pb2.HealthCheckRequest(), timeout=_PROBE_PATIENCE)
                self.failures += answer.status != health_pb2.HealthCheckResponse.SERVING
            except grpc.RpcError:
                self.failures += 1
            self.milliseconds.append((time.perf_counter() - began) * 1_000)


def measure(service: RunningService, seconds: float, rounds: int, say: Callable[[str], None]) -> list[Row]:
    """All rows.

    Raises:
        SystemExit: the log does not hold what was answered.
    """
    reads = 0

    def load(**more: float) -> Seen:
        nonlocal reads
        seen = drive(target_of(service), seconds=seconds, **more)  # type: ignore[arg-type]
        reads += seen.reads
        return seen

    load(clients=CAPACITY_CLIENTS[0])
    peaks = {clients: load(clients=clients).per_second for clients in CAPACITY_CLIENTS}
    best = max(peaks, key=lambda clients: peaks[clients])
    peak = peaks[best]
    say(f"capacity {peak:,.0f} reads/s at {best} callers")
    rows = []
    for kind in ("callers", "flood"):
        for times in TIMES:
            amount = times * peak
            plan = {"rate": amount} if kind == "flood" else {"clients": int(amount * FULL_SECONDS)}
            pairs, prober = [], Prober(service)
            for _ in range(rounds):
                beside = load(clients=best)
                with prober.probing():
                    pairs.append((beside, load(**plan, warm_seconds=WARM_SECONDS)))
            rows.append(_row(kind, times, pairs, prober))
            say(f"{kind} x{times}: {rows[-1].of_peak:.2f} of the peak, p99 {rows[-1].p99_ms:.0f} ms")
    if (found := reads_on_record(service)) != reads:
        raise SystemExit(f"{reads} reads were answered and {found} are in the log")
    return rows


def _row(kind: str, times: int, pairs: Sequence[tuple[Seen, Seen]], prober: Prober) -> Row:
    seen = [pair[1] for pair in pairs]
    answered = sorted(each for one in seen for each in one.answered)
    refused = sorted(each for one in seen for each in one.refused)
    health = sorted(prober.milliseconds)

    def middle(of: Callable[[Seen], float]) -> float:
        return round(statistics.median(of(one) for one in seen), 3)

    return Row(
        kind, times, middle(lambda one: one.per_second),
        round(statistics.median(one.per_second / beside.per_second for beside, one in pairs), 3),
        round(percentile(answered, 0.5), 1), round(percentile(answered, 0.99), 1),
        middle(lambda one: one.share(one.refused_per_second)),
        middle(lambda one: one.share(one.dropped_per_second)),
        middle(lambda one: one.share(one.expired_per_second)), round(percentile(refused, 0.5), 2),
        round(percentile(refused, 0.99), 2), middle(lambda one: one.retry_seconds),
        round(percentile(health, 0.5), 1), round(max(health), 1), prober.failures,
        middle(lambda one: one.client_cores),
    )  # fmt: skip


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(title="ReadAttributes beyond capacity, over mTLS, SQLite, audit durable")
    names = ("load", "answers/s", "of peak", "p50 / p99 ms", "refused", "dropped", "expired",
             "refusal p50 / p99 ms", "retry s", "health p50 / max ms", "client cores")  # fmt: skip
    for name in names:
        table.add_column(name, justify="left" if name == "load" else "right")
    for row in rows:
        table.add_row(
            f"{row.load} x{row.times}", f"{row.per_second:,.0f}", f"{row.of_peak:.2f}",
            f"{row.p50_ms:.0f} / {row.p99_ms:.0f}", f"{row.refused_share:.0%}",
            f"{row.dropped_share:.0%}", f"{row.expired_share:.0%}",
            f"{row.refusal_p50_ms:.0f} / {row.refusal_p99_ms:.0f}", f"{row.retry_seconds:.1f}",
            f"{row.health_p50_ms:.0f} / {row.health_max_ms:.0f}", f"{row.client_cores:.2f}",
        )  # fmt: skip
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.overload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    logs.configure(level="ERROR")
    console = Console(width=150)
    with (
        tempfile.TemporaryDirectory(prefix="datavault-bench-") as folder,
        bench_service(Path(folder), CUSTOMERS) as service,
    ):
        rows = measure(service, given.seconds, given.rounds, console.print)
    show(console, rows)
    kept = {
        "seconds": given.seconds,
        "rounds": given.rounds,
        "rows": [asdict(row) for row in rows],
    }
    console.print(f"written to {keep('overload', kept)}")


if __name__ == "__main__":
    main()
