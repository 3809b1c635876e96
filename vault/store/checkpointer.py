"""What was committed to SQLite's WAL goes into the database file beside the changes, not inside them.

SQLite copies the pages back in the COMMIT that finds the WAL long enough: that change takes tens of
milliseconds longer, and so does everybody who waits for it. Here a thread of its own does it, a few times a
second under load; a PASSIVE checkpoint waits for nobody and holds up nobody. Where it does not keep up, or
fails, COMMIT does it at AUTOMATIC_PAGES.
"""

import sqlite3
import threading
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger("datavault.store")

AUTOMATIC_PAGES: Final = 8_000
"""WAL pages, 4 KiB each, at which a COMMIT copies them by itself."""
_COMMITS: Final = 150
"""About a thousand pages of groups of reads."""


class Checkpointer:
    """`open_connection` gives a connection of the driver that this alone uses."""

    def __init__(self, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._open = open_connection
        self._commits = 0
        self._due = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="checkpointer", daemon=True)
        self.checkpoints = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def committed(self) -> None:
        """A change was committed. By one thread at a time."""
        self._commits += 1
        if self._commits >= _COMMITS:
            self._commits = 0
            self._due.set()

    def stop(self, seconds: float) -> None:
        """End the thread; waits so long at most for a checkpoint under way, which a crash would not harm."""
        self._stopping = True
        self._due.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while self._due.wait() and not self._stopping:
            self._due.clear()
            try:
                connection = connection or self._open()
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self.checkpoints += 1
            except sqlite3.Error as error:
                # changes go on, and copy the pages themselves if they have to
                log.warning("wal_checkpoint_failed", kind=type(error).__name__)
        if connection is not None:
            connection.close()
