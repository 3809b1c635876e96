"""Adopting a restored database: a new log origin whose first entry names what was lost, and the tombstones
and negative consent events that must be applied again before anything is served (consent.md, "Outside
store")."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.append import Appender, EncodedRecord
from vault.audit.checkpoint import Checkpoint, check_origin, vkey
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
from vault.audit.record import Record, encode, parse
from vault.audit.sql import driver_errors, execute, fetch
from vault.audit.startup import extends, last_checkpoint, outside_problem, read_checkpoint
from vault.audit.tables import ACTIVE, ADOPTING, CLOSED
from vault.domain.canonical import parse_json
from vault.domain.errors import ConfigurationError, IntegrityError
from vault.domain.protocols import Clock, Randomness, Transactions
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


def adopt_restore(
    transactions: Transactions,
    origin: str,
    store: OutsideStore,
    public_keys: tuple[bytes, ...],
    clock: Clock,
    randomness: Randomness,
    operator: Operator,
) -> Adoption:
    """Close the restored log and open its successor, whose first entry names the lost checkpoint.

    The successor is in state `adopting`: it takes records, and `open_log` refuses to serve from it until
    `finish_adoption`. Run again after a kill, it gives the same adoption.

    Args:
        origin: as configured (without `/rN`).
        public_keys: the log key's known versions, 32 bytes each.

    Raises:
        ConfigurationError: there is nothing to adopt.
        IntegrityError: the outside store's last checkpoint is not signed by a known key.
        AuditUnavailableError, StoreUnavailableError: database or store do not answer.
    """
    check_origin(origin)
    with transactions.write() as connection, driver_errors(connection):
        logs = read_logs(connection)
        current = newest(logs, origin) if logs else create_log(connection, 1, origin, ACTIVE)
        if current.state == ADOPTING:
            return _resume(connection, current, store)
        if not outside_problem(connection, current, store, _vkeys(current.origin, public_keys)):
            raise ConfigurationError("there is nothing to adopt: the log extends its last outside checkpoint")
        lost = last_checkpoint(store, current.origin, _vkeys(current.origin, public_keys))
        restored_size = _common_size(connection, current, store, public_keys)
        successor_origin = _next_origin(origin, logs or [current], store)
        execute(connection, _SET_STATE, (CLOSED, current.log))
        execute(connection, _FORGET, (clock.now(), current.log))
        successor = create_log(connection, current.log + 1, successor_origin, ADOPTING)
        record = _adoption_record(clock, randomness, operator, current.origin, lost, restored_size)
        Appender(successor.log).append(connection, [EncodedRecord(record.id, encode(record))])
        return _resume(connection, successor, store)


def finish_adoption(connection: Connection, log: int) -> None:
    """Open an adopted log for service, in the caller's transaction: all its events are applied again.

    Raises:
        AuditUnavailableError: the database refused.
    """
    with driver_errors(connection):
        execute(connection, _SET_STATE, (ACTIVE, log))


def _next_origin(origin: str, logs: list[OpenLog], store: OutsideStore) -> str:
    after = generation(logs[-1].origin) + 1
    return f"{origin}/r{after + len(successor_origins(origin, store, after))}"


def _vkeys(origin: str, public_keys: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(vkey(origin, key) for key in public_keys)


def _common_size(
    connection: Connection, log: OpenLog, store: OutsideStore, public_keys: tuple[bytes, ...]
) -> int:
    """From which position on events were lost: the log's size where it is a prefix of what was outside, else
    the last outside checkpoint that it still extends."""
    vkeys = _vkeys(log.origin, public_keys)
    paths = [path for path in store.entries(checkpoints_folder(log.origin)) if entry_number(path) <= log.size]
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


def _resume(connection: Connection, log: OpenLog, store: OutsideStore) -> Adoption:
    """What the first entry of an adopting log says, with the events it makes necessary."""
    record = parse(bytes(fetch(connection, _FIRST_ENTRY, (log.log,))[0][0]))
    if record.action != ADOPT_ACTION:
        raise IntegrityError("the first entry of an adopted log must name the lost checkpoint")
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
