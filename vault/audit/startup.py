"""Opening the log, and refusing to serve from one that is not the log the outside store knows.

A restored or truncated database is noticed because its tree is shorter than, or differs from, the last
checkpoint outside (audit.md). The way on is restore.py.
"""

from typing import Final

from sqlalchemy import Connection

from vault.audit.checkpoint import (
    Checkpoint,
    UnknownSignerError,
    check_origin,
    parse_and_verify,
    vkey,
)
from vault.audit.key_chain import follow
from vault.audit.log_keys import LogKey, add_key, first_key, next_signers, read_keys, signer_of
from vault.audit.merkle import root
from vault.audit.origins import (
    OpenLog,
    base_origin,
    create_log,
    generation,
    heads,
    lock_creation,
    read_logs,
    successor_origins,
)
from vault.audit.outside import OutsideStore, checkpoints_folder, entry_number, events_folder
from vault.audit.sql import POSTGRESQL, driver_errors, fetch
from vault.audit.tables import ACTIVE, ADOPTING, CLOSED
from vault.audit.tree import TreeBuilder, stored_tiles
from vault.domain.errors import IntegrityError, StartRefusedError
from vault.domain.protocols import Clock, LogSigners, Transactions

ADOPT_COMMAND: Final = "datavault audit adopt-restore"
MIGRATE_COMMAND: Final = "datavault keys migrate --from local --to transit"
_OTHER_KEY: Final = "this is not the log key of this database: check DATAVAULT_KEYS, the mount, and keys.json"
_DURABLE_POSTGRESQL: Final = ("fsync", "synchronous_commit", "full_page_writes")
_SHOW_POSTGRESQL: Final = "SELECT " + ", ".join(
    f"pg_catalog.current_setting('{name}')" for name in _DURABLE_POSTGRESQL
)
_LAST_NOTE: Final = "SELECT note FROM log_checkpoint WHERE log = ? ORDER BY size DESC LIMIT 1"
_LEAVES: Final = (
    'SELECT leaf_hash FROM log_entry WHERE log = ? AND "index" >= ? AND "index" < ? ORDER BY "index"'
)


def open_log(
    transactions: Transactions,
    origin: str,
    signers: LogSigners,
    clock: Clock,
    *,
    former: bool = False,
) -> OpenLog:
    """The newest log of a family; made on the first start, with the provider's newest key. A log that an
    earlier release made, which names no key, gets the one that signed its newest checkpoint.

    Args:
        origin: the family's, without `/rN`.
        former: it may be closed, because each tenant has a log of its own now.

    Raises:
        ConfigurationError: `origin` is no origin.
        StartRefusedError: an adoption was begun and not finished; the log is closed; or the key that has to
            sign is not at the key provider.
        AuditUnavailableError, StoreUnavailableError, KeysUnavailableError.
    """
    check_origin(origin)
    with transactions.read() as connection, driver_errors(connection):
        check_durability(connection)
        found = heads(read_logs(connection)).get(origin)
    log = found or _create(transactions, origin, signers, clock)
    if log.state == ADOPTING:
        raise StartRefusedError(f"a restore was adopted only in part: run `{ADOPT_COMMAND}` again")
    if log.state == CLOSED and not former:
        raise StartRefusedError("the audit log is closed: this database was left in an unknown state")
    _require_keys(transactions, log, signers, clock)
    return log


def _create(transactions: Transactions, origin: str, signers: LogSigners, clock: Clock) -> OpenLog:
    key = first_key(signers.providers[0], signers.newest())
    with transactions.write() as connection, driver_errors(connection):
        lock_creation(connection)
        # another replica may have been first
        logs = read_logs(connection)
        found = heads(logs).get(origin)
        return found or create_log(connection, logs, origin, ACTIVE, key, clock.now())


