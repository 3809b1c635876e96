"""Opening the log, and refusing to serve from one that is not the log the outside store knows.

A restored or truncated database is noticed because its tree is shorter than, or differs from, the last
checkpoint outside (audit.md). The way on is restore.py.
"""

from typing import Final

from sqlalchemy import Connection

from vault.audit.checkpoint import Checkpoint, UnknownSignerError, check_origin, parse_and_verify
from vault.audit.merkle import root
from vault.audit.origins import (
    OpenLog,
    base_origin,
    create_log,
    generation,
    newest,
    read_logs,
    successor_origins,
)
from vault.audit.outside import OutsideStore, checkpoints_folder, entry_number, events_folder
from vault.audit.sql import POSTGRESQL, driver_errors, fetch
from vault.audit.tables import ACTIVE, ADOPTING
from vault.audit.tree import TreeBuilder, stored_tiles
from vault.domain.errors import IntegrityError, StartRefusedError
from vault.domain.protocols import Transactions

ADOPT_COMMAND: Final = "datavault audit adopt-restore"
_POSTGRESQL_REFUSED: Final = {"fsync": ("off",), "synchronous_commit": ("off",), "full_page_writes": ("off",)}
_LEAVES: Final = (
    'SELECT leaf_hash FROM log_entry WHERE log = ? AND "index" >= ? AND "index" < ? ORDER BY "index"'
)


def open_log(transactions: Transactions, origin: str) -> OpenLog:
    """The log to append to; made on the first start.

    Raises:
        ConfigurationError: `origin` is no origin, or not that of this database.
        StartRefusedError: an adoption was begun and not finished.
        AuditUnavailableError, StoreUnavailableError: the database does not answer.
    """
    check_origin(origin)
    with transactions.write() as connection, driver_errors(connection):
        check_durability(connection)
        logs = read_logs(connection)
        if not logs:
            return create_log(connection, 1, origin, ACTIVE)
    log = newest(logs, origin)
    if log.state == ADOPTING:
        raise StartRefusedError(f"a restore was adopted only in part: run `{ADOPT_COMMAND}` again")
    if log.state != ACTIVE:
        raise StartRefusedError("the audit log is closed: this database was left in an unknown state")
    return log


def check_durability(connection: Connection) -> None:
    """
    Raises:
        StartRefusedError: the database may acknowledge a commit that is not on disk.
    """
    if connection.dialect.name == POSTGRESQL:
        settings = {name: fetch(connection, f"SHOW {name}", ())[0][0] for name in _POSTGRESQL_REFUSED}
        bad = [name for name, values in _POSTGRESQL_REFUSED.items() if settings[name] in values]
        if bad:
            raise StartRefusedError(f"the database must not run with {', '.join(bad)} off: set it to on")
    elif fetch(connection, "PRAGMA synchronous", ())[0][0] < 2:
        raise StartRefusedError("SQLite must run with synchronous=FULL")


def check_outside(connection: Connection, log: OpenLog, store: OutsideStore, *vkeys: str) -> None:
    """Check that the tree extends the last checkpoint outside, and holds every event written there.

    Raises:
        StartRefusedError: it does not: the database was restored, truncated or changed; or the last
            checkpoint is not by this log key. Says what to do.
        StoreUnavailableError, AuditUnavailableError: store or database do not answer: do not start.
    """
    try:
        problem = outside_problem(connection, log, store, vkeys)
    except IntegrityError as error:
        raise StartRefusedError(error.message) from None
    if problem:
        raise StartRefusedError(
            f"{problem}. If this database was restored from a backup on purpose, run `{ADOPT_COMMAND}`"
        )


# --- what is outside --------------------------------------------------------------------------------------


def outside_problem(
    connection: Connection, log: OpenLog, store: OutsideStore, vkeys: tuple[str, ...]
) -> str | None:
    """What shows that the log lost records, or None.

    Raises:
        IntegrityError: the last checkpoint proves nothing, so adopting would not help; says what to do.
        StoreUnavailableError, AuditUnavailableError.
    """
    checkpoint = last_checkpoint(store, log.origin, vkeys)
    event = store.last(events_folder(log.origin))
    if event is not None and entry_number(event) >= log.size:
        return "the outside store holds an event that the audit log no longer has"
    if successor_origins(base_origin(log.origin), store, generation(log.origin) + 1):
        return "the outside store knows a later audit log than this database"
    if checkpoint is None:
        return None
    if checkpoint.size > log.size:
        return (
            f"the audit log holds {log.size} records and its last checkpoint outside covers {checkpoint.size}"
        )
    if not extends(connection, log, checkpoint):
        return f"the audit log is not the one whose checkpoint of {checkpoint.size} records is outside"
    return None


def last_checkpoint(store: OutsideStore, origin: str, vkeys: tuple[str, ...]) -> Checkpoint | None:
    """The newest checkpoint outside, None where there is none.

    Raises:
        IntegrityError: it is not signed by the log key, or belongs elsewhere; says what to do.
        StoreUnavailableError.
    """
    path = store.last(checkpoints_folder(origin))
    if path is None:
        return None
    try:
        return read_checkpoint(path, store, origin, vkeys)
    except UnknownSignerError:
        raise IntegrityError(
            "the last checkpoint in the outside store cannot be trusted (another key signed it): this is not "
            "the log key of this database: check DATAVAULT_KEYS, the mount, and keys.json"
        ) from None
    except IntegrityError as error:
        raise IntegrityError(
            f"the last checkpoint in the outside store cannot be trusted ({error.message}): find out who "
            f"wrote {path} there, and restore the store from its backup"
        ) from None


def read_checkpoint(path: str, store: OutsideStore, origin: str, vkeys: tuple[str, ...]) -> Checkpoint:
    content = store.get(path) or b""
    try:
        checkpoint = parse_and_verify(content.decode("utf-8"), *vkeys)
    except UnicodeDecodeError:
        raise IntegrityError("the checkpoint is not Unicode text") from None
    except UnknownSignerError as error:
        if error.origin == origin:
            raise
        raise IntegrityError("the checkpoint belongs to another place") from None
    if checkpoint.origin != origin or checkpoint.size != entry_number(path):
        raise IntegrityError("the checkpoint belongs to another place")
    return checkpoint


def extends(connection: Connection, log: OpenLog, checkpoint: Checkpoint) -> bool:
    tiles = stored_tiles(connection, log.log)
    try:
        if checkpoint.size <= log.integrated:
            return root(checkpoint.size, tiles) == checkpoint.root
        tree = TreeBuilder(log.integrated, tiles)
        tree.add(
            bytes(leaf) for (leaf,) in fetch(connection, _LEAVES, (log.log, log.integrated, checkpoint.size))
        )
        return tree.size == checkpoint.size and tree.root() == checkpoint.root
    except IntegrityError:
        return False
