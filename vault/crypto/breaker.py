"""A circuit breaker: whoever fails to answer again and again is left alone for a while.

    closed     calls go through; `failures` in a row without an answer open the circuit
    open       calls are refused at once, until the pause is over
    half-open  one call goes through: its answer closes the circuit, its failure opens it for twice the pause

Each pause is drawn between half and all of its length, so that the replicas of a service do not come back
together. Time and randomness are passed in: nothing here waits or calls.
"""

import threading
from dataclasses import dataclass
from typing import Final

from vault.domain.protocols import Clock, Randomness

FAILURES: Final = 5
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave for one call, to be handed back by `answered`, `failed` or `undecided`.

    `opening` counts how often the circuit had opened when it was given: what a call of an earlier time has to
    tell says nothing of now.
    """

    opening: int
    probe: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """No leave for now: worth asking again in so many seconds."""

    retry_after_seconds: float


class Breaker:
    """Thread-safe."""

    def __init__(
        self,
        clock: Clock,
        randomness: Randomness,
        *,
        failures: int = FAILURES,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
        longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        self._clock = clock
        self._randomness = randomness
        self._most_failures = failures
        self._first_pause = first_pause_seconds
        self._longest_pause = longest_pause_seconds
        self._lock = threading.Lock()
        self._failures = 0
        self._opening = 0
        self._pause = first_pause_seconds
        self._until: float | None = None
        """When the pause is over; None while the circuit is closed."""
        self._probing = False

    @property
    def closed(self) -> bool:
        """Whether calls go through."""
        return self._until is None

    def admit(self) -> Permit | Refusal:
        """Leave for a call, or how long to wait. While half-open exactly one permit is out."""
        with self._lock:
            if self._until is None:
                return Permit(self._opening, probe=False)
            left = self._until - self._clock.monotonic()
            if left > 0:
                return Refusal(left)
            if self._probing:
                return Refusal(self._first_pause)
            self._probing = True
            return Permit(self._opening, probe=True)

    def answered(self, permit: Permit) -> bool:
        """The call was answered. Returns whether that closed the circuit."""
        with self._lock:
            if permit.opening != self._opening:
                return False
            self._failures = 0
            self._probing = False
            self._pause = self._first_pause
            closed = self._until is not None
            self._until = None
            return closed

    def failed(self, permit: Permit) -> bool:
        """The call was not answered. Returns whether that opened the circuit, or kept it open."""
        with self._lock:
            if permit.opening != self._opening:
                return False
            if not permit.probe:
                self._failures += 1
                if self._failures < self._most_failures:
                    return False
            self._open()
            return True

    def undecided(self, permit: Permit) -> None:
        """The call ended before it came to an answer or failure: another may take its place."""
        with self._lock:
            if permit.opening == self._opening and permit.probe:
                self._probing = False

    def _open(self) -> None:
        share = (self._randomness.token(1)[0] + 1) / 256
        self._until = self._clock.monotonic() + self._pause * (1 + share) / 2
        self._pause = min(self._pause * 2, self._longest_pause)
        self._opening += 1
        self._failures = 0
        self._probing = False