def _require_keys(transactions: Transactions, log: OpenLog, signers: LogSigners, clock: Clock) -> None:
    with transactions.read() as connection:
        due = next_signers(connection, log.log, log.size)
    for key in due or (_pin(transactions, log, signers, clock),):
        if key.provider not in signers.providers:
            raise StartRefusedError(
                f"the log key of this database is at {key.provider}: set DATAVAULT_KEYS={key.provider}, or "
                f"finish `{MIGRATE_COMMAND}`"
            )
        try:
            signer_of(key, signers)
        except IntegrityError as error:
            raise StartRefusedError(f"{error.message}: {_OTHER_KEY}") from None


def _pin(transactions: Transactions, log: OpenLog, signers: LogSigners, clock: Clock) -> LogKey:
    """Give a log of an earlier release its first key."""
    with transactions.read() as connection, driver_errors(connection):
        notes = fetch(connection, _LAST_NOTE, (log.log,))
    key = _key_of_earlier_release(log, str(notes[0][0]) if notes else "", signers)
    with transactions.write() as connection:
        # another replica may have been first
        keys = read_keys(connection, log.log)
        if not keys:
            add_key(connection, log.log, key, clock.now())
    return keys[0] if keys else key


def _key_of_earlier_release(log: OpenLog, note: str, signers: LogSigners) -> LogKey:
    """Those signed by whichever version was the newest: what is pinned must be a key that whoever verifies
    this log knows."""
    if not note:
        return first_key(signers.providers[0], signers.newest())
    for key in reversed(signers.versions()):
        try:
            parse_and_verify(note, vkey(log.origin, key.raw))
        except IntegrityError:
            continue
        return first_key(signers.providers[0], key)
    raise StartRefusedError(
        f"no version of the log key signed the last checkpoint of this database: {_OTHER_KEY}"
    )


def check_durability(connection: Connection) -> None:
    """
    Raises:
        StartRefusedError: the database may acknowledge a commit that is not on disk.
    """
    problem = durability_problem(connection)
    if problem:
        raise StartRefusedError(problem)


def durability_problem(connection: Connection) -> str:
    """Why a commit that this connection is told of may not be on disk, '' when it is: one statement. Errors
    are the driver's."""
    if connection.dialect.name == POSTGRESQL:
        values = fetch(connection, _SHOW_POSTGRESQL, ())[0]
        bad = [name for name, value in zip(_DURABLE_POSTGRESQL, values, strict=True) if value == "off"]
        return f"the database must not run with {', '.join(bad)} off: set it to on" if bad else ""
    if fetch(connection, "PRAGMA synchronous", ())[0][0] < 2:
        return "SQLite must run with synchronous=FULL"
    return ""


def check_outside(connection: Connection, log: OpenLog, store: OutsideStore, *vkeys: str) -> None:
    """Check that the tree extends the last checkpoint outside, and holds every event written there.

    That checkpoint must be signed by one of `vkeys`, or by a key that their announcements lead to.

    Raises:
        StartRefusedError: it does not: the database was restored, truncated or changed; or the last
            checkpoint is not by this log key. Says what to do.
        StoreUnavailableError, AuditUnavailableError: store or database do not answer: do not start.
    """
    known = follow(connection, log.log, log.origin, vkeys).vkeys
    try:
        problem = outside_problem(connection, log, store, known)
    except IntegrityError as error:
        raise StartRefusedError(error.message) from None
    if problem:
        raise StartRefusedError(
            f"{problem}. If this database was restored from a backup on purpose, run `{ADOPT_COMMAND}`"
        )


def provider_vkeys(log: OpenLog, signers: LogSigners) -> tuple[str, ...]:
    """What to trust where the provider is at hand: every version of its log key, as a key of this log.

    Raises:
        KeysUnavailableError.
    """
    return tuple(vkey(log.origin, key.raw) for key in signers.versions())


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
            "the last checkpoint in the outside store cannot be trusted (another key signed it): "
            f"{_OTHER_KEY}. For a backup from before `keys migrate` see docs/operations/keys.md"
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
