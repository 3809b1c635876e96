"""How callers who were just answered are gathered into one group again.

Many callers call in a row: they ask again as soon as they are answered. A group taken at once finds the first
few of them, and a group of its own for each few costs as much as several reads. Worse, event loop and worker
then work at the same time and hand the interpreter lock to and fro. So the worker waits until as many ask as
were around; while it does, the event loop has the lock for itself.
"""

import sys
import threading
from collections.abc import Sized
from typing import Final

from vault.domain.limits import LIMITS

_FEWEST: Final = 3
_VAIN_SECONDS: Final = 0.000_6
"""About what a group costs besides its reads: waiting in vain costs no more than not waiting would have."""
_SECONDS_A_CALLER: Final = 0.000_15
"""What the event loop takes to answer a caller and to take the next call of another, with some to spare."""
_MOST_SECONDS: Final = LIMITS.group_milliseconds / 2_000
_NOBODY: Final = sys.maxsize


class Gathering:
    """`queued` is called on the event loop, all else on the worker thread.

    Args:
        came: set when as many as were around ask again.
    """

    def __init__(self, came: threading.Event) -> None:
        self._came = came
        self._around = 0
        self._enough = _NOBODY
        self._rewarded = False

    def queued(self, count: int) -> None:
        """So many reads are queued now."""
        if count >= self._enough:
            self._enough = _NOBODY
            self._came.set()

    def answered(self, around: int) -> None:
        """So many may ask again: those of a group who were answered, and those who came meanwhile."""
        self._around = min(around, LIMITS.group_reads)

    def wait(self, queue: Sized) -> None:
        """Give those who were around time to ask again: more where they did so the last time."""
        if self._around < _FEWEST:
            return
        self._came.clear()
        # before the queue is looked at, or nobody would tell of one who comes in between
        self._enough = self._around
        if len(queue) < self._around:
            self._rewarded = self._came.wait(self._patience())
        self._enough = _NOBODY

    def _patience(self) -> float:
        """Seconds."""
        if not self._rewarded:
            return _VAIN_SECONDS
        return max(_VAIN_SECONDS, min(self._around * _SECONDS_A_CALLER, _MOST_SECONDS))
