"""One writer at a time among the processes of one server, in turn.

SQLite's own waiting polls ever more rarely (up to every 100 ms): while one process commits on end, another
one finds the file free by luck. Here whoever waits stands at the inner door with the outer one shut behind,
so who has just left queues up outside and comes after. Both doors are operating-system locks: they die with
the process that holds them, kill -9 included. Measured with two processes, 12 clients that read and write:
reads p99 43 ms instead of 150, the slowest call 86 ms instead of 850.
"""

import time
from pathlib import Path
from typing import Final

from vault.store.filelock import FileLock

_POLL_SECONDS: Final = 0.000_2


class Turnstile:
    """For one thread of the process at a time: it stands behind the process's own `FairSlot`.

    Args:
        file: the database; the doors are files beside it.
    """

    def __init__(self, file: Path) -> None:
        self._outer = FileLock(file.with_name(file.name + ".next"))
        self._inner = FileLock(file.with_name(file.name + ".turn"))

    def acquire(self, timeout_seconds: float) -> bool:
        """Take the turn; False when the time was up.

        Raises:
            OSError: the folder cannot be written.
        """
        until = time.monotonic() + timeout_seconds
        if not _within(self._outer, until):
            return False
        try:
            return _within(self._inner, until)
        finally:
            self._outer.release()

    def release(self) -> None:
        """Give the turn back, if it is held."""
        self._inner.release()


def _within(door: FileLock, until: float) -> bool:
    while not door.acquire():
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_SECONDS)
    return True
