"""PostgreSQL, for as many servers as one likes.

Isolation (architecture.md, "Changes"), and why:

    read          REPEATABLE READ, READ ONLY: its statements see one moment. READ COMMITTED would give each
                  statement a moment of its own.
    read_once     autocommit: one statement is one snapshot.
    write         READ COMMITTED: rows are locked and read again under the lock, so nothing else is needed;
                  REPEATABLE READ fails by the thousand at the head row of the log.
    write_once    autocommit: one statement takes the head row, writes, and commits.
"""

import threading
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from vault.domain.errors import DatavaultError, StartRefusedError, StoreUnavailableError
from vault.store import postgres
from vault.store.database import Block, Database, Side, close_quietly
from vault.store.pool import CONNECTIONS, ConnectionPool

WAIT_SECONDS: Final = 5.0

_BEGIN: Final = {
    Block.READ: b"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    Block.WRITE: b"BEGIN ISOLATION LEVEL READ COMMITTED",
}
_LOCK_KEY: Final = int.from_bytes(b"datavlt\0", "big")
# named with their schema and types: what somebody put into `public` must not fit better
_SHARED: Final = "SELECT pg_catalog.pg_try_advisory_lock_shared(CAST(%s AS bigint))"
_ALONE: Final = "SELECT pg_catalog.pg_try_advisory_lock(CAST(%s AS bigint))"


def no_objection(connection: Connection) -> str:
    """To a database that answers there is none."""
    postgres.raw(connection).execute("SELECT 1")
    return ""


