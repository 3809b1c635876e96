"""The circuit breaker: when it opens, whom it lets through, when it closes."""

import pytest

from vault.crypto.breaker import Breaker, Permit, Refusal
from vault.domain.system import SystemRandomness
from vault.testing import FakeClock, FixedRandomness


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> Breaker:
    """Three failures open it, for 1 s at first and 4 s at most."""
    return Breaker(clock, SystemRandomness(), failures=3, first_pause_seconds=1.0, longest_pause_seconds=4.0)


def permit(breaker: Breaker) -> Permit:
    given = breaker.admit()
    assert isinstance(given, Permit)
    return given


def refusal(breaker: Breaker) -> Refusal:
    given = breaker.admit()
    assert isinstance(given, Refusal)
    return given


def opened(breaker: Breaker) -> None:
    for _ in range(3):
        breaker.failed(permit(breaker))
    assert not breaker.closed


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    """The third failure in a row opens the circuit, and says so."""
    told = [breaker.failed(permit(breaker)) for _ in range(3)]
    assert told == [False, False, True]
    assert not breaker.closed


def test_an_answer_between_failures_keeps_it_closed(breaker: Breaker) -> None:
    """Failures count in a row only."""
    for _ in range(5):
        breaker.failed(permit(breaker))
        breaker.failed(permit(breaker))
        breaker.answered(permit(breaker))
    assert breaker.closed


def test_while_open_it_says_how_long_to_wait(breaker: Breaker, clock: FakeClock) -> None:
    """A refusal names the rest of the pause."""
    opened(breaker)
    before = refusal(breaker).retry_after_seconds
    clock.advance(0.25)
    assert refusal(breaker).retry_after_seconds == pytest.approx(before - 0.25)


def test_after_the_pause_one_call_goes_through(breaker: Breaker, clock: FakeClock) -> None:
    """Half-open lets one call through, and no second while that one is under way."""
    opened(breaker)
    clock.advance(1.0)
    assert permit(breaker).probe
    assert refusal(breaker).retry_after_seconds > 0


def test_an_answer_to_the_probe_closes_it(breaker: Breaker, clock: FakeClock) -> None:
    """Then every call goes through, and failures count from nought."""
    opened(breaker)
    clock.advance(1.0)
    assert breaker.answered(permit(breaker))
    assert breaker.closed
    assert not breaker.failed(permit(breaker))


def test_a_failed_probe_doubles_the_pause_up_to_the_longest(clock: FakeClock) -> None:
    """Pauses grow 1, 2, 4, 4 s where the draw is the longest possible, and begin anew after an answer."""
    breaker = Breaker(
        clock,
        FixedRandomness(*[b"\xff"] * 6),
        failures=1,
        first_pause_seconds=1.0,
        longest_pause_seconds=4.0,
    )
    breaker.failed(permit(breaker))
    pauses = []
    for _ in range(4):
        pauses.append(refusal(breaker).retry_after_seconds)
        clock.advance(pauses[-1])
        breaker.failed(permit(breaker))
    assert pauses == [1.0, 2.0, 4.0, 4.0]
    clock.advance(4.0)
    breaker.answered(permit(breaker))
    breaker.failed(permit(breaker))
    assert refusal(breaker).retry_after_seconds == 1.0


def test_a_probe_that_came_to_nothing_makes_room_for_another(breaker: Breaker, clock: FakeClock) -> None:
    """One that ended before the call was made is no verdict, and does not keep the circuit open for ever."""
    opened(breaker)
    clock.advance(1.0)
    breaker.undecided(permit(breaker))
    assert permit(breaker).probe


@pytest.mark.parametrize("verdict", [Breaker.answered, Breaker.failed])
def test_a_call_of_an_earlier_time_changes_nothing(
    breaker: Breaker, clock: FakeClock, verdict: object
) -> None:
    """What was begun before the circuit opened neither closes it nor prolongs the pause."""
    early = permit(breaker)
    opened(breaker)
    before = refusal(breaker)
    assert callable(verdict)
    assert verdict(breaker, early) is False
    assert refusal(breaker) == before
