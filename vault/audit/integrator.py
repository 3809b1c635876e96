"""The integrator: turns appended records into a signed Merkle tree (audit.md, "Durable before release").

One pass:
    1 integrate   new leaves, in order, into tiles and audit_index       a transaction per step
    2 sign        the tree's root, holding no lock
    3 store       the checkpoint, and queue it for the outside store     one transaction
    4 deliver     the outbox to the outside store, then mark it          outside first

Each transaction is a state from which the next pass goes on, so it may be killed anywhere. Two integrators
on one log do no harm: the second one's transaction finds `integrated` moved and changes nothing.
"""

import threading
from collections.abc import Sequence
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from vault.audit.checkpoint import Checkpoint, sign
from vault.audit.indexing import INDEX_COLUMNS, index_row_of_entry
from vault.audit.merkle import root
from vault.audit.outside import OutsideStore, outbox_checkpoint
from vault.audit.sql import POSTGRESQL, driver_errors, execute, execute_many, fetch
from vault.audit.tree import TreeBuilder, stored_tiles
from vault.domain.errors import AuditUnavailableError, DatavaultError, IntegrityError
from vault.domain.protocols import Clock, Signer, Transactions

_log = structlog.get_logger("datavault.audit")

_STEP_RECORDS: Final = 256
_DELIVERIES: Final = 256
_INTERVAL_SECONDS: Final = 0.5
"""Between passes under load; with the pass itself it stays under the second that audit.md promises."""
_POLL_SECONDS: Final = 1.0
"""Records of other processes are noticed without a notification."""
_LONGEST_BACKOFF_SECONDS: Final = 30.0
_ADVISORY_LOCK: Final = 0x64767600

_HEAD: Final = "SELECT origin, size, integrated FROM log WHERE log = ?"
_LAST_CHECKPOINT: Final = (
    "SELECT size, root, note FROM log_checkpoint WHERE log = ? ORDER BY size DESC LIMIT 1"
)
_LEAVES: Final = (
    'SELECT "index", entry, leaf_hash FROM log_entry WHERE log = ? AND "index" >= ? ORDER BY "index" LIMIT ?'
)
_ADVANCE: Final = "UPDATE log SET integrated = ? WHERE log = ? AND integrated = ?"
_STORE_TILE: Final = (
    'INSERT INTO log_tile (log, level, "index", hashes) VALUES (?, ?, ?, ?) '
    'ON CONFLICT (log, level, "index") DO UPDATE SET hashes = excluded.hashes'
)
_STORE_INDEX: Final = (
    f'INSERT INTO audit_index (log, "index", {INDEX_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) '  # noqa: S608 -- a constant
    'ON CONFLICT (log, "index") DO NOTHING'
)
_STORE_CHECKPOINT: Final = (
    "INSERT INTO log_checkpoint (log, size, root, note, signed_at) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (log, size) DO NOTHING"
)
_WAITING: Final = (
    "SELECT id, path, document FROM outbox WHERE delivered_at IS NULL AND id > ? ORDER BY id LIMIT ?"
)
_DELIVERED: Final = "UPDATE outbox SET delivered_at = ? WHERE id = ?"
_OLDEST_WAITING: Final = "SELECT min(created_at) FROM outbox WHERE delivered_at IS NULL"
_FIRST_UNSIGNED: Final = (
    'SELECT entry FROM log_entry WHERE log = ? AND "index" = '
    "(SELECT coalesce(max(size), 0) FROM log_checkpoint WHERE log = ?)"
)


