"""How long ago a change was prepared."""

from dataclasses import dataclass
from typing import Final, Self

from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock

MOST_SECONDS: Final = LIMITS.longest_deadline_seconds / 2


@dataclass(frozen=True, slots=True)
class Preparation:
    """The moment before the data keys of a change were wrapped or read.

    A rewrap retires the old versions of a key one longest deadline after nothing is wrapped by them any more
    (keys.md, "Rotation"). Who was stopped for so long between wrapping and commit, with its process or its
    machine, would commit what no longer opens: a change that finds, inside its transaction, that half of
    that has passed is prepared again. By both clocks: the steady one may stand still with the machine, and
    the date be set back.
    """

    monotonic: float
    now: int

    @classmethod
    def begin(cls, clock: Clock) -> Self:
        """This moment."""
        return cls(clock.monotonic(), clock.now())

    def is_stale(self, clock: Clock) -> bool:
        """Whether it has to be prepared again."""
        steady, dated = clock.monotonic() - self.monotonic, (clock.now() - self.now) / 1e6
        return max(steady, dated) > MOST_SECONDS
