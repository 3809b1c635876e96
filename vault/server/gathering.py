"""How callers who were just answered are gathered into one group again (docs/adr/0029).

Many callers call in a row: they ask again as soon as they are answered. A group taken at once finds the first
few of them, and a group of its own for each few costs as much as several reads. Worse, event loop and worker
then work at the same time and hand the interpreter lock to and fro. So the worker waits until as many ask as
were around, as long as the event loop is at it: while it waits, the event loop has the lock for itself.
"""

import sys
import threading
from collections.abc import Sized
from typing import Final

from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock

_FEWEST: Final = 3
_STEP_SECONDS: Final = 0.000_4
"""In which an event loop that has something to do gets on with it; about what a group costs besides its
reads."""
_SECONDS_A_CALLER: Final = 0.000_4
"""Some times what the event loop takes to answer a caller and to take the next call of another: slow machines
keep to it, and the steps end a wait that leads to nothing."""
_MOST_SECONDS: Final = LIMITS.group_milliseconds / 2_000
_NOBODY: Final = sys.maxsize


class Gathering:
    """`wait` and `answered` are called by the worker thread, all else from any.

    Args:
        enough: set when as many as were around ask again, or when nobody should wait for them.
    """

    def __init__(self, enough: threading.Event, clock: Clock) -> None:
        self._enough = enough
        self._clock = clock
        self._around = 0
        self._awaited = _NOBODY
        self._moves = 0

    def moved(self, queued: int) -> None:
        """The event loop took a call or is done with one, or keys came that some waited for; so many are
        queued."""
        self._moves += 1
        if queued >= self._awaited:
            self.end()

    def end(self) -> None:
        """Wait no longer: there is something else to do."""
        self._awaited = _NOBODY
        self._enough.set()

    def answered(self, around: int) -> None:
        """So many may ask again: those of a group who are answered now, and those who came meanwhile."""
        self._around = min(around, LIMITS.group_reads)

    def wait(self, queue: Sized, others: Sized) -> None:
        """Give those who were around time to ask again, while the event loop answers them and takes calls.
        Not while there are `others` to take."""
        if self._around < _FEWEST:
            return
        self._enough.clear()
        # before the queues are looked at, or nobody would tell of one who comes in between
        self._awaited = self._around
        seconds, moves = min(self._around * _SECONDS_A_CALLER, _MOST_SECONDS), -1
        until = self._clock.monotonic() + seconds
        while moves != self._moves and len(queue) < self._around and not others:
            moves = self._moves
            left = until - self._clock.monotonic()
            if left <= 0 or self._enough.wait(min(_STEP_SECONDS, left)):
                break
        self._awaited = _NOBODY
