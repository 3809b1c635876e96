"""The logs of one database.

    <origin>                   the log of all tenants
    <origin>/tenant-<tenant>   a tenant's own (DATAVAULT_LOGS=tenant)

After an adopted restore either goes on in its successor, `.../rN`. A log and its successors are a family: the
newest is in use, the others are closed. No tenant's name makes an origin of another kind: the last segment of
a tenant's is never `rN`, nor a folder of the outside store.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from vault.audit.log_keys import LogKey, add_key
from vault.audit.logbook import ALL_TENANTS, LogPlace
from vault.audit.outside import OutsideStore, checkpoints_folder, events_folder
from vault.audit.sql import POSTGRESQL, driver_errors, execute, fetch
from vault.domain.errors import ConfigurationError

_SUCCESSOR: Final = re.compile(r"(?P<base>.+?)(?:/r(?P<number>[1-9][0-9]{0,8}))?")
_OF_TENANT: Final = "/tenant-"
_COLUMNS: Final = "log, origin, size, integrated, state"
_LOGS: Final = f"SELECT {_COLUMNS} FROM log ORDER BY log"  # noqa: S608 -- a constant
_CREATE: Final = "INSERT INTO log (log, origin, size, integrated, state) VALUES (?, ?, 0, 0, ?)"
_CREATION_LOCK: Final = 0x64767602


@dataclass(frozen=True, slots=True)
class OpenLog:
    """The head row of a log."""

    log: int
    origin: str
    size: int
    integrated: int
    state: str


def read_logs(connection: Connection) -> list[OpenLog]:
    """All logs of the database, oldest first. Call it under `driver_errors`."""
    return [OpenLog(*row) for row in fetch(connection, _LOGS, ())]


def has_log(connection: Connection) -> bool:
    """Whether the database was ever served: logs are made by the first start.

    Raises:
        AuditUnavailableError: the database did not answer.
    """
    with driver_errors(connection):
        return bool(read_logs(connection))


def lock_creation(connection: Connection) -> None:
    """One replica at a time makes logs: what `read_logs` says after this holds until the transaction ends.

    SQLite has one writer anyway. Call it under `driver_errors`.
    """
    if connection.dialect.name == POSTGRESQL:
        fetch(connection, "SELECT pg_catalog.pg_advisory_xact_lock(CAST(? AS bigint))", (_CREATION_LOCK,))


def create_log(
    connection: Connection, logs: Sequence[OpenLog], origin: str, state: str, key: LogKey, now: int
) -> OpenLog:
    """Insert the head row of an empty log beside `logs`, and its first key. Call it under `driver_errors`.

    `now` is microseconds since 1970 UTC.
    """
    log = max((known.log for known in logs), default=0) + 1
    execute(connection, _CREATE, (log, origin, state))
    add_key(connection, log, key, now)
    return OpenLog(log, origin, 0, 0, state)


# --- families ---------------------------------------------------------------------------------------------


def heads(logs: Iterable[OpenLog]) -> dict[str, OpenLog]:
    """The newest log of each family, by the family's origin. `logs` are the oldest first."""
    return {base_origin(log.origin): log for log in logs}


def heads_of(connection: Connection, origin: str) -> tuple[OpenLog, ...]:
    """The newest log of each family, in whatever state: that of all tenants first, if there is one.

    Raises:
        ConfigurationError: the database holds no log, or another origin's.
        AuditUnavailableError: the database did not answer.
    """
    with driver_errors(connection):
        found = heads(read_logs(connection))
    if not found:
        raise ConfigurationError("this database holds no audit log yet: start the service once")
    return tuple(sorted(found.values(), key=lambda log: (tenant_of(log.origin, origin), log.log)))


def tenant_origin(origin: str, tenant: str) -> str:
    """The origin of a tenant's own log; with ALL_TENANTS, of the log of all."""
    return origin if tenant == ALL_TENANTS else f"{origin}{_OF_TENANT}{tenant}"


def tenant_of(log_origin: str, origin: str) -> str:
    """Whose log one of the configured `origin` is.

    Raises:
        ConfigurationError: it is another origin's.
    """
    base = base_origin(log_origin)
    if base == origin:
        return ALL_TENANTS
    before, _, tenant = base.rpartition(_OF_TENANT)
    if before != origin:
        raise ConfigurationError(f"this database holds the audit log {base}, not {origin}: DATAVAULT_ORIGIN")
    return tenant


def place_of(log: OpenLog, origin: str) -> LogPlace:
    """
    Raises: as `tenant_of`.
    """
    return LogPlace(log.log, log.origin, tenant_of(log.origin, origin))


def base_origin(origin: str) -> str:
    """The origin of the family: without the `/rN` that adoptions add."""
    match = _SUCCESSOR.fullmatch(origin)
    return match["base"] if match else origin


def successor_origins(origin: str, store: OutsideStore, start: int) -> list[str]:
    """Origins `<origin>/rN` from N = start on that the outside store knows."""
    found: list[str] = []
    while is_outside(candidate := f"{origin}/r{start + len(found)}", store):
        found.append(candidate)
    return found


def is_outside(origin: str, store: OutsideStore) -> bool:
    """Whether the outside store knows a log of this very origin.

    Raises:
        StoreUnavailableError.
    """
    return any(store.last(folder(origin)) is not None for folder in (checkpoints_folder, events_folder))


def generation(origin: str) -> int:
    """N of `<origin>/rN`, 1 for the origin as configured."""
    match = _SUCCESSOR.fullmatch(origin)
    return int(match["number"]) if match and match["number"] else 1
