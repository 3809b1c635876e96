"""Gathering: who was just answered is waited for, as long as the event loop is at it."""

import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from vault.domain.limits import LIMITS
from vault.server.gathering import Gathering
from vault.testing import FakeClock

AROUND = 32


class Moment(threading.Event):
    """An event whose waits are over at once, on a clock that goes on by them and by `late` each; what happens
    in them is given, one after the other, then nothing."""

    def __init__(self, late: float = 0.0) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.late = late
        self.meanwhile: Iterator[Callable[[], object]] = iter(())
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self.clock.advance(timeout + self.late)
        next(self.meanwhile, lambda: None)()
        return self.is_set()


def gathering(around: int, *queued: int) -> tuple[Gathering, Moment]:
    """After a group of so many was answered; in each wait the event loop takes a call, and so many are queued
    then."""
    moment = Moment()
    made = Gathering(moment, moment.clock)
    made.answered(around)
    moment.meanwhile = iter([lambda count=count: made.moved(count) for count in queued])  # type: ignore[misc]
    return made, moment


def steps(around: int, queued: Iterable[int], queue: list[int] | None = None) -> int:
    """How many steps the wait has."""
    made, moment = gathering(around, *queued)
    made.wait(queue or [], [])
    return len(moment.waits)


@pytest.mark.parametrize("around", [0, 1, 2])
def test_one_or_two_callers_are_not_waited_for(around: int) -> None:
    assert steps(around, []) == 0


def test_nobody_is_waited_for_where_all_have_asked_again() -> None:
    assert steps(AROUND, [], [0] * AROUND) == 0


def test_the_wait_ends_when_as_many_ask_as_were_around() -> None:
    assert steps(AROUND, [AROUND // 2, AROUND - 1, AROUND, AROUND + 1]) == 3


def test_the_wait_ends_when_the_event_loop_does_nothing_more() -> None:
    """One step in which nobody was answered and nobody asked."""
    assert steps(AROUND, []) == 1
    assert steps(AROUND, [1, 2]) == 3


def test_answering_is_doing_something_too() -> None:
    """While callers are being answered the queue does not grow."""
    assert steps(AROUND, [0, 0, 0]) == 4


@pytest.mark.parametrize(("around", "most"), [(8, 0.003_2), (100_000, LIMITS.group_milliseconds / 2_000)])
def test_the_wait_is_bounded_however_busy_the_event_loop_is(around: int, most: float) -> None:
    """By the number of callers, and by half of the time that a group may take. In seconds."""
    made, moment = gathering(around, *[1] * 1_000)
    made.wait([], [])
    assert sum(moment.waits) == pytest.approx(most)


def test_who_gets_the_processor_late_has_waited_for_as_long() -> None:
    """The bound is one of time, not of steps."""
    made, moment = gathering(AROUND, *[1] * 1_000)
    moment.late = 1.0
    made.wait([], [])
    assert len(moment.waits) == 1


def test_something_else_to_do_ends_the_wait() -> None:
    made, moment = gathering(AROUND)
    moment.meanwhile = iter([made.end])
    made.wait([], [])
    assert len(moment.waits) == 1
    assert moment.is_set()


def test_nobody_is_waited_for_while_there_are_others_to_take() -> None:
    """Also where they came after the worker looked, but before it began to wait."""
    made, moment = gathering(AROUND, 1, 2, 3)
    made.wait([], [0])
    assert not moment.waits


def test_who_asks_while_nobody_waits_wakes_nobody() -> None:
    made, moment = gathering(AROUND)
    made.wait([], [])
    made.moved(AROUND)
    assert not moment.is_set()


def test_the_end_of_another_wait_does_not_end_this_one() -> None:
    """The event of the last time is taken back."""
    made, moment = gathering(AROUND, AROUND)
    made.wait([], [])
    assert moment.is_set()
    made.wait([], [])
    assert not moment.is_set()


def test_who_comes_while_the_wait_begins_is_not_overlooked() -> None:
    """The last one may be queued just after the queue was looked at."""

    class Queue(list[int]):
        def __len__(self) -> int:
            made.moved(AROUND)
            return AROUND - 1

    made, moment = gathering(AROUND)
    made.wait(Queue(), [])
    assert moment.is_set()


def test_no_more_callers_are_waited_for_than_a_group_takes() -> None:
    assert steps(10 * LIMITS.group_reads, [], [0] * LIMITS.group_reads) == 0
