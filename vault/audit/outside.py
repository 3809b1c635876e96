"""The outside store: what must survive the loss of the database (consent.md, "Outside store").

One file or object per entry, put if absent: `<origin>/checkpoints/<20-digit size>` and
`<origin>/events/<20-digit log position>.json`. The stores are outside_folder.py and outside_objects.py.
"""

import re
from typing import Any, Final, Protocol

from sqlalchemy import Connection

from vault.audit.sql import driver_errors, execute
from vault.domain.canonical import canonical_json
from vault.domain.errors import IntegrityError, InvalidArgumentError

CHECKPOINT: Final = "checkpoint"
EVENT: Final = "event"
ANOTHER_ENTRY: Final = "the outside store holds another entry at this place"
_NAME: Final = re.compile(r"([0-9]{20})(?:\.json)?")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_PRUNE: Final = (
    "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox"
    " WHERE delivered_at IS NOT NULL AND delivered_at < ? LIMIT ?)"
)
_INSERT: Final = "INSERT INTO outbox (log, kind, path, document, created_at) VALUES (?, ?, ?, ?, ?)"


class OutsideStore(Protocol):
    """A folder or object store outside the database. Every method raises StoreUnavailableError."""

    def put(self, path: str, content: bytes) -> None:
        """Store durably, if absent. The same content again is no error.

        Raises:
            IntegrityError: other content stands there: two histories were written under one origin.
        """

    def get(self, path: str) -> bytes | None:
        """The content, None where there is none."""

    def entries(self, folder: str, first: int = 0) -> list[str]:
        """Paths of the entries of a folder numbered `first` or more, in order of their numbers."""

    def last(self, folder: str) -> str | None:
        """The path with the highest number in a folder."""


def checkpoints_folder(origin: str) -> str:
    """Where the checkpoints of a log stand."""
    return f"{origin}/checkpoints"


def events_folder(origin: str) -> str:
    """Where the tombstones and negative consent events of a log stand."""
    return f"{origin}/events"


def path_segments(path: str) -> list[str]:
    """The names that a path consists of; no path leads elsewhere, or to a hidden file.

    Raises:
        InvalidArgumentError: not a path of entries.
    """
    segments = path.split("/")
    if not all(map(_SEGMENT.fullmatch, segments)):
        raise InvalidArgumentError.of("path", "must be segments of letters, digits and . _ ~ -")
    return segments


def is_entry(name: str) -> bool:
    """Whether a file of that name is an entry; what else stands in a folder is left alone."""
    return _NAME.fullmatch(name) is not None


def entry_number(path: str) -> int:
    """The size or log position that an entry's name gives.

    Raises:
        IntegrityError: not an entry's name.
    """
    match = _NAME.fullmatch(path.rpartition("/")[2])
    if match is None:
        raise IntegrityError("the outside store holds a file that is no entry")
    return int(match[1])


def outbox_checkpoint(connection: Connection, log: int, origin: str, size: int, note: str, now: int) -> None:
    """Queue a checkpoint for the outside store, in the caller's transaction. `now` in microseconds.

    Raises:
        AuditUnavailableError: the database refused.
    """
    path = f"{checkpoints_folder(origin)}/{size:020d}"
    with driver_errors(connection):
        execute(connection, _INSERT, (log, CHECKPOINT, path, note.encode(), now))


def outbox_event(
    connection: Connection, log: int, origin: str, position: int, document: dict[str, Any], now: int
) -> None:
    """Queue a tombstone or negative consent event for the outside store, in the caller's transaction.

    `position` is that of the event's record in the log; `document` names the subject by its subject id;
    `now` is microseconds since 1970 UTC.

    Raises:
        AuditUnavailableError: the database refused.
        InvalidArgumentError: `document` is not JSON.
    """
    try:
        content = canonical_json(document)
    except ValueError:
        raise InvalidArgumentError.of("document", "must be JSON") from None
    path = f"{events_folder(origin)}/{position:020d}.json"
    with driver_errors(connection):
        execute(connection, _INSERT, (log, EVENT, path, content, now))


def prune_outbox(connection: Connection, before: int, most: int) -> int:
    """Forget at most `most` entries delivered before that moment (microseconds since 1970 UTC); returns how
    many.

    Raises:
        AuditUnavailableError: the database refused.
    """
    with driver_errors(connection):
        return execute(connection, _PRUNE, (before, most))
