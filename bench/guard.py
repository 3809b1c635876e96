"""The regression guard of CI: ratios of a short run against the kept run, never an absolute time.

Guarded is what holds on any machine, however busy: figures whose baseline is measured too, and is as much at
the mercy of disk and scheduler. Appends in groups are not: their ratio is mostly that of the disk. Nor is a
batch by the clock, which commits more often than the bare loop; its CPU time is.
The best round counts, which other work on the machine disturbed least. A row with a figure that is far off
(compare.py) all the same is measured again, and the better of the two counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from rich.console import Console

from bench.compare import Change, State, compare, table
from bench.figures import Figure
from bench.results import Results, shown
from bench.rows import NOT_MEASURED
from vault.build import BUILD

GUARDED: Final[Mapping[str, tuple[str, ...]]] = {
    "decide": ("decide", "decide-first"),
    "batch-loop": ("batch-loop-sqlite-cpu",),
    "sqlite": ("read-sqlite-32",),
}
"""Rows, and the figures of each that count."""

WAIT_FOR_DISK: Final = frozenset({"sqlite"})
"""Rows whose ratio is that of the disk too: guarded only where files can be in memory."""

Measure = Callable[[], list[Figure]]


def guard(console: Console, rows: Mapping[str, Measure], kept: Results | None) -> int:
    """Measure the rows and compare.

    Returns:
        The exit code: 1 where a figure is far off twice, else 0; also where nothing was kept.
    """
    if kept is None:
        console.print(f"no run is kept of the build {BUILD}, so there is nothing to guard: make bench-keep")
        return 0
    changes = [
        change
        for name, measure in rows.items()
        for change in guarded(partial(_counting, name, measure), kept.figures)
    ]
    console.print(table(changes))
    console.print(f"build {BUILD}, against {shown(kept.path)}", highlight=False)
    for one in changes:
        if one.state is State.NOT_KEPT:
            console.print(f"{one.now.id}: skipped, {shown(kept.path)} has no ratio {_under(one.now)}")
        elif one.state is State.FAR_OFF:
            console.print(
                f"{one.now.id}: far off, twice: {one.now.ratio} and kept {one.then and one.then.ratio}"
            )
    return int(any(one.state is State.FAR_OFF for one in changes))


def guarded(measure: Measure, kept: Sequence[Figure]) -> list[Change]:
    """One row's changes, of the better of two runs where the first one is far off, or came to no end.

    Raises: what the second run raises.
    """
    try:
        first = compare(measure(), kept)
    except NOT_MEASURED:
        return compare(measure(), kept)
    if all(one.state is not State.FAR_OFF for one in first):
        return first
    again = {one.now.key: one for one in compare(measure(), kept)}
    return [max(one, again.get(one.now.key, one), key=lambda each: each.score) for one in first]


def _counting(name: str, measure: Measure) -> list[Figure]:
    return [replace(one, ratio=one.best or one.ratio) for one in measure() if one.id in GUARDED[name]]


def _under(one: Figure) -> str:
    return f"under {one.load}" if one.load else "of it"
