"""Open connections between two uses: a stack, so that few of them are busy, with a bound.

SQLAlchemy's pool would cost a read four times its statement (performance.md), most of it for resets that
these connections do not need: they come back with no transaction open.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from sqlalchemy import Connection

from vault.domain.errors import StoreUnavailableError
from vault.store.database import close_quietly

CONNECTIONS: Final = 20
"""Per process. Its threads use about ten at most."""


class ConnectionPool:
    """At most `most` connections, opened by `connect` when they are wanted. Thread-safe."""

    def __init__(self, connect: Callable[[], Connection], most: int, wait_seconds: float) -> None:
        self._connect = connect
        self._wait_seconds = wait_seconds
        self._free = threading.BoundedSemaphore(most)
        self._guard = threading.Lock()
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._closed = False

    def take(self) -> Connection:
        """An open connection, the one used last if there is one.

        Raises:
            StoreUnavailableError: closed, or all are in use for too long. What `connect` raises.
        """
        if not self._free.acquire(timeout=self._wait_seconds):
            raise StoreUnavailableError("the database is busy: all connections are in use")
        try:
            with self._guard:
                connection = self._idle.pop() if self._idle else None
            connection = connection or self._connect()
        except BaseException:
            self._free.release()
            raise
        with self._guard:
            if not self._closed:
                self._used.add(connection)
                return connection
        self._free.release()
        close_quietly(connection)
        raise StoreUnavailableError("the database is closed")

    def give(self, connection: Connection) -> None:
        """Put back a connection without an open transaction."""
        with self._guard:
            mine = connection in self._used
            self._used.discard(connection)
            if mine and not self._closed:
                self._idle.append(connection)
        if mine:
            self._free.release()

    def discard(self, connection: Connection) -> None:
        """Close a connection that is of no more use."""
        with self._guard:
            mine = connection in self._used
            self._used.discard(connection)
        close_quietly(connection)
        if mine:
            self._free.release()

    def discard_idle(self) -> None:
        """Close those that nobody uses: what broke one has broken them all."""
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            close_quietly(connection)

    def close(self) -> None:
        """Close all, those in use too, and give out no more."""
        with self._guard:
            self._closed = True
            connections = [*self._idle, *self._used]
            self._idle.clear()
            self._used.clear()
        for connection in connections:
            with suppress(Exception):
                close_quietly(connection)

    @property
    def idle(self) -> int:
        """How many are open and not in use."""
        return len(self._idle)

    @property
    def used(self) -> int:
        """How many are in use."""
        return len(self._used)
