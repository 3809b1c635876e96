"""What is measured: rows, their table, and the file that keeps them (performance.md gives its format)."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import grpc
from rich.console import Console
from rich.table import Table

from bench.load import Load, generator

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: `value` and `baseline` in `unit`; latencies in milliseconds, where single calls are timed.

    `goal` is for `ratio`, which is value / baseline: to reach with rates, not to exceed with latencies. None
    where there is none.
    """

    id: str
    unit: str
    value: float
    baseline: float
    ratio: float
    goal: float | None
    met: bool | None
    p50_ms: float | None = None
    p99_ms: float | None = None
    baseline_p50_ms: float | None = None
    baseline_p99_ms: float | None = None


def rates(name: str, pairs: Sequence[tuple[Load, Load]], goal: float | None) -> Figure:
    """The row of rounds of (baseline, value): medians."""
    baseline, value = middle([pair[0] for pair in pairs]), middle([pair[1] for pair in pairs])
    ratio = value.per_second / baseline.per_second
    return Figure(
        name, "reads/s", round(value.per_second, 1), round(baseline.per_second, 1), round(ratio, 3), goal,
        None if goal is None else ratio >= goal, round(value.p50_ms, 2), round(value.p99_ms, 2),
        round(baseline.p50_ms, 2), round(baseline.p99_ms, 2),
    )  # fmt: skip


def middle(loads: Sequence[Load]) -> Load:
    """Medians over the rounds."""
    return Load(
        loads[0].requests,
        statistics.median(load.per_second for load in loads),
        statistics.median(load.p50_ms for load in loads),
        statistics.median(load.p99_ms for load in loads),
    )


def show(console: Console, figures: Sequence[Figure]) -> None:
    """Print the table."""
    table = Table(
        title="read-*: ReadAttributes, 5 attributes, audit durable, against a bare grpc.aio echo\n"
        "read-postgres-workers-2: two processes against one, sharing processors with load and database"
        "\ngrowth-*: in process, data keys cold, against 10,000 customers (lower is better)\n"
        "transit-keys: cold data keys through the keyring, against Transit batch calls, one after the other; "
        "at-most: three at a time"
    )
    names = ("figure", "unit", "datavault", "baseline", "ratio", "goal", "met", "p50 ms", "p99 ms")
    for column in (*names, "base p50", "base p99"):
        table.add_column(column, justify="left" if column in names[:2] else "right")
    for row in figures:
        table.add_row(
            row.id, row.unit, _number(row.value), _number(row.baseline), f"{row.ratio:.2f}", _ms(row.goal),
            "" if row.met is None else "yes" if row.met else "no", _ms(row.p50_ms), _ms(row.p99_ms),
            _ms(row.baseline_p50_ms), _ms(row.baseline_p99_ms),
        )  # fmt: skip
    console.print(table)


def keep(figures: Sequence[Figure]) -> Path:
    """Write them to the file; rows that were not measured now keep what stands there of them."""
    kept = {row.id: asdict(row) for row in figures}
    if RESULTS.exists():
        before = json.loads(RESULTS.read_text("utf-8"))
        if before.get("machine") == machine():
            kept = {row["id"]: row for row in before["figures"]} | kept
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine(), "figures": list(kept.values())}, indent=2) + "\n")
    return RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "load": generator(),
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}"


def _ms(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"
