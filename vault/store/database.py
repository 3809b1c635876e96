"""The database: transactions for the calling thread, and what it means when they fail.

Every thread keeps its own connections open, one that reads and one that writes, because taking one from a
pool costs four times the statement that a read needs. A connection that failed is closed, and the next use
opens a new one.
"""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from vault.domain.errors import (
    DatavaultError,
    StartRefusedError,
    StoreUnavailableError,
    UncertainCommitError,
)
from vault.store import sqlite
from vault.store.filelock import FileLock
from vault.store.slot import FairSlot

SLOT_SECONDS: Final = 5.0
"""How long a change waits for the changes before it, in one process."""
BUSY_SECONDS: Final = 2.0
"""How long a transaction waits for another process."""
PROBE_SECONDS: Final = 1.0


class _Side:
    """What one thread holds for reading, or for writing."""

    __slots__ = ("connection", "open")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.open = False


class _Held(threading.local):
    def __init__(self) -> None:
        self.reading = _Side()
        self.writing = _Side()


class Database:
    """Implements `Transactions` (domain/protocols.py) on one SQLite file.

    A thread has at most one block of a kind open; a second one inside is a programming error (RuntimeError).
    A `read()` inside a `write()` is a snapshot of its own and does not see the change under way.

    `driver` is the class of the driver's connections; tests give one that fails on demand.
    """

    def __init__(
        self,
        url: str,
        *,
        slot_seconds: float = SLOT_SECONDS,
        busy_seconds: float = BUSY_SECONDS,
        driver: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> None:
        self.path: Final[Path] = sqlite.database_path(url)
        self._reader = sqlite.engine(
            self.path, begin="BEGIN", query_only=True, busy_seconds=busy_seconds, driver=driver
        )
        self._writer = sqlite.engine(
            self.path, begin="BEGIN IMMEDIATE", query_only=False, busy_seconds=busy_seconds, driver=driver
        )
        self._slot = FairSlot()
        self._slot_seconds = slot_seconds
        self._server_lock = FileLock(self.path.with_name(self.path.name + ".lock"))
        self._held = _Held()
        self._guard = threading.Lock()
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._identity: tuple[int, int] | None = None
        self._closed = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot, taken by the first statement; nothing can be written.

        Raises:
            StoreUnavailableError: locked, missing, moved, damaged, closed.
        """
        side = self._held.reading
        connection = self._begin(self._reader, side)
        try:
            yield connection
        except BaseException as error:
            self._fail(side, error)
            raise
        self._end_read(side)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed durably at the end of the block, rolled back by an exception.

        Raises:
            StoreUnavailableError: locked, full, read-only, missing, moved, damaged, closed: nothing changed.
            UncertainCommitError: COMMIT failed in a way that leaves open whether it happened.
        """
        with self._write(self._slot_seconds) as connection:
            yield connection

    def probe(self) -> None:
        """Write and commit something that changes nothing, waiting for the slot for 1 s at most.

        Raises:
            StoreUnavailableError: as `write`.
        """
        with self._write(PROBE_SECONDS) as connection:
            # BEGIN IMMEDIATE alone succeeds on a read-only file; this page goes through the WAL to the disk
            connection.exec_driver_sql("PRAGMA user_version = 0")

    def writable(self) -> bool:
        """Whether a change could be committed now (for health)."""
        try:
            self.probe()
        except DatavaultError:
            return False
        return True

    def create(self) -> None:
        """Make the empty database file, mode 0600, unless it is there.

        Raises:
            StoreUnavailableError: the folder is missing, read-only or full.
        """
        sqlite.create_file(self.path)

    def lock_exclusively(self) -> None:
        """Claim the file for this server until `close()` or the end of the process.

        Raises:
            StartRefusedError: another server has it, or the folder cannot be written.
        """
        try:
            taken = self._server_lock.acquire()
        except OSError:
            raise StartRefusedError(
                f"{self.path.parent} cannot be written: make the folder, or give this user the right to"
                " write it, or set DATAVAULT_HOME to another one"
            ) from None
        if not taken:
            raise StartRefusedError(
                f"another datavault server uses {self.path}: stop it first, or give this one a home of its"
                " own with DATAVAULT_HOME"
            )

    def close(self) -> None:
        """Close every thread's connections and give up the server lock. Call it once the workers ended."""
        with self._guard:
            self._closed = True
            connections = list(self._connections)
            self._connections.clear()
        for connection in connections:
            _close(connection)
        self._server_lock.release()

    @contextmanager
    def _write(self, slot_seconds: float) -> Iterator[Connection]:
        side = self._held.writing
        if side.open:
            raise RuntimeError("a write() inside a write() of the same thread")
        if not self._slot.acquire(slot_seconds):
            raise StoreUnavailableError("the database is busy with other changes")
        try:
            connection = self._begin(self._writer, side)
            try:
                yield connection
            except BaseException as error:
                self._fail(side, error)
                raise
            self._commit(side)
        finally:
            self._slot.release()

    def _begin(self, engine: Engine, side: _Side) -> Connection:
        if side.open:
            raise RuntimeError("a read() inside a read() of the same thread")
        try:
            self._check_file()
            connection = side.connection
            if connection is None or connection.closed:
                connection = self._open(engine, side)
            connection.begin()
        except BaseException as error:
            self._fail(side, error)
            raise
        side.open = True
        return connection

    def _open(self, engine: Engine, side: _Side) -> Connection:
        connection = engine.connect()
        side.connection = connection
        with self._guard:
            if not self._closed:
                self._connections.add(connection)
                return connection
        _close(connection)
        raise StoreUnavailableError("the database is closed")

    def _check_file(self) -> None:
        """A deleted or replaced file would take writes that nobody finds again."""
        if self._closed:
            raise StoreUnavailableError("the database is closed")
        try:
            found = os.stat(self.path)
        except OSError:
            raise StoreUnavailableError("the database is missing") from None
        identity = (found.st_dev, found.st_ino)
        if self._identity is None:
            self._identity = identity
        elif self._identity != identity:
            raise StoreUnavailableError("the database file was replaced: restart the service")

    def _end_read(self, side: _Side) -> None:
        connection = side.connection
        try:
            if connection is not None:
                connection.rollback()
        except BaseException as error:
            self._fail(side, error)
            raise
        side.open = False

    def _commit(self, side: _Side) -> None:
        connection = side.connection
        try:
            if connection is None or not connection.in_transaction():
                raise RuntimeError("the transaction was ended inside the block of write()")
            connection.commit()
        except Exception as error:
            translated = sqlite.translate(error, path=self.path)
            self._discard(side)
            if translated is None:
                raise
            if sqlite.surely_not_committed(error):
                raise translated from None
            raise UncertainCommitError("the database did not confirm the change") from None
        except BaseException:
            self._discard(side)
            raise
        side.open = False

    def _fail(self, side: _Side, error: BaseException) -> None:
        """Roll back and raise what `error` means, if it is one of the database."""
        translated = sqlite.translate(error, path=self.path)
        if translated is not None:
            self._discard(side)
            raise translated from None
        side.open = False
        if side.connection is not None:
            try:
                side.connection.rollback()
            except Exception:
                # the first error is the one to tell; a connection that cannot roll back is of no more use
                self._discard(side)

    def _discard(self, side: _Side) -> None:
        connection, side.connection, side.open = side.connection, None, False
        if connection is not None:
            with self._guard:
                self._connections.discard(connection)
            _close(connection)


def _close(connection: Connection) -> None:
    """Close for good; an open transaction is rolled back by it."""
    try:
        connection.invalidate()
        connection.close()
    except Exception:  # noqa: S110  a connection that failed already may fail to close: nothing more to do
        pass
