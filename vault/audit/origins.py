"""The logs of one database: a log per origin, and after each adopted restore the successor `<origin>/rN`."""

import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from vault.audit.outside import OutsideStore, checkpoints_folder, events_folder
from vault.audit.sql import driver_errors, execute, fetch
from vault.domain.errors import ConfigurationError

_SUCCESSOR: Final = re.compile(r"(?P<base>.+?)(?:/r(?P<number>[1-9][0-9]{0,8}))?")
_COLUMNS: Final = "log, origin, size, integrated, state"
_LOGS: Final = f"SELECT {_COLUMNS} FROM log ORDER BY log"  # noqa: S608 -- a constant
_CREATE: Final = "INSERT INTO log (log, origin, size, integrated, state) VALUES (?, ?, 0, 0, ?)"


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
    """Whether the database was ever served: the log is made by the first start.

    Raises:
        AuditUnavailableError: the database did not answer.
    """
    with driver_errors(connection):
        return bool(read_logs(connection))


def create_log(connection: Connection, log: int, origin: str, state: str) -> OpenLog:
    """Insert the head row of an empty log. Call it under `driver_errors`."""
    execute(connection, _CREATE, (log, origin, state))
    return OpenLog(log, origin, 0, 0, state)


def newest(logs: list[OpenLog], origin: str) -> OpenLog:
    """The newest log of the configured origin; older ones are closed.

    Raises:
        ConfigurationError: the database belongs to another origin.
    """
    log = logs[-1]
    if log.origin != origin and base_origin(log.origin) != origin:
        raise ConfigurationError(f"this database holds the audit log {logs[0].origin}, not {origin}")
    return log


def newest_log(connection: Connection, origin: str) -> OpenLog:
    """The newest log of the configured origin, in whatever state it is.

    Raises:
        ConfigurationError: the database holds no log, or another origin's.
        AuditUnavailableError: the database did not answer.
    """
    with driver_errors(connection):
        logs = read_logs(connection)
    if not logs:
        raise ConfigurationError("this database holds no audit log yet: start the service once")
    return newest(logs, origin)


def base_origin(origin: str) -> str:
    """The origin as configured, without the `/rN` that adoptions add."""
    match = _SUCCESSOR.fullmatch(origin)
    return match["base"] if match else origin


def successor_origins(origin: str, store: OutsideStore, start: int) -> list[str]:
    """Origins `<origin>/rN` from N = start on that the outside store knows."""
    found: list[str] = []
    while store.last(checkpoints_folder(candidate := f"{origin}/r{start + len(found)}")) is not None or (
        store.last(events_folder(candidate)) is not None
    ):
        found.append(candidate)
    return found


def generation(origin: str) -> int:
    """N of `<origin>/rN`, 1 for the origin as configured."""
    match = _SUCCESSOR.fullmatch(origin)
    return int(match["number"]) if match and match["number"] else 1
