"""Runs compared with the kept run: what is far off, and what CI fails for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench.compare import State, compare
from bench.figures import Figure
from bench.guard import GUARDED, guard, guarded
from bench.results import Results
from bench.rows import ROWS


def one(ratio: float, unit: str = "reads/s", load: str = "", name: str = "read-sqlite-32") -> Figure:
    """A figure whose ratio is all that counts."""
    return Figure(name, unit, ratio, 1.0, ratio, None, None, load=load)


def measuring(*runs: list[Figure]) -> Callable[[], list[Figure]]:
    """A row that gives these figures, run after run; one run more fails the test."""
    left = iter(runs)
    return lambda: next(left)


def kept(*figures: Figure) -> Results:
    """A kept run."""
    return Results(Path("kept.json"), {}, figures)


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (0.40, State.AS_BEFORE),
        (0.34, State.AS_BEFORE),
        (0.33, State.OFF),
        (0.20, State.OFF),
        (0.19, State.FAR_OFF),
        (0.60, State.BETTER),
    ],
)
def test_a_rate_is_far_off_under_half_of_the_kept_ratio(now: float, state: State) -> None:
    """Within 15 % it is as before."""
    (change,) = compare([one(now)], [one(0.40)])
    assert change.state is state


@pytest.mark.parametrize(("now", "state"), [(2.1, State.FAR_OFF), (1.9, State.OFF), (0.5, State.BETTER)])
def test_a_duration_is_far_off_over_twice_the_kept_ratio(now: float, state: State) -> None:
    """Where lower is better the comparison is turned round."""
    (change,) = compare([one(now, "ms")], [one(1.0, "ms")])
    assert change.state is state


def test_ratios_under_two_generators_are_not_compared() -> None:
    """A machine without h2load has its own kept ratio, or none."""
    (change,) = compare([one(0.1, load="grpc.aio")], [one(0.4, load="h2load")])
    assert change.state is State.NOT_KEPT


def test_a_row_that_is_not_far_off_is_measured_once() -> None:
    """The guard takes no longer than it must."""
    (change,) = guarded(measuring([one(0.3)]), [one(0.4)])
    assert change.score == pytest.approx(0.75)


def test_a_row_that_is_far_off_once_is_measured_again() -> None:
    """A slow minute of the machine is no regression: the better of two runs counts."""
    (change,) = guarded(measuring([one(0.1)], [one(0.3)]), [one(0.4)])
    assert change.now.ratio == 0.3


def test_the_second_run_cannot_make_a_figure_worse() -> None:
    """Another figure of the same row keeps its better run."""
    first = [one(0.1), one(0.4, name="other")]
    second = [one(0.3), one(0.1, name="other")]
    changes = guarded(measuring(first, second), [one(0.4), one(0.4, name="other")])
    assert [change.now.ratio for change in changes] == [0.3, 0.4]


def test_a_row_that_came_to_no_end_is_measured_again() -> None:
    """A server that was too slow to start once is no regression; twice it is told."""
    runs = iter(
        [RuntimeError("a call failed"), [one(0.4)], RuntimeError("a call failed"), OSError("no port")]
    )

    def measure() -> list[Figure]:
        found = next(runs)
        if isinstance(found, Exception):
            raise found
        return found

    (change,) = guarded(measure, [one(0.4)])
    assert change.state is State.AS_BEFORE
    with pytest.raises(OSError, match="no port"):
        guarded(measure, [one(0.4)])


@pytest.mark.parametrize(("second", "code"), [(0.15, 1), (0.3, 0)])
def test_the_guard_fails_for_what_is_far_off_twice(second: float, code: int) -> None:
    """And only for that."""
    rows = {"sqlite": measuring([one(0.1)], [one(second)])}
    assert guard(Console(quiet=True), rows, kept(one(0.4))) == code


def test_what_was_never_kept_does_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """A row without a kept ratio under this generator is skipped, and that is said."""
    rows = {"sqlite": measuring([one(0.1, load="grpc.aio")])}
    assert guard(Console(width=150), rows, kept(one(0.4, load="h2load"))) == 0
    assert "skipped" in capsys.readouterr().out


def test_the_best_round_is_guarded() -> None:
    """Rounds that other work on the machine disturbed are no regression."""
    rows = {"sqlite": measuring([replace(one(0.1), best=0.3)])}
    assert guard(Console(quiet=True), rows, kept(one(0.4))) == 0


def test_absolute_times_are_not_guarded() -> None:
    """A slow machine takes longer for a decision; that its limit is passed fails no change."""
    rows = {"decide": measuring([one(3.0, "us, at most 1", name="decide-p50"), one(9.0, name="decide")])}
    then = kept(one(0.3, "us, at most 1", name="decide-p50"), one(9.0, name="decide"))
    assert guard(Console(quiet=True), rows, then) == 0


def test_without_a_kept_run_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to guard yet."""
    assert guard(Console(width=150), {"sqlite": measuring()}, None) == 0
    assert "no run is kept" in capsys.readouterr().out


def test_guarded_rows_have_a_quick_way() -> None:
    """CI cannot wait for minutes."""
    quick = {row.name for row in ROWS if row.quick is not None}
    assert quick >= set(GUARDED)
