"""The database as the pipelines use it: transactions of the calling thread, and what it means when they fail.

What SQLite and PostgreSQL have in common. Each thread has at most one block of a kind open, on a connection
of its own; taking one from SQLAlchemy's pool would cost four times the statement that a read needs.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from sqlalchemy import Connection

from vault.domain.errors import DatavaultError, UncertainCommitError


class Block(Enum):
    """What a thread can have open."""

    READ = "a read() inside a read()"
    WRITE = "a write() inside a write()"
    READ_ONCE = "a read_once() inside a read()"
    WRITE_ONCE = "a write_once() inside a write()"

    @property
    def writes(self) -> bool:
        return self in (Block.WRITE, Block.WRITE_ONCE)


class Side:
    """What one thread holds for reading, or for writing."""

    __slots__ = ("connection", "open")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.open = False


class _Held(threading.local):
    def __init__(self) -> None:
        self.reading = Side()
        self.writing = Side()


class Database(ABC):
    """Implements `Transactions` (domain/protocols.py).

    A block inside another of its side is a programming error (RuntimeError). A read inside a write is a
    snapshot of its own and does not see the change under way.

    Args:
        name: what messages to operators call it; holds no password.
    """

    serves_alone = False
    """Whether only one server at a time uses it, which then also raises its schema."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self._held = _Held()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot, taken by the first statement; nothing can be written.

        Raises:
            StoreUnavailableError: it does not answer, is missing, damaged or closed.
        """
        with self._reading(Block.READ) as connection:
            yield connection

    @contextmanager
    def read_once(self) -> Iterator[Connection]:
        """One statement, which is a snapshot by itself: as `read`, in one round trip."""
        with self._reading(Block.READ_ONCE) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed durably at the end of the block, rolled back by an exception.

        Raises:
            StoreUnavailableError: locked, full, read-only, gone, closed: nothing changed.
            ConflictError: another change was first: nothing changed, and doing it anew may succeed.
            UncertainCommitError: COMMIT failed in a way that leaves open whether it happened.
        """
        with self._writing(Block.WRITE) as connection:
            yield connection

    @contextmanager
    def write_once(self) -> Iterator[Connection]:
        """One statement, durable when it returns: as `write`, without a round trip to begin and commit it.

        An error raised in the block after the statement does not take it back.
        """
        with self._writing(Block.WRITE_ONCE) as connection:
            yield connection

    def writable(self) -> bool:
        """Whether a change could be committed now (for health)."""
        try:
            self.probe()
        except DatavaultError:
            return False
        return True

    @abstractmethod
    def probe(self) -> None:
        """Commit something that changes nothing.

        Raises:
            StoreUnavailableError: as `write`.
        """

    def problem(self) -> str:
        """Why this server does not take part in serving it now, '' while it does. Blocks; for health."""
        return ""

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is such a database. True where only connecting could tell."""

    @abstractmethod
    def create(self) -> None:
        """Make an empty database where that is the service's to do.

        Raises:
            StoreUnavailableError: it cannot be made.
        """

    @abstractmethod
    def join(self) -> None:
        """Take part in serving this database until `close()` or the end of the process.

        Raises:
            StartRefusedError: a server or a command has it for itself.
        """

    @abstractmethod
    def share(self) -> None:
        """Be one of several processes of a server whose supervisor has claimed it (`serves_alone`)."""

    @abstractmethod
    def lock_exclusively(self) -> None:
        """Claim it for this process alone until `close()` or the end of the process.

        Raises:
            StartRefusedError: a server uses it, or a command has it for itself.
        """

    @abstractmethod
    def scrub(self) -> None:
        """Rewrite what is stored, so that nothing that was deleted is left in it. Not inside a block.

        Raises:
            StoreUnavailableError: not done, with the reason. Nothing is lost by that.
        """

    @abstractmethod
    def close(self) -> None:
        """Close every connection and give up the lock. Call it once the workers ended."""

    # --- what each database does in its own way -------------------------------------------------------------

    @abstractmethod
    def _begin(self, side: Side, block: Block) -> Connection:
        """A connection on which a block has begun; it stands in `side.connection`."""

    @abstractmethod
    def _release(self, side: Side) -> None:
        """The block ended well: keep or give back the connection."""

    @abstractmethod
    def _discard(self, side: Side) -> None:
        """Close the connection for good, which rolls back what is open on it."""

    def _end_snapshot(self, connection: Connection) -> None:
        """End a read that ended well; there is nothing to commit."""
        connection.rollback()

    @abstractmethod
    def _translate(self, error: BaseException) -> DatavaultError | None:
        """What an error of the database means, without SQL, parameters or path; None for other errors."""

    @abstractmethod
    def _is_usable(self, connection: Connection, *, failed: bool) -> bool:
        """Whether a connection can go on once it is rolled back; `failed`: after an error of the database."""

    @abstractmethod
    def _surely_not_committed(self, error: BaseException) -> bool:
        """Whether a COMMIT that failed with `error` certainly changed nothing."""

    # --- blocks ---------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self, block: Block) -> Iterator[Connection]:
        side = self._held.reading
        connection = self._opened(side, block)
        try:
            yield connection
        except BaseException as error:
            self._fail(side, error)
            raise
        self._end_read(side)

    @contextmanager
    def _writing(self, block: Block) -> Iterator[Connection]:
        side = self._held.writing
        connection = self._opened(side, block)
        try:
            yield connection
        except BaseException as error:
            if block is Block.WRITE_ONCE and self._lost_in_commit(error):
                self._discard(side)
                raise UncertainCommitError("the database did not confirm the change") from None
            self._fail(side, error)
            raise
        self._commit(side, block)

    def _opened(self, side: Side, block: Block) -> Connection:
        if side.open:
            raise RuntimeError(f"{block.value} of the same thread")
        try:
            connection = self._begin(side, block)
        except BaseException as error:
            self._fail(side, error)
            raise
        side.open = True
        return connection

    def _end_read(self, side: Side) -> None:
        try:
            if side.connection is not None:
                self._end_snapshot(side.connection)
        except BaseException as error:
            self._fail(side, error)
            raise
        side.open = False
        self._release(side)

    def _commit(self, side: Side, block: Block) -> None:
        connection = side.connection
        try:
            if connection is None or (block is Block.WRITE and not connection.in_transaction()):
                raise RuntimeError("the transaction was ended inside the block of write()")
            connection.commit()
        except Exception as error:
            translated = self._translate(error)
            self._discard(side)
            if translated is None:
                raise
            if self._surely_not_committed(error):
                raise translated from None
            raise UncertainCommitError("the database did not confirm the change") from None
        except BaseException:
            self._discard(side)
            raise
        side.open = False
        self._release(side)

    def _lost_in_commit(self, error: BaseException) -> bool:
        """Whether a statement that commits by itself failed in a way that leaves open whether it did."""
        cause: BaseException | None = error
        while cause is not None:
            if self._translate(cause) is not None:
                return not self._surely_not_committed(cause)
            cause = cause.__cause__ or cause.__context__
        return False

    def _fail(self, side: Side, error: BaseException) -> None:
        """Roll back and raise what `error` means, if it is one of the database."""
        translated = self._translate(error)
        self._roll_back(side, failed=translated is not None)
        if translated is not None:
            raise translated from None

    def _roll_back(self, side: Side, *, failed: bool) -> None:
        connection = side.connection
        if connection is None or not self._is_usable(connection, failed=failed):
            self._discard(side)
            return
        try:
            connection.rollback()
        except Exception:
            # the first error is the one to tell; a connection that cannot roll back is of no more use
            self._discard(side)
            return
        side.open = False
        self._release(side)


def close_quietly(connection: Connection) -> None:
    """Close for good; an open transaction is rolled back by it."""
    try:
        connection.invalidate()
        connection.close()
    except Exception:  # noqa: S110  a connection that failed already may fail to close: nothing more to do
        pass
