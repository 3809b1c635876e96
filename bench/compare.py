"""Two runs compared: ratios with ratios, since absolute times of two days or machines say nothing.

A figure is off when its ratio got worse by more than 15 %, which is what two runs of one state may differ by;
far off when it got worse by half: under half of the kept ratio, or over twice of it where lower is better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.figures import Figure, number
from bench.results import LATEST, Results, kept, read, shown

OFF: Final = 0.85
FAR_OFF: Final = 0.5
NOTHING_TO_COMPARE: Final = 2


class State(Enum):
    """How a figure stands to the kept one."""

    AS_BEFORE = ""
    BETTER = "better"
    OFF = "off"
    FAR_OFF = "far off"
    NOT_KEPT = "not kept"


@dataclass(frozen=True, slots=True)
class Change:
    """A figure now, the kept one, and `score`: now / then, turned round where lower is better. 0 where there
    is none."""

    now: Figure
    then: Figure | None
    score: float

    @property
    def state(self) -> State:
        if self.then is None:
            return State.NOT_KEPT
        if self.score < FAR_OFF:
            return State.FAR_OFF
        if self.score < OFF:
            return State.OFF
        return State.BETTER if self.score > 1 / OFF else State.AS_BEFORE


def compare(now: Sequence[Figure], then: Sequence[Figure]) -> list[Change]:
    """Each figure of now with the kept one of the same id and load generator."""
    before = {one.key: one for one in then}
    return [_change(one, before.get(one.key)) for one in now]


def _change(now: Figure, then: Figure | None) -> Change:
    if then is None or not then.ratio or not now.ratio:
        return Change(now, then, 0.0)
    score = now.ratio / then.ratio
    return Change(now, then, 1 / score if now.lower_is_better else score)


def table(changes: Sequence[Change]) -> Table:
    """One row per figure."""
    made = Table()
    for column in ("figure", "load", "ratio then", "ratio now", "now / then", ""):
        made.add_column(column, justify="left" if column in ("figure", "load", "") else "right")
    for one in changes:
        made.add_row(
            one.now.id, one.now.load, number(one.then.ratio) if one.then else "", number(one.now.ratio),
            number(one.now.ratio / one.then.ratio) if one.then else "", one.state.value,
        )  # fmt: skip
    return made


def show(console: Console) -> int:
    """Compare the last run with the kept one of the same build.

    Returns:
        The exit code: 0, 1 where a figure is far off, 2 where there is nothing to compare.
    """
    last = read(LATEST)
    if last is None:
        console.print("nothing to compare: make bench")
        return NOTHING_TO_COMPARE
    before = kept(last.build)
    if before is None:
        # a run of another build says nothing: it is another program that was measured
        console.print(f"nothing to compare: no run of the build {last.build} is kept: make bench-keep")
        return NOTHING_TO_COMPARE
    changes = compare(last.figures, before.figures)
    console.print(table(changes))
    console.print(_notes(last, before), highlight=False)
    return int(any(one.state is State.FAR_OFF for one in changes))


def _notes(last: Results, before: Results) -> str:
    compared = (
        f"{shown(last.path)} against {shown(before.path)}, build {last.build}; "
        "off: over 15 % worse, far off: by half"
    )
    machine = {"build": before.build, **before.machine}
    if last.machine == machine:
        return compared
    told = ", ".join(
        f"{name} {machine.get(name)} then, {value} now"
        for name, value in last.machine.items()
        if machine.get(name) != value
    )
    return f"{compared}\nnot the same machine: {told}"
