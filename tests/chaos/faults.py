"""The schedule that a seed makes, and the faults themselves."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.chaos.cluster import SERVERS, Cluster, Node


class Fault(StrEnum):
    """What goes wrong."""

    KILL = "kill -9"
    RESTART = "sigterm"
    FREEZE = "sigstop"
    CUT = "backends cut"
    CRASH = "postgres crash"
    SHUTDOWN = "postgres restart"


_WEIGHTS: Final = {
    Fault.KILL: 4,
    Fault.RESTART: 2,
    Fault.FREEZE: 3,
    Fault.CUT: 4,
    Fault.CRASH: 2,
    Fault.SHUTDOWN: 1,
}
_SHORTEST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 4.0


@dataclass(frozen=True, slots=True)
class Step:
    """One fault: `pause` seconds after the one before, at `server` where it is one of a server, and lasting
    `seconds` where it lasts."""

    pause: float
    fault: Fault
    server: int
    seconds: float


def schedule(seed: int) -> Iterator[Step]:
    """Endless, and the same for the same seed. Begins with one of each kind, in random order."""
    source = random.Random(f"{seed}/faults")  # noqa: S311  repeatable, no secret
    first = source.sample(list(Fault), len(Fault))
    while True:
        (drawn,) = source.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        fault = first.pop() if first else drawn
        yield Step(
            source.uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE),
            fault,
            source.randrange(SERVERS),
            source.uniform(0.5, 2.5),
        )


class Faults:
    """Takes the steps on a cluster. A fault of a server waits until another one serves besides."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._steps = schedule(seed)
        self.done: list[tuple[float, Step]] = []
        """What was done, and when by the clock of the history."""

    def count(self) -> Counter[Fault]:
        return Counter(step.fault for _, step in self.done)

    def run(self, until: float, stop: threading.Event) -> None:
        """Take steps until a time of the monotonic clock, and on a slow machine until there was one of every
        kind; every fault is healed at the end."""
        for step in self._steps:
            missing = set(Fault) - set(self.count())
            pause = step.pause if missing else max(0.0, min(step.pause, until - time.monotonic()))
            if stop.wait(pause) or (time.monotonic() >= until and not missing):
                return
            self.done.append((time.monotonic(), step))
            self._take(step, stop)

    def _take(self, step: Step, stop: threading.Event) -> None:
        postgres, url = self._cluster.postgres, self._cluster.url
        match step.fault:
            case Fault.CUT:
                postgres.terminate(url)
            case Fault.CRASH | Fault.SHUTDOWN:
                if step.fault is Fault.CRASH:
                    postgres.crash()
                else:
                    postgres.shut_down()
                stop.wait(step.seconds)
                postgres.launch()
            case _:
                node = self._victim(step.server)
                if step.fault is Fault.FREEZE:
                    self._freeze(node, step.seconds, stop)
                else:
                    node.send(signal.SIGKILL if step.fault is Fault.KILL else signal.SIGTERM)

    def _freeze(self, node: Node, seconds: float, stop: threading.Event) -> None:
        node.send(signal.SIGSTOP)
        try:
            stop.wait(seconds)
        finally:
            node.send(signal.SIGCONT)

    def _victim(self, wanted: int) -> Node:
        """The server, or the next one that serves; another one serves besides."""
        while True:
            up: Sequence[Node] = self._cluster.up
            if len(up) > 1:
                return min(up, key=lambda node: (node.number - wanted) % SERVERS)
            time.sleep(0.05)
