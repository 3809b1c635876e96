"""A fair slot: whoever asks first gets it first (architecture.md, "Changes").

SQLite has one writer. Its own waiting (`busy_timeout`) polls and is not fair: a change could starve
behind read groups. `threading.Lock` is not fair either, so the slot is handed over, oldest waiter first.
"""

import threading
from collections import deque


class FairSlot:
    """Held by one thread at a time; not reentrant."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, timeout_seconds: float) -> bool:
        """Take the slot, waiting in line at most `timeout_seconds`; False when the time was up."""
        with self._guard:
            if not self._taken:
                self._taken = True
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            if turn.acquire(timeout=max(0.0, timeout_seconds)):
                return True
        except BaseException:
            if not self._leave(turn):
                self.release()
            raise
        return not self._leave(turn)

    def release(self) -> None:
        """Hand the slot to the oldest waiter, or free it."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False

    def waiting(self) -> int:
        """How many threads stand in line."""
        with self._guard:
            return len(self._waiting)

    def _leave(self, turn: threading.Lock) -> bool:
        """Leave the line; False when the slot was handed over in the meantime."""
        with self._guard:
            try:
                self._waiting.remove(turn)
            except ValueError:
                return False
            return True
