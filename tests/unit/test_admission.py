"""Admission of reads: what would wait too long is refused, and told when to come again."""

from itertools import pairwise

import pytest

from vault.domain.errors import OverloadedError
from vault.domain.limits import LIMITS
from vault.server.admission import Admission
from vault.testing import FakeClock

MILLISECOND = 0.001
MOST = round(LIMITS.queued_seconds / MILLISECOND)
"""How many reads of a millisecond each may wait."""


def paced(reads: int = LIMITS.group_reads, seconds_each: float = MILLISECOND) -> tuple[Admission, FakeClock]:
    """Admission that has seen one group."""
    clock = FakeClock()
    admission = Admission(clock)
    admission.measure(reads, reads * seconds_each)
    return admission, clock


def refusal(admission: Admission, queued: int) -> OverloadedError:
    with pytest.raises(OverloadedError) as caught:
        admission.admit(queued)
    return caught.value


def period(admission: Admission, clock: FakeClock, refusals: int) -> float:
    """Refuse so many within a second; the time that the last was told to wait."""
    clock.advance(1.0)
    return [refusal(admission, 2 * MOST).retry_after_seconds or 0.0 for _ in range(refusals)][-1]


def test_as_many_wait_as_can_be_answered_in_time() -> None:
    """The last that fits is let in, the next one is refused with the time to come again."""
    admission, _ = paced()
    admission.admit(MOST - 1)
    assert refusal(admission, MOST + 1).retry_after_seconds == LIMITS.retry_after_seconds


def test_nobody_is_refused_before_the_first_group() -> None:
    """Nothing is known yet: the count of waiting reads is the only bound."""
    Admission(FakeClock()).admit(LIMITS.queued_reads)


def test_an_empty_queue_takes_a_read_however_slow_reads_are() -> None:
    """Else nothing would show that they became faster."""
    paced(seconds_each=60.0)[0].admit(0)


def test_a_slower_group_counts_at_once() -> None:
    """The queue is filling while it is learned."""
    admission, _ = paced()
    admission.measure(LIMITS.group_reads, LIMITS.group_reads * 3 * MILLISECOND)
    refusal(admission, MOST // 2)


def test_a_small_group_does_not_show_that_reads_are_slow() -> None:
    """What a commit takes is shared by few there."""
    admission, _ = paced()
    admission.measure(1, 100 * MILLISECOND)
    admission.admit(MOST - 1)


def test_small_groups_show_that_reads_are_fast_again() -> None:
    """After a stall so few are let in that no large group could show it."""
    admission, _ = paced(seconds_each=1.0)
    refusal(admission, 1)
    for _ in range(40):
        admission.measure(1, MILLISECOND)
    admission.admit(MOST // 2)


def test_the_more_are_refused_the_later_they_come_again() -> None:
    """Up to the longest time, in steps that callers can follow."""
    admission, clock = paced()
    told = [period(admission, clock, refusals=2_000) for _ in range(8)]
    assert told[-1] == LIMITS.longest_retry_after_seconds
    assert all(before <= after <= 2 * before for before, after in pairwise(told))


def test_when_few_are_refused_they_come_again_soon() -> None:
    """The overload is over: so is the long wait."""
    admission, clock = paced()
    for _ in range(8):
        period(admission, clock, refusals=2_000)
    clock.advance(60.0)
    for _ in range(2):
        period(admission, clock, refusals=1)
    assert period(admission, clock, refusals=1) == LIMITS.retry_after_seconds


def test_a_second_of_callers_that_do_as_told_is_left_alone() -> None:
    """Where refusals are the fiftieth of the answers that they may be, the time stays what it is."""
    admission, clock = paced()
    for _ in range(3):
        period(admission, clock, refusals=2_000)
    before = period(admission, clock, refusals=20)
    assert period(admission, clock, refusals=20) == before
