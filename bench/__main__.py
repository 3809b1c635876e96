"""Measure ReadAttributes against a bare echo of the same message sizes, in one run, A B A B, medians.

Five attributes, embedded SQLite, one process, durable audit: synchronous=FULL and a record per read, checked
by counting the log afterwards.
"""

import contextlib
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import grpc
from rich.console import Console
from rich.table import Table

from bench.customers import ATTRIBUTES, PURPOSE, customer_number
from bench.load import METHOD, Load, generator, run_load
from vault.v1 import data_service_pb2 as pb

CUSTOMERS: Final = 1_000
ROUNDS: Final = 3
REQUESTS: Final = {8: 6_000, 32: 12_000}
GOALS: Final = {8: 0.40, 32: 0.60}
RESULTS: Final = Path(__file__).parent / "results" / "latest.json"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: `value` and `baseline` in `unit`; latencies of the service in milliseconds."""

    id: str
    unit: str
    value: float
    baseline: float
    ratio: float
    goal: float
    met: bool
    p50_ms: float
    p99_ms: float
    baseline_p50_ms: float
    baseline_p99_ms: float


def main() -> None:
    """Run and print."""
    console = Console(width=120)
    console.print(f"load from {generator()}; {ROUNDS} rounds each, echo and service in turn")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        with process("bench.vault_server", str(home), str(CUSTOMERS)) as vault:
            request, answer = sample(vault)
            with process("bench.echo_server", stdin=answer) as echo:
                figures = [measure(vault, echo, request, clients) for clients in sorted(REQUESTS)]
            check_log(home / "datavault.db")
    show(console, figures)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"machine": machine(), "figures": [asdict(row) for row in figures]}, indent=2)
    )
    console.print(
        f"written to {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}"
    )


@contextlib.contextmanager
def process(module: str, *arguments: str, stdin: bytes = b"") -> Iterator[int]:
    """A server in a process of its own; gives its port."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(stdin)
        child.stdin.close()
        yield int(child.stdout.readline())
    finally:
        child.terminate()
        child.wait(30)


def sample(port: int) -> tuple[bytes, bytes]:
    """The request that is sent, and a real answer to it, which the echo then gives."""
    request = pb.ReadAttributesRequest(
        customer_number=customer_number(7), purpose=PURPOSE, attributes=ATTRIBUTES
    ).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer: bytes = channel.unary_unary(METHOD)(request, timeout=60)
    shown = pb.ReadAttributesResponse.FromString(answer)
    if len(shown.attributes) != len(ATTRIBUTES) or any(one.denial.reason for one in shown.attributes):
        raise SystemExit("the benchmark's own read was not answered in full")
    return request, answer


def measure(vault: int, echo: int, request: bytes, clients: int) -> Figure:
    """Echo and service in turn, so that a slow minute of the machine hits both."""
    count = REQUESTS[clients]
    for port in (echo, vault):
        run_load(port, request, clients, count // 6)
    pairs = [
        (run_load(echo, request, clients, count), run_load(vault, request, clients, count))
        for _ in range(ROUNDS)
    ]
    baseline, value = middle([pair[0] for pair in pairs]), middle([pair[1] for pair in pairs])
    ratio = value.per_second / baseline.per_second
    return Figure(
        f"read-sqlite-{clients}",
        "reads/s",
        round(value.per_second, 1),
        round(baseline.per_second, 1),
        round(ratio, 3),
        GOALS[clients],
        ratio >= GOALS[clients],
        round(value.p50_ms, 2),
        round(value.p99_ms, 2),
        round(baseline.p50_ms, 2),
        round(baseline.p99_ms, 2),
    )


def middle(loads: list[Load]) -> Load:
    """Medians over the rounds."""
    return Load(
        loads[0].requests,
        statistics.median(load.per_second for load in loads),
        statistics.median(load.p50_ms for load in loads),
        statistics.median(load.p99_ms for load in loads),
    )


def check_log(database: Path) -> None:
    """Every read that was answered must be in the log."""
    reads = 1 + sum(count * ROUNDS + count // 6 for count in REQUESTS.values())
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        ((found,),) = connection.execute(
            'SELECT count(*) FROM log_entry WHERE CAST(entry AS TEXT) LIKE \'%"action":"read"%\''
        ).fetchall()
    if found != reads:
        raise SystemExit(f"{reads} reads were answered and {found} are in the log")


def show(console: Console, figures: list[Figure]) -> None:
    table = Table(title="ReadAttributes, 5 attributes, embedded, audit durable, against a bare grpc.aio echo")
    for column in (
        "figure",
        "service",
        "echo",
        "ratio",
        "goal",
        "met",
        "p50 ms",
        "p99 ms",
        "echo p50",
        "echo p99",
    ):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for row in figures:
        table.add_row(
            row.id, f"{row.value:,.0f}/s", f"{row.baseline:,.0f}/s", f"{row.ratio:.2f}", f"{row.goal:.2f}",
            "yes" if row.met else "no", f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}",
            f"{row.baseline_p50_ms:.2f}", f"{row.baseline_p99_ms:.2f}",
        )  # fmt: skip
    console.print(table)


def machine() -> dict[str, object]:
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "load": generator(),
    }


if __name__ == "__main__":
    main()
