"""Other policies, in all workers or in none (SIGHUP), as a pure state machine.

    1 read     one worker prepares the folder's bundle and keeps it in the database
    2 prepare  the others prepare that very bundle, by its hash
    3 adopt    all switch

One worker reads the folder, so that a file which changes meanwhile cannot split them. Until step 3 nothing
has changed anywhere; whatever goes wrong ends the round. From step 3 on the new bundle is in force: who does
not confirm it in time is replaced, and whoever starts later is handed its hash.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

PREPARE_SECONDS: Final = 60.0
ADOPT_SECONDS: Final = 10.0


class Step(Enum):
    """Where a round stands."""

    IDLE = "idle"
    READ = "read"
    PREPARE = "prepare"
    ADOPT = "adopt"


@dataclass(slots=True)
class Reload:
    """One round at a time. `waiting` are the workers that have not answered the step."""

    step: Step = Step.IDLE
    round: int = 0
    bundle: str = ""
    asked: bool = False
    waiting: set[int] = field(default_factory=set)
    _others: frozenset[int] = frozenset()
    _until: float = 0.0

    @property
    def under_way(self) -> bool:
        return self.step is not Step.IDLE

    def begin(self, workers: Collection[int], now: float) -> int:
        """Step 1. Returns the worker that reads the folder."""
        first = min(workers)
        self.round += 1
        self.asked = False
        self._enter(Step.READ, {first}, now + PREPARE_SECONDS)
        self._others = frozenset(workers) - {first}
        return first

    def prepared(self, worker: int, round: int, bundle: str, now: float) -> frozenset[int]:
        """A worker has done step 1 or 2. Returns those that now are to take step 2."""
        if round != self.round or worker not in self.waiting:
            return frozenset()
        self.waiting.discard(worker)
        if self.step is not Step.READ:
            return frozenset()
        self.bundle = bundle
        self._enter(Step.PREPARE, set(self._others), now + PREPARE_SECONDS)
        return self._others

    @property
    def all_prepared(self) -> bool:
        return self.step is Step.PREPARE and not self.waiting

    def adopt(self, workers: Collection[int], now: float) -> None:
        """Step 3, once `all_prepared`."""
        self._enter(Step.ADOPT, set(workers), now + ADOPT_SECONDS)

    def adopted(self, worker: int) -> bool:
        """A worker confirms step 3, or has ended. True when that ends the round."""
        self.waiting.discard(worker)
        if self.step is not Step.ADOPT or self.waiting:
            return False
        self.end()
        return True

    def late(self, now: float) -> bool:
        """Whether somebody has taken too long over the step."""
        return self.under_way and now >= self._until

    def end(self) -> None:
        """Back to IDLE, however it came out."""
        self.step = Step.IDLE
        self.waiting = set()
        self._others = frozenset()

    def _enter(self, step: Step, waiting: set[int], until: float) -> None:
        self.step, self.waiting, self._until = step, waiting, until
