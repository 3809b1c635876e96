"""The log as it stands now, for those who only look."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from vault.audit.log_keys import LogKey, key_in_force, read_keys
from vault.audit.sql import driver_errors, fetch

_NEWEST: Final = "SELECT size, note FROM log_checkpoint WHERE log = ? ORDER BY size DESC LIMIT 1"
_SIZE: Final = "SELECT size FROM log WHERE log = ?"


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint ('' before the first), the number of records, integrated or not, and the newest
    key that signed the checkpoint."""

    note: str
    size: int
    key: LogKey


def newest_checkpoint(connection: Connection, log: int) -> Head:
    """Where the log stands.

    Raises:
        AuditUnavailableError: the database did not answer.
        IntegrityError: the log has no key.
    """
    with driver_errors(connection):
        notes = fetch(connection, _NEWEST, (log,))
        sizes = fetch(connection, _SIZE, (log,))
    signed, note = notes[0] if notes else (0, "")
    key = key_in_force(read_keys(connection, log), signed)
    return Head(str(note), int(sizes[0][0]) if sizes else 0, key)
