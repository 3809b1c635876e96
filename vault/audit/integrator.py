"""The integrator: turns appended records into a signed Merkle tree (audit.md, "Durable before release").

One pass:
    1 integrate   new leaves, in order, into tiles and audit_index       a transaction per step
    2 sign        the tree's root, by the keys whose turn it is (signing.py), holding no lock
    3 store       the checkpoint, and queue it for the outside store     one transaction

Each transaction is a state from which the next pass goes on, so it may be killed anywhere. Two integrators
on one log do no harm: the second one's transaction finds `integrated` moved and changes nothing.
"""

from collections.abc import Sequence
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from vault.audit.checkpoint import Checkpoint, sign
from vault.audit.delivery import age_seconds
from vault.audit.indexing import INDEX_COLUMNS, index_row_of_entry
from vault.audit.merkle import root
from vault.audit.outside import outbox_checkpoint
from vault.audit.signing import SigningKeys
from vault.audit.sql import POSTGRESQL, driver_errors, execute, execute_many, fetch
from vault.audit.tree import TreeBuilder, stored_tiles
from vault.domain.errors import AuditUnavailableError, IntegrityError
from vault.domain.protocols import Clock, LogSigners, Transactions

_log = structlog.get_logger("datavault.audit")

_STEP_RECORDS: Final = 512
_ADVISORY_LOCK: Final = 0x64767600
"""With the log's id: replicas share the logs among them."""

_TRY_LOCK: Final = "SELECT pg_catalog.pg_try_advisory_xact_lock(CAST(? AS int), CAST(? AS int))"
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
_FIRST_UNSIGNED: Final = (
    'SELECT entry FROM log_entry WHERE log = ? AND "index" = '
    "(SELECT coalesce(max(size), 0) FROM log_checkpoint WHERE log = ?)"
)


class Integrator:
    """Integrates one log, for one thread at a time."""

    def __init__(self, transactions: Transactions, log: int, signers: LogSigners, clock: Clock) -> None:
        self._transactions = transactions
        self._log = log
        self._keys = SigningKeys(log, signers)
        self._clock = clock
        self._tree: TreeBuilder | None = None

    def run_once(self) -> Checkpoint | None:
        """Integrate what is there, and sign it.

        Returns:
            The new checkpoint, None when there was nothing new to sign.

        Raises:
            KeysUnavailableError: the signer does not answer; records are integrated, the checkpoint lags.
            AuditUnavailableError, StoreUnavailableError: the database does not answer.
            IntegrityError: the stored tree is damaged.
        """
        try:
            while self._integrate_step():
                pass
            return self._sign()
        except _OvertakenError:
            # nothing is wrong: it is done, and what came since is for the next pass
            self._tree = None
            return None
        except BaseException:
            # what is in memory may be ahead of what was committed
            self._tree = None
            raise

    def _integrate_step(self) -> bool:
        """Steps are bounded, and what they write is computed first, so that the write lock is held for
        milliseconds. False: nothing is left."""
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
        index_rows = self._index_rows(leaves)
        with self._transactions.write() as connection, driver_errors(connection):
            if not self._alone(connection):
                return False
            ((_, _, integrated),) = fetch(connection, _HEAD, (self._log,))
            if integrated != tree.size:
                # before the rows are written, so that the loser holds the write lock for a moment only
                raise _OvertakenError("another integrator is at work on this log")
            execute_many(connection, _STORE_TILE, [(self._log, *key, data) for key, data in tiles.items()])
            execute_many(connection, _STORE_INDEX, index_rows)
            # the head row last: appends wait for it
            if execute(connection, _ADVANCE, (grown.size, self._log, tree.size)) != 1:
                raise _OvertakenError("another integrator is at work on this log")
        self._tree = grown
        return True

    def _alone(self, connection: Connection) -> bool:
        """On PostgreSQL a lock that dies with the transaction; SQLite has one writer anyway."""
        if connection.dialect.name != POSTGRESQL:
            return True
        ((taken,),) = fetch(connection, _TRY_LOCK, (_ADVISORY_LOCK, self._log))
        return bool(taken)

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
            previous = last[0][0] if last else 0
            if previous >= tree.size:
                return None
            keys = self._keys.due(connection, origin, previous, tree.size)
        tree_root = tree.root()
        note = sign(origin, tree.size, tree_root, *self._keys.signers(keys))
        now = self._clock.now()
        with self._transactions.write() as connection, driver_errors(connection):
            row = (self._log, tree.size, tree_root, note, now)
            if execute(connection, _STORE_CHECKPOINT, row) == 1:
                outbox_checkpoint(connection, self._log, origin, tree.size, note, now)
        return Checkpoint(origin, tree.size, tree_root, note)


def lag_seconds(connection: Connection, log: int, clock: Clock) -> float:
    """Age of the oldest record of a log without a checkpoint; 0.0 when there is none.

    Raises:
        AuditUnavailableError: the database did not answer.
    """
    with driver_errors(connection):
        unsigned = fetch(connection, _FIRST_UNSIGNED, (log, log))
    rows = [index_row_of_entry(bytes(entry)) for (entry,) in unsigned]
    return max((age_seconds(clock, row[0]) for row in rows if row is not None), default=0.0)


class _OvertakenError(AuditUnavailableError):
    """Another process has integrated these records meanwhile."""
