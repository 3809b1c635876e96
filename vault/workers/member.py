"""One of the workers, as the supervisor sees it."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final


class State(StrEnum):
    """What a worker is doing."""

    WAITING = "waiting"
    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"


STARTING_PROBLEM: Final = "starting"


@dataclass(slots=True)
class Member:
    """One of the workers, by number; the process behind it may be replaced.

    `since`: when it began to serve, `until`: when it has to be done with what it is doing, or, while WAITING,
    when the next one starts; both in seconds of the supervisor's steady clock. `young`: short lives in a row,
    `fruitless`: starts in a row that came to nothing.
    """

    number: int
    state: State = State.WAITING
    pid: int = 0
    bundle: str = ""
    problem: str = STARTING_PROBLEM
    restarts: int = 0
    since: float = 0.0
    until: float = inf
    young: int = 0
    fruitless: int = 0
    silent: int = 0
    well: float = 0.0

    @property
    def serves(self) -> bool:
        return self.state is State.SERVING and not self.problem