class Integrator:
    """Integrates one log. `run_once` is for one thread at a time; `start` gives it a thread of its own."""

    def __init__(
        self,
        transactions: Transactions,
        log: int,
        signer: Signer,
        clock: Clock,
        outside: OutsideStore | None = None,
        *,
        interval_seconds: float = _INTERVAL_SECONDS,
    ) -> None:
        self._transactions = transactions
        self._log = log
        self._signer = signer
        self._clock = clock
        self._outside = outside
        self._interval = interval_seconds
        self._tree: TreeBuilder | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # --- one pass ---------------------------------------------------------------------------------------

    def run_once(self) -> Checkpoint | None:
        """Integrate what is there, sign it, deliver the outbox.

        Returns:
            The new checkpoint, None when there was nothing new to sign.

        Raises:
            KeysUnavailableError: the signer does not answer; records are integrated, the checkpoint lags.
            AuditUnavailableError, StoreUnavailableError: the database or the outside store does not answer.
            IntegrityError: the stored tree is damaged, or the outside store holds another history.
        """
        failure: DatavaultError | None = None
        signed: Checkpoint | None = None
        try:
            signed = self._integrate_and_sign()
        except DatavaultError as error:
            # what waits in the outbox must get out even while nothing can be signed
            failure = error
        self._deliver()
        if failure is not None:
            raise failure
        return signed

    def _integrate_and_sign(self) -> Checkpoint | None:
        try:
            while self._integrate_step():
                pass
            return self._sign()
        except BaseException:
            # what is in memory may be ahead of what was committed
            self._tree = None
            raise

    def _integrate_step(self) -> bool:
        """Steps are bounded so that the write lock is held for milliseconds. False: nothing is left."""
        tree = self._tree or self._load()
        with self._transactions.read() as connection, driver_errors(connection):
            leaves = fetch(connection, _LEAVES, (self._log, tree.size, _STEP_RECORDS))
        self._tree = tree
        if not leaves:
            return False
        if [leaf[0] for leaf in leaves] != list(range(tree.size, tree.size + len(leaves))):
            raise IntegrityError(f"the audit log has a gap at index {tree.size} or after it")
        grown = tree.copy()
        tiles = grown.add([bytes(leaf[2]) for leaf in leaves])
        with self._transactions.write() as connection, driver_errors(connection):
            if not _alone(connection):
                return False
            execute_many(connection, _STORE_TILE, [(self._log, *key, data) for key, data in tiles.items()])
            execute_many(connection, _STORE_INDEX, self._index_rows(leaves))
            # the head row last: appends wait for it
            if execute(connection, _ADVANCE, (grown.size, self._log, tree.size)) != 1:
                raise AuditUnavailableError("another integrator is at work on this log")
        self._tree = grown
        return True

    def _index_rows(self, leaves: Sequence[Any]) -> list[tuple[Any, ...]]:
        rows = []
        for index, entry, _ in leaves:
            row = index_row_of_entry(bytes(entry))
            if row is None:
                # a changed record must not stop the log: verification names it
                _log.error("audit_entry_unreadable", log=self._log, index=index)
                continue
            rows.append((self._log, index, *row))
        return rows

    def _load(self) -> TreeBuilder:
        with self._transactions.read() as connection, driver_errors(connection):
            ((_, _, integrated),) = fetch(connection, _HEAD, (self._log,))
            tiles = stored_tiles(connection, self._log)
            tree = TreeBuilder(integrated, tiles)
            for size, signed_root, _ in fetch(connection, _LAST_CHECKPOINT, (self._log,)):
                # never sign a tree that does not extend what was signed
                if size > integrated or root(size, tiles) != bytes(signed_root):
                    raise IntegrityError(
                        "the stored tree is not the one that was signed: run an audit verify"
                    )
        return tree

    def _sign(self) -> Checkpoint | None:
        tree = self._tree
        if tree is None or tree.size == 0:
            return None
        with self._transactions.read() as connection, driver_errors(connection):
            ((origin, _, _),) = fetch(connection, _HEAD, (self._log,))
            last = fetch(connection, _LAST_CHECKPOINT, (self._log,))
        if last and last[0][0] >= tree.size:
            return None
        tree_root = tree.root()
        note = sign(origin, tree.size, tree_root, self._signer)
        now = self._clock.now()
        with self._transactions.write() as connection, driver_errors(connection):
            row = (self._log, tree.size, tree_root, note, now)
            if execute(connection, _STORE_CHECKPOINT, row) == 1:
                outbox_checkpoint(connection, self._log, origin, tree.size, note, now)
        return Checkpoint(origin, tree.size, tree_root, note)

    # --- outbox -----------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Outside first, then mark: what is delivered twice is the same content at the same place."""
        if self._outside is None:
            return
        last = 0
        while True:
            with self._transactions.read() as connection, driver_errors(connection):
                waiting = fetch(connection, _WAITING, (last, _DELIVERIES))
            if not waiting:
                return
            last = waiting[-1][0]
            delivered = [
                item for item, path, document in waiting if self._put(self._outside, path, bytes(document))
            ]
            now = self._clock.now()
            with self._transactions.write() as connection, driver_errors(connection):
                execute_many(connection, _DELIVERED, [(now, item) for item in delivered])

    def _put(self, outside: OutsideStore, path: str, document: bytes) -> bool:
        try:
            outside.put(path, document)
        except IntegrityError:
            # it waits on, and the lag shows it; entries behind it must get out all the same
            _log.error("outside_store_holds_another_history", log=self._log, entry=path)
            return False
        return True

    def lag_seconds(self) -> float:
        """Age of the oldest record without a checkpoint, or outbox entry not delivered; 0.0 when none waits.

        Raises:
            AuditUnavailableError, StoreUnavailableError: the database does not answer.
        """
        with self._transactions.read() as connection, driver_errors(connection):
            ((oldest,),) = fetch(connection, _OLDEST_WAITING, ())
            unsigned = fetch(connection, _FIRST_UNSIGNED, (self._log, self._log))
        rows = [index_row_of_entry(bytes(entry)) for (entry,) in unsigned]
        times = [row[0] for row in rows if row is not None]
        if oldest is not None and self._outside is not None:
            times.append(oldest)
        return max(0.0, (self._clock.now() - min(times)) / 1e6) if times else 0.0

    # --- thread -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run passes in a thread until `stop`."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._loop, name="audit-integrator", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Make a last pass and end the thread."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def notify(self) -> None:
        """Say that records were committed. Cheap; from any thread."""
        self._wake.set()

    def _loop(self) -> None:
        pause = self._interval
        while not self._stopping.is_set():
            self._wake.wait(_POLL_SECONDS)
            self._wake.clear()
            pause = self._interval if self._attempt() else min(2 * pause, _LONGEST_BACKOFF_SECONDS)
            # records that come meanwhile share the next checkpoint
            self._stopping.wait(pause)
        self._attempt()

    def _attempt(self) -> bool:
        try:
            self.run_once()
        except DatavaultError as error:
            _log.warning("audit_integration_delayed", log=self._log, reason=str(error.reason))
            return False
        except Exception:
            _log.exception("audit_integration_failed", log=self._log)
            return False
        return True


def _alone(connection: Connection) -> bool:
    """On PostgreSQL a lock that dies with the transaction; SQLite has one writer anyway."""
    if connection.dialect.name != POSTGRESQL:
        return True
    ((taken,),) = fetch(connection, "SELECT pg_try_advisory_xact_lock(?)", (_ADVISORY_LOCK,))
    return bool(taken)
