"""The circuit breaker under every order of calls, verdicts and time, against what its docstring promises."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vault.crypto.breaker import Breaker, Permit, Refusal
from vault.testing import FakeClock, FixedRandomness

pytestmark = pytest.mark.filterwarnings("ignore::vault.testing.TestingFakeWarning")

FAILURES = 3
FIRST = 1.0
LONGEST = 4.0
VERDICTS = st.sampled_from(["failed", "failed", "failed", "answered", "undecided"])


class BreakerModel(RuleBasedStateMachine):
    """Calls that are under way, and what the circuit must do with the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        # hypothesis runs the same steps again and must meet the same state
        randomness = FixedRandomness()
        self.breaker = Breaker(
            self.clock,
            randomness,
            failures=FAILURES,
            first_pause_seconds=FIRST,
            longest_pause_seconds=LONGEST,
        )
        self.under_way: list[Permit] = []
        self.in_a_row = 0
        self.opened_at: float | None = None
        self.pause = FIRST
        self.next_pause = FIRST
        self.openings = 0

    @rule()
    def begin(self) -> None:
        """A call that stays under way."""
        self.ask()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), verdict=VERDICTS)
    def end(self, data: st.DataObject, verdict: str) -> None:
        """One of the calls under way comes back."""
        self.conclude(self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1))), verdict)

    @rule(verdicts=st.lists(VERDICTS, min_size=1, max_size=2 * FAILURES))
    def calls(self, verdicts: list[str]) -> None:
        """Calls one after the other."""
        for verdict in verdicts:
            if self.ask():
                self.conclude(self.under_way.pop(), verdict)

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.0, 8.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def ask(self) -> bool:
        given = self.breaker.admit()
        if self.opened_at is None:
            assert isinstance(given, Permit)
            assert not given.probe
        else:
            waited = self.clock.monotonic() - self.opened_at
            if waited < self.pause / 2 or self.probes():
                assert isinstance(given, Refusal)
            elif waited >= self.pause:
                assert isinstance(given, Permit)
                assert given.probe
        if isinstance(given, Refusal):
            assert 0 < given.retry_after_seconds <= LONGEST
            return False
        self.under_way.append(given)
        return True

    def conclude(self, permit: Permit, verdict: str) -> None:
        of_now = permit.opening == self.openings
        told = getattr(self.breaker, verdict)(permit)
        if verdict == "undecided":
            return
        if not of_now:
            assert told is False
        elif verdict == "answered":
            assert told is (self.opened_at is not None)
            self.in_a_row, self.opened_at, self.next_pause = 0, None, FIRST
        else:
            self.in_a_row += 1
            opens = permit.probe or self.in_a_row >= FAILURES
            assert told is opens
            if opens:
                self.pause, self.next_pause = self.next_pause, min(self.next_pause * 2, LONGEST)
                self.opened_at, self.in_a_row = self.clock.monotonic(), 0
                self.openings += 1

    def probes(self) -> int:
        """How many probes are under way."""
        return sum(permit.probe and permit.opening == self.openings for permit in self.under_way)

    @invariant()
    def at_most_one_probe(self) -> None:
        assert self.probes() <= 1

    @invariant()
    def it_says_whether_it_is_closed(self) -> None:
        assert self.breaker.closed is (self.opened_at is None)


TestBreaker = BreakerModel.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
