"""One SQLite file, for one server of one or several processes.

Every thread keeps its own connections open, one that reads and one that writes. A connection that failed is
closed, and the next use opens a new one.
"""

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from vault.domain.errors import DatavaultError, StartRefusedError, StoreUnavailableError
from vault.store import scrub, sqlite
from vault.store.checkpointer import Checkpointer
from vault.store.database import Block, Database, Side, close_quietly
from vault.store.filelock import FileLock
from vault.store.slot import FairSlot
from vault.store.turnstile import Turnstile

SLOT_SECONDS: Final = 5.0
"""How long a change waits for the changes before it, in one process."""
BUSY_SECONDS: Final = 2.0
"""How long a transaction waits for another process."""
PROBE_SECONDS: Final = 1.0
CHECKPOINT_SECONDS: Final = 2.0
"""How long closing waits for a checkpoint under way."""


class SqliteDatabase(Database):
    """`driver` is the class of the driver's connections; tests give one that fails on demand.

    Raises:
        ConfigurationError: `url` is not `sqlite:///PATH`.
    """

    serves_alone = True

    def __init__(
        self,
        url: str,
        *,
        slot_seconds: float = SLOT_SECONDS,
        busy_seconds: float = BUSY_SECONDS,
        driver: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> None:
        self.path: Final[Path] = sqlite.database_path(url)
        super().__init__(str(self.path))
        self._reader = sqlite.engine(
            self.path, begin="BEGIN", query_only=True, busy_seconds=busy_seconds, driver=driver
        )
        self._writer = sqlite.engine(
            self.path, begin="BEGIN IMMEDIATE", query_only=False, busy_seconds=busy_seconds, driver=driver
        )
        self._checkpointer: Checkpointer | None = None
        self._driver = driver
        self._slot = FairSlot()
        self._slot_seconds = slot_seconds
        self._turnstile: Turnstile | None = None
        self._server_lock = FileLock(self.path.with_name(self.path.name + ".lock"))
        self._guard = threading.Lock()
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._identity: tuple[int, int] | None = None
        self._closed = False

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """See Database.write."""
        with self._in_slot(self._slot_seconds) as connection:
            yield connection

    @contextmanager
    def write_once(self) -> Iterator[Connection]:
        """See Database.write_once; here a transaction as any other."""
        with self._in_slot(self._slot_seconds) as connection:
            yield connection

    def probe(self) -> None:
        """See Database.probe; waits for the slot for 1 s at most."""
        with self._in_slot(PROBE_SECONDS) as connection:
            # BEGIN IMMEDIATE alone succeeds on a read-only file; this page goes through the WAL to the disk
            connection.exec_driver_sql("PRAGMA user_version = 0")

    def scrub(self, seconds: float = scrub.SCRUB_SECONDS) -> None:
        """Rewrite the file and empty its WAL. Changes wait meanwhile; reads go on, and their records wait.

        Raises:
            StoreUnavailableError: not done, with the reason: busy, too long, full. Nothing is lost by that.
        """
        if not self._take_slot(self._slot_seconds):
            raise StoreUnavailableError("the database was not rewritten: it is busy with other changes")
        try:
            self._check_file()
            connection = self._writer.connect()
            try:
                scrub.scrub(sqlite.raw(connection), seconds)
            finally:
                close_quietly(connection)
        except Exception as error:
            translated = self._translate(error)
            if translated is None:
                raise
            raise StoreUnavailableError(f"the database was not rewritten: {translated.message}") from None
        finally:
            self._give_slot()

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def create(self) -> None:
        """Make the empty database file, mode 0600, unless it is there.

        Raises:
            StoreUnavailableError: the folder is missing, read-only or full.
        """
        sqlite.create_file(self.path)

    def join(self) -> None:
        """See Database.join: one server alone uses a file."""
        self.lock_exclusively()
        self._start_checkpointer()

    def share(self) -> None:
        """See Database.share: changes take turns with those of the other processes."""
        self._turnstile = Turnstile(self.path)
        self._start_checkpointer()

    def _start_checkpointer(self) -> None:
        self._checkpointer = Checkpointer(
            lambda: sqlite.connect(self.path, (), busy_seconds=0.0, driver=self._driver)
        )
        self._checkpointer.start()

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
        """See Database.close."""
        if self._checkpointer is not None:
            self._checkpointer.stop(CHECKPOINT_SECONDS)
        with self._guard:
            self._closed = True
            connections = list(self._connections)
            self._connections.clear()
        for connection in connections:
            close_quietly(connection)
        self._server_lock.release()

    # --- blocks ---------------------------------------------------------------------------------------------

    @contextmanager
    def _in_slot(self, seconds: float) -> Iterator[Connection]:
        if self._held.writing.open:
            raise RuntimeError(f"{Block.WRITE.value} of the same thread")
        if not self._take_slot(seconds):
            raise StoreUnavailableError("the database is busy with other changes")
        try:
            with self._writing(Block.WRITE) as connection:
                yield connection
            if self._checkpointer is not None:
                self._checkpointer.committed()
        finally:
            self._give_slot()

    def _take_slot(self, seconds: float) -> bool:
        """The process's slot, then the turn among the processes; False when the time was up."""
        until = time.monotonic() + seconds
        if not self._slot.acquire(seconds):
            return False
        if self._turnstile is None:
            return True
        try:
            taken = self._turnstile.acquire(max(0.0, until - time.monotonic()))
        except OSError:
            self._slot.release()
            raise StoreUnavailableError("the database cannot be written") from None
        if not taken:
            self._slot.release()
        return taken

    def _give_slot(self) -> None:
        if self._turnstile is not None:
            self._turnstile.release()
        self._slot.release()

    def _begin(self, side: Side, block: Block) -> Connection:
        self._check_file()
        connection = side.connection
        if connection is None or connection.closed:
            connection = self._open(side, block)
        connection.begin()
        return connection

    def _open(self, side: Side, block: Block) -> Connection:
        connection = (self._writer if block.writes else self._reader).connect()
        side.connection = connection
        with self._guard:
            if not self._closed:
                self._connections.add(connection)
                return connection
        close_quietly(connection)
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

    def _release(self, side: Side) -> None:
        """The thread keeps its connection."""

    def _discard(self, side: Side) -> None:
        connection, side.connection, side.open = side.connection, None, False
        if connection is not None:
            with self._guard:
                self._connections.discard(connection)
            close_quietly(connection)

    def _translate(self, error: BaseException) -> DatavaultError | None:
        return sqlite.translate(error, path=self.path)

    def _is_usable(self, connection: Connection, *, failed: bool) -> bool:
        return not failed

    def _surely_not_committed(self, error: BaseException) -> bool:
        return sqlite.surely_not_committed(error)
