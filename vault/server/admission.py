"""Which reads are taken while more come than can be answered (api.md, "Errors").

A count of waiting reads bounds memory and no time: as many are a second on one day and five on another. So
what is bounded is the time that a read would wait, by what a read of the last groups took. Who is refused is
told when to come again, later the more are refused: a refusal costs about half of an answer, most of it in
gRPC, and callers who come back too soon would have the server do little else.
"""

from typing import Final

from vault.domain.errors import OverloadedError
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock

_WHOLE_GROUP: Final = 32
_NEW_WEIGHT: Final = 0.3
_PERIOD_SECONDS: Final = 1.0
_REFUSALS_PER_READ: Final = 0.02
"""gRPC drops callers besides without a word (listening.py): few refusals stand for many who come too soon."""
_FASTEST_RISE: Final = 2.0
"""How much longer the time may become in a period."""
_FASTEST_READ_SECONDS: Final = 1e-5


class Admission:
    """`measure` is called by the worker thread, `admit` on the event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds_per_read = 0.0
        self._refused = 0
        self._since = 0.0
        self._retry_seconds = LIMITS.retry_after_seconds

    def measure(self, reads: int, seconds: float) -> None:
        """A group of `reads` took `seconds`."""
        if not reads:
            return
        found = seconds / reads
        if reads >= _WHOLE_GROUP and found > self._seconds_per_read:
            self._seconds_per_read = found
        elif reads >= _WHOLE_GROUP or found < self._seconds_per_read:
            # a small group costs more a read than a large one: it can only show that reads are cheaper
            self._seconds_per_read += _NEW_WEIGHT * (found - self._seconds_per_read)

    def wait_seconds(self, queued: int) -> float:
        """How long a read waits behind `queued` others; 0 before the first large group."""
        return queued * self._seconds_per_read

    def admit(self, queued: int) -> None:
        """Let a read in behind `queued` others.

        Raises:
            OverloadedError: it would wait longer than `LIMITS.queued_seconds`.
        """
        if self.wait_seconds(queued) <= LIMITS.queued_seconds:
            return
        self._refused += 1
        now = self._clock.monotonic()
        if now - self._since >= _PERIOD_SECONDS:
            self._space_out(now - self._since)
            self._refused, self._since = 0, now
        raise OverloadedError("too many reads are waiting", retry_after_seconds=self._retry_seconds)

    def _space_out(self, seconds: float) -> None:
        """Have callers come again so late that refusals stay few against answers, if they do as told."""
        answered = seconds / max(self._seconds_per_read, _FASTEST_READ_SECONDS)
        wished = self._retry_seconds * min(_FASTEST_RISE, self._refused / (answered * _REFUSALS_PER_READ))
        bounded = max(LIMITS.retry_after_seconds, min(wished, LIMITS.longest_retry_after_seconds))
        self._retry_seconds = round(bounded, 1)
