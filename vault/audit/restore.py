"""Adopting a restored database: a new log origin whose first entry names what was lost, and the tombstones
and negative consent events that must be applied again before anything is served (consent.md, "Outside
store")."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.append import Appender, EncodedRecord
from vault.audit.checkpoint import Checkpoint, check_origin, parse_vkey, vkey
from vault.audit.key_chain import follow
from vault.audit.log_keys import LogKey, first_key
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
from vault.audit.record import Record, parse
from vault.audit.sql import driver_errors, execute, fetch
from vault.audit.startup import extends, last_checkpoint, outside_problem, read_checkpoint
from vault.audit.tables import ACTIVE, ADOPTING, CLOSED
from vault.domain.canonical import parse_json
from vault.domain.errors import ConfigurationError, IntegrityError
from vault.domain.protocols import Clock, LogSigners, Randomness, Transactions
from vault.domain.system import uuid7
from vault.domain.types import UNKNOWN_SUBJECT, Outcome

ADOPT_ACTION: Final = "log.adopt-restore"
_SET_STATE: Final = "UPDATE log SET state = ? WHERE log = ?"
_FIRST_ENTRY: Final = 'SELECT entry FROM log_entry WHERE log = ? AND "index" = 0'
_FORGET: Final = (
    "UPDATE outbox SET delivered_at = ? WHERE log = ? AND kind = 'checkpoint' AND delivered_at IS NULL"
)


@dataclass(frozen=True, slots=True)
class OutsideEvent:
    """A tombstone or negative consent event that the restore lost: where it stood, and its document."""

    origin: str
    position: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Adoption:
    """A log that was opened after a restore, and what has to be applied again, in this order, before
    `finish_adoption` opens it for service. Applying one twice must do no harm."""

    log: OpenLog
    lost_origin: str
    lost_size: int
    restored_size: int
    events: tuple[OutsideEvent, ...]


@dataclass(frozen=True, slots=True)
class Operator:
    """Who runs the adoption: fields of its record."""

    tenant: str
    caller: str
    identity: str


def adopt_restores(
    transactions: Transactions,
    families: Mapping[str, Operator],
    store: OutsideStore,
    signers: LogSigners,
    clock: Clock,
    randomness: Randomness,
    vkeys: Sequence[str] = (),
) -> tuple[Adoption, ...]:
    """Close each log that lost records and open its successor, whose first entry names the lost checkpoint,
    and which the provider's newest key signs. Logs that lost nothing are left as they are.

    A successor is in state `adopting`: it takes records, and `open_log` refuses to serve from it until
    `finish_adoption`. All are opened in one transaction; run again after a kill, it gives the same adoptions.

    Args:
        families: origins without `/rN`, with who adopts each; in this order events are to be applied again.
        vkeys: more keys of the lost logs: where they went on under another provider's key after the backup.

    Raises:
        ConfigurationError: there is nothing to adopt.
        IntegrityError: the outside store's last checkpoint is not signed by a known key.
        AuditUnavailableError, StoreUnavailableError, KeysUnavailableError: one of them does not answer.
    """
    public_keys = [key.raw for key in signers.versions()] + [parse_vkey(text).public_key for text in vkeys]
    key = first_key(signers.providers[0], signers.newest())
    checkpoints = _checkpoints(transactions, families, store, public_keys)
    with transactions.write() as connection, driver_errors(connection):
        lock_creation(connection)
        adopting = _Adopting(connection, store, checkpoints, key, public_keys, clock, randomness)
        found = [adopting.adopt(origin, operator) for origin, operator in families.items()]
        adopted = [each for each in found if each is not None]
        if not adopted:
            raise ConfigurationError(
                "there is nothing to adopt: every log extends its last outside checkpoint"
            )
    # each event is a request to an object store, and no transaction may be idle for so long
    return tuple(_adoption(log, record, store) for log, record in adopted)


@dataclass(frozen=True, slots=True)
class _Adopting:
    """Adopts logs in one transaction. `checkpoints` are those outside of each log that lost records."""

    connection: Connection
    store: OutsideStore
    checkpoints: Mapping[str, list[str]]
    key: LogKey
    public_keys: Sequence[bytes]
    clock: Clock
    randomness: Randomness

    def adopt(self, origin: str, operator: Operator) -> tuple[OpenLog, Record] | None:
        """The log that a family's newest one is adopted by, and its first record; None where that one lost
        nothing."""
        check_origin(origin)
        connection, store = self.connection, self.store
        log = heads(read_logs(connection)).get(origin) or self._create(origin, ACTIVE)
        if log.state == ADOPTING:
            return log, _first_record(connection, log)
        if log.origin not in self.checkpoints:
            return None
        known = _known_keys(connection, log, self.public_keys)
        lost = last_checkpoint(store, log.origin, known)
        restored_size = _common_size(connection, log, self.checkpoints[log.origin], store, known)
        record = _adoption_record(self.clock, self.randomness, operator, log.origin, lost, restored_size)
        return self._replace(log, _next_origin(origin, log, store), record), record

    def _replace(self, log: OpenLog, origin: str, record: Record) -> OpenLog:
        """Close a log, and open its successor with its first record."""
        execute(self.connection, _SET_STATE, (CLOSED, log.log))
        execute(self.connection, _FORGET, (self.clock.now(), log.log))
        successor = self._create(origin, ADOPTING)
        Appender(successor.log).append(self.connection, [EncodedRecord.of(record)])
        return successor

    def _create(self, origin: str, state: str) -> OpenLog:
        logs = read_logs(self.connection)
        return create_log(self.connection, logs, origin, state, self.key, self.clock.now())


def finish_adoption(connection: Connection, log: int) -> None:
    """Open an adopted log for service, in the caller's transaction: all its events are applied again.

    Raises:
        AuditUnavailableError: the database refused.
    """
    with driver_errors(connection):
        execute(connection, _SET_STATE, (ACTIVE, log))


def _next_origin(origin: str, current: OpenLog, store: OutsideStore) -> str:
    after = generation(current.origin) + 1
    return f"{origin}/r{after + len(successor_origins(origin, store, after))}"


def _checkpoints(
    transactions: Transactions, families: Iterable[str], store: OutsideStore, public_keys: Sequence[bytes]
) -> dict[str, list[str]]:
    """Those of each newest log that lost records, by its origin. Looked up outside any transaction: there may
    be a million."""
    with transactions.read() as connection, driver_errors(connection):
        known = heads(read_logs(connection))
        logs = [known.get(origin) or OpenLog(0, origin, 0, 0, ACTIVE) for origin in families]
        lost = [
            log.origin
            for log in logs
            if log.state != ADOPTING
            and outside_problem(connection, log, store, _known_keys(connection, log, public_keys))
        ]
    return {origin: store.entries(checkpoints_folder(origin)) for origin in lost}


def _known_keys(connection: Connection, log: OpenLog, public_keys: Sequence[bytes]) -> tuple[str, ...]:
    trusted = [vkey(log.origin, public_key) for public_key in public_keys]
    return follow(connection, log.log, log.origin, trusted).vkeys


def _common_size(
    connection: Connection, log: OpenLog, checkpoints: list[str], store: OutsideStore, vkeys: tuple[str, ...]
) -> int:
    """From which position on events were lost: the log's size where it is a prefix of what was outside, else
    the last outside checkpoint that it still extends."""
    paths = [path for path in checkpoints if entry_number(path) <= log.size]
    low, high = 0, len(paths)
    while low < high:
        middle = (low + high) // 2
        if extends(connection, log, read_checkpoint(paths[middle], store, log.origin, vkeys)):
            low = middle + 1
        else:
            high = middle
    if low == len(paths):
        return log.size
    return entry_number(paths[low - 1]) if low else 0


# --- adoption ---------------------------------------------------------------------------------------------


def _adoption_record(
    clock: Clock,
    randomness: Randomness,
    operator: Operator,
    lost_origin: str,
    lost: Checkpoint | None,
    restored_size: int,
) -> Record:
    return Record(
        id=uuid7(clock, randomness),
        time=clock.now(),
        tenant=operator.tenant,
        caller=operator.caller,
        identity=operator.identity,
        action=ADOPT_ACTION,
        subject=UNKNOWN_SUBJECT,
        outcome=Outcome.AUTHORISED.value,
        detail={
            "lost_origin": lost_origin,
            "lost_size": lost.size if lost else 0,
            "lost_root": lost.root.hex() if lost else "",
            "restored_size": restored_size,
        },
    )


def _first_record(connection: Connection, log: OpenLog) -> Record:
    record = parse(bytes(fetch(connection, _FIRST_ENTRY, (log.log,))[0][0]))
    if record.action != ADOPT_ACTION:
        raise IntegrityError("the first entry of an adopted log must name the lost checkpoint")
    return record


def _adoption(log: OpenLog, record: Record, store: OutsideStore) -> Adoption:
    """What the first record of an adopting log says, with the events it makes necessary."""
    lost_origin, restored_size = str(record.detail["lost_origin"]), int(record.detail["restored_size"])
    events = _events(store, lost_origin, restored_size)
    first, past = generation(lost_origin) + 1, generation(log.origin)
    for forgotten in range(first, past):
        # logs that this database has forgotten altogether: it was restored to before they were opened
        events += _events(store, f"{base_origin(lost_origin)}/r{forgotten}", 0)
    return Adoption(log, lost_origin, int(record.detail["lost_size"]), restored_size, tuple(events))


def _events(store: OutsideStore, origin: str, first: int) -> list[OutsideEvent]:
    return [
        OutsideEvent(origin, entry_number(path), _document(store.get(path)))
        for path in store.entries(events_folder(origin), first)
    ]


def _document(content: bytes | None) -> dict[str, Any]:
    try:
        document = parse_json(content or b"")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise IntegrityError("an event in the outside store is not a JSON object")
    return document
