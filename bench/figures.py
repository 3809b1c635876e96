"""What is measured: one row each, and the table of them (performance.md gives the format)."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import grpc
from rich.table import Table

from bench.load import Load, generator
from vault.build import BUILD

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"
"""Where the last whole run stands (bench/results.py)."""
_LOWER_IS_BETTER: Final = frozenset({"us", "ms", "s", "cores"})


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: `value` and `baseline` in `unit`; latencies in milliseconds, where single calls are timed.

    `ratio` is the median of the rounds' value / baseline: both drift with the machine from round to round.
    `best` is that of the best round, which the machine disturbed least. `goal` is for `ratio`: to reach with
    rates, not to exceed with durations. None where there is none. `load` is the load generator, where one was
    used: ratios under another one differ.
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
    load: str = ""
    best: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What figures of two runs must share to be compared."""
        return self.id, self.load

    @property
    def lower_is_better(self) -> bool:
        """Whether the unit is of a duration or a share (`ms, 100,000`, `us CPU`, `cores`), not of a rate."""
        return self.unit.replace(",", " ").split()[0] in _LOWER_IS_BETTER


def figure(
    name: str, unit: str, values: Sequence[float], baselines: Sequence[float], goal: float | None = None
) -> Figure:
    """The row of the values of some rounds, and the baselines of the same rounds or one for all: medians."""
    each = baselines if len(baselines) > 1 else [*baselines] * len(values)
    value, baseline = statistics.median(values), statistics.median(baselines)
    ratios = [one / other for one, other in zip(values, each, strict=True)]
    made = Figure(
        name, unit, _rounded(value), _rounded(baseline), _rounded(statistics.median(ratios)), goal, None
    )
    return _judged(made, ratios)


def rates(name: str, pairs: Sequence[tuple[Load, Load]], goal: float | None, unit: str = "reads/s") -> Figure:
    """The row of rounds of (baseline, value) under load: medians."""
    baselines, values = zip(*pairs, strict=True)
    baseline, value = middle(baselines), middle(values)
    ratios = [one.per_second / other.per_second for other, one in pairs]
    ratio = _rounded(statistics.median(ratios))
    made = Figure(
        name, unit, round(value.per_second, 1), round(baseline.per_second, 1), ratio, goal, None,
        round(value.p50_ms, 2), round(value.p99_ms, 2), round(baseline.p50_ms, 2), round(baseline.p99_ms, 2),
        value.by,
    )  # fmt: skip
    return _judged(made, ratios)


def middle(loads: Sequence[Load]) -> Load:
    """Medians over the rounds."""
    return Load(
        loads[0].requests,
        statistics.median(load.per_second for load in loads),
        statistics.median(load.p50_ms for load in loads),
        statistics.median(load.p99_ms for load in loads),
        statistics.median(load.cpu_seconds for load in loads),
        loads[0].by,
    )


def _judged(made: Figure, ratios: Sequence[float]) -> Figure:
    """With its best round, and whether it reaches its goal."""
    one = replace(made, best=_rounded(min(ratios) if made.lower_is_better else max(ratios)))
    if one.goal is None:
        return one
    met = one.ratio <= one.goal if one.lower_is_better else one.ratio >= one.goal
    return replace(one, met=met)


def machine() -> dict[str, Any]:
    """What the figures are measured on."""
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "load": generator(),
        "build": BUILD,
    }


def build_of(measured_on: Mapping[str, Any]) -> str:
    """Which build was measured on that machine; figures of before there was a choice are of Python."""
    return str(measured_on.get("build", "python"))


def table(figures: Sequence[Figure]) -> Table:
    """All figures, one row each."""
    made = Table(title=f"build: {BUILD}", title_justify="left")
    names = ("figure", "unit", "datavault", "baseline", "ratio", "goal", "met", "p50 ms", "p99 ms")
    for column in (*names, "base p50", "base p99"):
        made.add_column(column, justify="left" if column in names[:2] else "right")
    for row in figures:
        made.add_row(
            row.id, f"{row.unit} ({row.load})" if row.load else row.unit, number(row.value),
            number(row.baseline), number(row.ratio), _goal(row),
            "" if row.met is None else "yes" if row.met else "no", _ms(row.p50_ms), _ms(row.p99_ms),
            _ms(row.baseline_p50_ms), _ms(row.baseline_p99_ms),
        )  # fmt: skip
    return made


def number(value: float) -> str:
    """As people read it: three digits or so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def _goal(row: Figure) -> str:
    if row.goal is None:
        return ""
    return f"{'<=' if row.lower_is_better else '>='} {number(row.goal)}"


def _ms(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.2f}"


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
