"""Which keys sign the next checkpoint, looked at before they do."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from sqlalchemy import Connection

from vault.audit.announcement import Announcement, parse_announcement
from vault.audit.checkpoint import vkey
from vault.audit.log_keys import LogKey, read_keys, signer_of, signing
from vault.audit.sql import driver_errors, fetch
from vault.domain.errors import IntegrityError
from vault.domain.protocols import LogSigners, Signer

_ENTRY: Final = 'SELECT entry FROM log_entry WHERE log = ? AND "index" = ?'


class SigningKeys:
    """The keys of one log, for whoever signs its checkpoints.

    A row of `log_key` that was put in by hand must neither sign nor be what makes the old key vouch for a new
    one: each must be what its record announces, and what the provider has.
    """

    def __init__(self, log: int, signers: LogSigners) -> None:
        self._log = log
        self._signers = signers
        self._announced: tuple[LogKey, ...] = ()
        """Keys whose announcements were looked at."""

    def due(self, connection: Connection, origin: str, previous: int, size: int) -> tuple[LogKey, ...]:
        """The keys that sign the checkpoint of `size` records after that of `previous`, oldest first.

        Raises:
            IntegrityError: the log has no key, or a key's row is not what its record announces.
            AuditUnavailableError: the database did not answer.
        """
        keys = read_keys(connection, self._log)
        if not keys:
            raise IntegrityError("the audit log has no key")
        if keys != self._announced:
            with driver_errors(connection):
                for old, new in pairwise(keys):
                    self._require_announced(connection, origin, old, new)
            self._announced = keys
        return keys[signing([key.announced for key in keys], previous, size)]

    def signers(self, keys: Sequence[LogKey]) -> list[Signer]:
        """What signs with these keys.

        Raises: as `signer_of`.
        """
        return [signer_of(key, self._signers) for key in keys]

    def _require_announced(self, connection: Connection, origin: str, old: LogKey, new: LogKey) -> None:
        rows = fetch(connection, _ENTRY, (self._log, new.announced))
        entry = rows[0][0] if rows else None
        announcement = parse_announcement(entry if isinstance(entry, bytes) else b"")
        if announcement != Announcement(vkey(origin, old.public_key), vkey(origin, new.public_key)):
            raise IntegrityError(f"log key {new.number} is not the one that its record announces")
