"""Draws bench/results/*.json as docs/images/*.svg: `python -m bench.plots`, or `make bench-plots`.

Needs the extra `bench`. The same figures give the same bytes: no date, no random ids, text as text.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.measuring import read

IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"
_SETTINGS: Final = {
    "svg.hashsalt": "datavault",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "axes.prop_cycle": mpl.cycler(color=["#1b6ca8", "#d1495b", "#66a182", "#edae49", "#5d576b"]),
}
_PARTS: Final = (
    "#1b6ca8", "#5fa8d3", "#d1495b", "#e58a96", "#edae49", "#f6d59b", "#66a182", "#c9c9c9",
)  # fmt: skip
Line = tuple[str, str]
"""A key of the rows, and how the legend calls it."""


def main() -> None:
    """Draw all for which there are figures."""
    IMAGES.mkdir(exist_ok=True)
    scale, overload, soak, breakdown = (read(name) for name in ("scale", "overload", "soak", "breakdown"))
    drawings: dict[str, tuple[Any, Callable[[Any], Figure]]] = {
        "growth-subjects": (scale.get("subjects"), _subjects),
        "growth-rules": (scale.get("rules"), _rules),
        "growth-clients": (scale.get("clients"), _clients),
        "overload": (overload.get("rows"), _overload),
        "soak": (soak.get("mebibytes"), _soak),
        "read-breakdown": (breakdown, _breakdown),
    }
    with mpl.rc_context(_SETTINGS):
        for name, (figures, draw) in drawings.items():
            if figures:
                path = IMAGES / f"{name}.svg"
                draw(figures).savefig(path, metadata={"Date": None, "Creator": None})
                print(path.relative_to(IMAGES.parent.parent))


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.2 * count, 3.0), layout="constrained")
    made = figure.subplots(1, count)
    return figure, [made] if count == 1 else list(made)


def _lines(axes: Axes, rows: Sequence[dict[str, float]], by: str, lines: Sequence[Line], unit: str) -> None:
    """Lines over a logarithmic axis whose ticks are the sizes that were measured."""
    sizes = [row[by] for row in rows]
    for key, label in lines:
        axes.plot(sizes, [row[key] for row in rows], marker="o", markersize=3.5, label=label)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(by)
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)
    axes.legend()


def _subjects(rows: Sequence[dict[str, float]]) -> Figure:
    figure, (cold, start) = _panels(2)
    _lines(cold, rows, "subjects", [("cold_p50_ms", "cold read, p50"), ("cold_p99_ms", "p99")], "ms")
    _lines(start, rows, "subjects", [("start_seconds", "start")], "s")
    return figure


def _rules(rows: Sequence[dict[str, float]]) -> Figure:
    figure, (decide, load) = _panels(2)
    asked = [("decide_again_us", "asked before"), ("decide_first_us", "asked for the first time")]
    _lines(decide, rows, "rules", asked, "us a decision")
    parts = [("load_milliseconds", "read and check"), ("compile_milliseconds", "compile")]
    _lines(load, rows, "rules", parts, "CPU, ms")
    return figure


def _clients(rows: Sequence[dict[str, float]]) -> Figure:
    figure, (rate, latency) = _panels(2)
    both = [("service_per_second", "service"), ("echo_per_second", "echo")]
    _lines(rate, rows, "clients", both, "calls/s")
    _lines(latency, rows, "clients", [("service_p99_ms", "service"), ("echo_p99_ms", "echo")], "p99, ms")
    return figure


def _overload(rows: Sequence[dict[str, Any]]) -> Figure:
    figure, (rate, latency) = _panels(2)
    for load, label in (("callers", "callers that wait as told"), ("flood", "calls whatever is refused")):
        chosen = [row for row in rows if row["load"] == load]
        times = [row["times"] for row in chosen]
        rate.plot(times, [row["of_peak"] for row in chosen], marker="o", markersize=3.5, label=label)
        latency.plot(times, [row["p99_ms"] for row in chosen], marker="o", markersize=3.5, label=label)
    rate.axhline(0.9, color="#888888", linewidth=0.8, linestyle="--")
    for axes, unit in ((rate, "answers against the peak"), (latency, "p99 of answers, ms")):
        axes.set_xticks([1, 2, 3], ["1x", "2x", "3x"])
        axes.set_xlabel("load against capacity")
        axes.set_ylabel(unit)
        axes.set_ylim(bottom=0)
    rate.legend(loc="lower left")
    return figure


def _soak(mebibytes: Sequence[float]) -> Figure:
    figure, (axes,) = _panels(1)
    axes.plot(range(len(mebibytes)), mebibytes)
    axes.set_xlabel("seconds")
    axes.set_ylabel("MiB resident")
    axes.set_ylim(bottom=0)
    return figure


def _breakdown(figures: dict[str, Any]) -> Figure:
    """A bar for each time of measuring, its parts one on the other by the order of the file."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    axes = figure.subplots()
    bars = [name for name in ("before", "after") if figures.get(name)]
    parts = list(dict.fromkeys(one["part"] for name in bars for one in figures[name]))
    lengths = {name: {one["part"]: one["us"] for one in figures[name]} for name in bars}
    left = dict.fromkeys(bars, 0.0)
    for index, part in enumerate(parts):
        widths = [lengths[name].get(part, 0.0) for name in bars]
        drawn = axes.barh(
            bars, widths, left=[left[name] for name in bars], label=part,
            color=_PARTS[index % len(_PARTS)], height=0.55,
        )  # fmt: skip
        axes.bar_label(drawn, labels=[f"{width:.0f}" if width >= 10 else "" for width in widths],
                       label_type="center", fontsize=8)  # fmt: skip
        left = {name: left[name] + width for name, width in zip(bars, widths, strict=True)}
    axes.invert_yaxis()
    axes.set_axisbelow(True)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("us a read")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    main()