class PostgresDatabase(Database):
    """
    Args:
        url: `postgresql://...`, as libpq understands it.
        password: asked at each connect; None leaves it to the URL and libpq's own places.
        production: refuse a connection on which TLS would not check the server.
        objection: asks the database why it must not be used, '' when it may. Asked on each new connection,
            and by `problem`: settings change while one serves. Errors are the driver's.

    Raises:
        ConfigurationError: the URL is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        password: Callable[[], str | None] = lambda: None,
        production: bool = False,
        connections: int = CONNECTIONS,
        wait_seconds: float = WAIT_SECONDS,
        objection: Callable[[Connection], str] = no_objection,
    ) -> None:
        parameters = postgres.parameters(url, production=production)
        super().__init__(postgres.display_name(parameters))
        self._engine = postgres.engine(parameters, password)
        self._objection = objection
        self._pool = ConnectionPool(self._connect, connections, wait_seconds)
        self._lock_guard = threading.Lock()
        self._lock: Connection | None = None
        self._lock_statement = ""

    def probe(self) -> None:
        """See Database.probe."""
        with self.write() as connection:
            # a standby refuses it
            postgres.raw(connection).execute("SELECT pg_catalog.pg_current_xact_id()")

    def problem(self) -> str:
        """See Database.problem. The lock goes with its connection: it is claimed again."""
        with self._lock_guard:
            statement, lock = self._lock_statement, self._lock
        if not statement:
            return ""
        problem = self._asked(lock) if lock is not None else None
        if problem is None:
            try:
                problem = self._asked(self._claim(statement))
            except (StartRefusedError, StoreUnavailableError) as error:
                return error.message
        if problem:
            # so that calls meet it too, on the connections they open now
            self._pool.discard_idle()
        return postgres.NOT_REACHED if problem is None else problem

    def exists(self) -> bool:
        """True: who is no superuser cannot tell without connecting."""
        return True

    def create(self) -> None:
        """Nothing: the database and its users are the operator's to make."""

    def join(self) -> None:
        """Hold a shared advisory lock on a connection of its own; it dies with the process.

        Raises:
            StartRefusedError: a command has the database for itself. StoreUnavailableError.
        """
        self._claim(_SHARED)

    def share(self) -> None:
        """Nothing: each process joins."""

    def lock_exclusively(self) -> None:
        """Hold the advisory lock alone.

        Raises:
            StartRefusedError: a server uses the database. StoreUnavailableError.
        """
        self._claim(_ALONE)

    def scrub(self) -> None:
        """Always refused: VACUUM FULL locks whole tables, and is for their owner, whom the service is not.

        Raises:
            StoreUnavailableError.
        """
        raise StoreUnavailableError(
            "the database was not rewritten: on PostgreSQL run `datavault db scrub` as the tables' owner"
        )

    def close(self) -> None:
        """See Database.close."""
        self._pool.close()
        with self._lock_guard:
            lock, self._lock, self._lock_statement = self._lock, None, ""
        if lock is not None:
            lock.close()
        self._engine.dispose()

    # --- connections ----------------------------------------------------------------------------------------

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        problem = self._asked(connection)
        if problem == "":
            return connection
        close_quietly(connection)
        raise StoreUnavailableError(problem or postgres.NOT_REACHED)

    def _asked(self, connection: Connection) -> str | None:
        """The objection to a connection; None, and it is closed, when it does not answer."""
        try:
            return self._objection(connection)
        except (psycopg.Error, SQLAlchemyError):
            close_quietly(connection)
            return None

    # --- blocks ---------------------------------------------------------------------------------------------

    def _begin(self, side: Side, block: Block) -> Connection:
        connection = self._pool.take()
        side.connection = connection
        begin = _BEGIN.get(block)
        if begin is None:
            return connection
        try:
            _run(connection, begin)
        except psycopg.OperationalError as error:
            if not postgres.is_lost(error):
                raise
            # it was lost while it was idle, as after a restart: nothing was asked of it yet
            self._discard(side)
            connection = self._pool.take()
            side.connection = connection
            _run(connection, begin)
        connection.begin()
        return connection

    def _commit(self, side: Side, block: Block) -> None:
        connection = side.connection
        if connection is not None and _has_failed(connection):
            # PostgreSQL answers such a COMMIT with a rollback, and calls that no error
            self._roll_back(side, failed=True)
            raise StoreUnavailableError("a statement of the change had failed")
        super()._commit(side, block)

    def _release(self, side: Side) -> None:
        connection, side.connection = side.connection, None
        if connection is not None:
            self._pool.give(connection)

    def _discard(self, side: Side) -> None:
        connection, side.connection, side.open = side.connection, None, False
        if connection is not None:
            self._pool.discard(connection)
            self._pool.discard_idle()

    def _end_snapshot(self, connection: Connection) -> None:
        # after a rollback psycopg forgets all that the connection prepared
        connection.commit()

    def _translate(self, error: BaseException) -> DatavaultError | None:
        return postgres.translate(error)

    def _is_usable(self, connection: Connection, *, failed: bool) -> bool:
        return _is_alive(connection)

    def _surely_not_committed(self, error: BaseException) -> bool:
        return postgres.surely_not_committed(error)

    def _claim(self, statement: str) -> Connection:
        connection: Connection | None = None
        try:
            connection = self._engine.connect()
            ((taken,),) = postgres.raw(connection).execute(statement, (_LOCK_KEY,)).fetchall()
        except Exception as error:
            if connection is not None:
                close_quietly(connection)
            translated = postgres.translate(error)
            if translated is None:
                raise
            raise translated from None
        if not taken:
            connection.close()
            raise StartRefusedError(
                f"{self.name} is in use: "
                + (
                    "a command that must be alone runs on it; wait for its end"
                    if statement == _SHARED
                    else "stop all its servers first"
                )
            )
        with self._lock_guard:
            self._lock, self._lock_statement = connection, statement
        return connection


def _run(connection: Connection, statement: bytes) -> None:
    """A statement without parameters or rows, past the driver's cursor, which costs more than the trip."""
    postgres.raw(connection).execute(statement)


def _has_failed(connection: Connection) -> bool:
    return postgres.raw(connection).info.transaction_status == TransactionStatus.INERROR


def _is_alive(connection: Connection) -> bool:
    try:
        driver: psycopg.Connection[Any] = postgres.raw(connection)
    except Exception:
        return False
    return not driver.closed
