"""Gathering: who was just answered is waited for, a moment, before the next group is taken."""

import threading
from collections.abc import Callable

import pytest

from vault.domain.limits import LIMITS
from vault.server.gathering import Gathering

AROUND = 32


class Moment(threading.Event):
    """An event whose waits last no time: `meanwhile` happens in them; keeps how long they were to last."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.meanwhile = meanwhile
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self.meanwhile()
        return self.is_set()


def gathering(around: int = AROUND) -> tuple[Gathering, Moment]:
    """After a group of so many was answered."""
    moment = Moment()
    made = Gathering(moment)
    made.answered(around)
    return made, moment


def rewarded(around: int = AROUND) -> tuple[Gathering, Moment]:
    """The same after they all asked again once."""
    made, moment = gathering(around)
    moment.meanwhile = lambda: made.queued(around)
    made.wait([])
    moment.waits.clear()
    moment.meanwhile = lambda: None
    return made, moment


@pytest.mark.parametrize("around", [0, 1, 2])
def test_one_or_two_callers_are_not_waited_for(around: int) -> None:
    made, moment = gathering(around)
    made.wait([])
    assert not moment.waits


def test_nobody_is_waited_for_where_all_have_asked_again() -> None:
    made, moment = gathering()
    made.wait([0] * AROUND)
    assert not moment.waits


@pytest.mark.parametrize(("count", "told"), [(AROUND - 1, False), (AROUND, True), (AROUND + 1, True)])
def test_the_wait_ends_when_as_many_ask_as_were_around(count: int, told: bool) -> None:
    made, moment = gathering()
    moment.meanwhile = lambda: made.queued(count)
    made.wait([])
    assert moment.is_set() is told


def test_who_asks_while_nobody_waits_wakes_nobody() -> None:
    made, moment = gathering()
    made.wait([])
    made.queued(AROUND)
    assert not moment.is_set()


def test_the_wait_of_another_group_does_not_end_this_one() -> None:
    """The event of the last time is taken back."""
    made, moment = rewarded()
    made.wait([])
    assert not moment.is_set()


def test_the_wait_is_longer_while_callers_do_ask_again() -> None:
    """And short again once they did not."""
    first, moment = gathering()
    first.wait([])
    again, longer = rewarded()
    again.wait([])
    again.wait([])
    assert moment.waits[0] == longer.waits[1] < longer.waits[0]


def test_the_longer_wait_grows_with_the_callers_up_to_half_of_a_group() -> None:
    waits = []
    for around in (8, 16, 10_000):
        made, moment = rewarded(around)
        made.wait([])
        waits += moment.waits
    assert waits[0] < waits[1] < waits[2] <= LIMITS.group_milliseconds / 2_000


def test_no_more_callers_are_waited_for_than_a_group_takes() -> None:
    made, moment = gathering(10 * LIMITS.group_reads)
    made.wait([0] * LIMITS.group_reads)
    assert not moment.waits
