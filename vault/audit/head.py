"""The log as it stands now, for those who only look."""

from typing import Final

from sqlalchemy import Connection

from vault.audit.sql import driver_errors, fetch

_NEWEST: Final = "SELECT note FROM log_checkpoint WHERE log = ? ORDER BY size DESC LIMIT 1"
_SIZE: Final = "SELECT size FROM log WHERE log = ?"


def newest_checkpoint(connection: Connection, log: int) -> tuple[str, int]:
    """The newest checkpoint ('' before the first) and the number of records, integrated or not.

    Raises:
        AuditUnavailableError: the database did not answer.
    """
    with driver_errors(connection):
        notes = fetch(connection, _NEWEST, (log,))
        sizes = fetch(connection, _SIZE, (log,))
    return (str(notes[0][0]) if notes else ""), (int(sizes[0][0]) if sizes else 0)
