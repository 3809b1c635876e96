"""The keys of a log: which of them sign a checkpoint (audit.md, "Merkle log"; ADR 0013).

A key signs from the record that announces it on. The first checkpoint that covers that record is signed by
the key before it too: whoever trusts the old key learns the new one from it. What signs follows from what is
stored alone, so a process that dies between announcement and checkpoint leaves nothing half done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from vault.audit.sql import driver_errors, execute, fetch
from vault.domain.errors import IntegrityError
from vault.domain.protocols import LogSigners, PublicKey, Signer

NOT_ANNOUNCED: Final = -1
"""Stands for the place of the announcement of a log's first key."""
_READ: Final = (
    "SELECT number, provider, version, public_key, announced FROM log_key WHERE log = ? ORDER BY number"
)
_LAST_SIZE: Final = "SELECT coalesce(max(size), 0) FROM log_checkpoint WHERE log = ?"
_ADD: Final = (
    "INSERT INTO log_key (log, number, provider, version, public_key, announced, created_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class LogKey:
    """One row of `log_key`: a version of the key provider's log key, its 32 public bytes, and the index of
    the record that announces it."""

    number: int
    provider: str
    version: int
    public_key: bytes
    announced: int


def read_keys(connection: Connection, log: int) -> tuple[LogKey, ...]:
    """The keys of a log, oldest first; none where an earlier release made it.

    Raises:
        AuditUnavailableError: the database did not answer.
    """
    with driver_errors(connection):
        rows = fetch(connection, _READ, (log,))
    return tuple(
        LogKey(number, provider, version, bytes(key), at) for number, provider, version, key, at in rows
    )


def add_key(connection: Connection, log: int, key: LogKey, now: int) -> None:
    """Insert a key, in the caller's transaction. `now` is microseconds since 1970 UTC.

    Raises:
        AuditUnavailableError: the database refused, or there is a key of this number.
    """
    row = (log, key.number, key.provider, key.version, key.public_key, key.announced, now)
    with driver_errors(connection):
        execute(connection, _ADD, row)


def first_key(provider: str, key: PublicKey) -> LogKey:
    """The row of a log's first key."""
    return LogKey(1, provider, key.version, key.raw, NOT_ANNOUNCED)


def signing(announced: Sequence[int], previous: int, size: int) -> slice:
    """Which keys sign the checkpoint of `size` records that follows one of `previous` (0: the first one).

    `announced` are the places of the keys' announcements, oldest key first.
    """
    stop = sum(place < size for place in announced)
    start = sum(place < previous for place in announced)
    return slice(max(start - 1, 0), max(stop, 1))


def key_in_force(keys: Sequence[LogKey], size: int) -> LogKey:
    """The newest key that signs a checkpoint of `size` records.

    Raises:
        IntegrityError: the log has no key.
    """
    if not keys:
        raise IntegrityError("the audit log has no key")
    return keys[max(sum(key.announced < size for key in keys), 1) - 1]


def next_signers(connection: Connection, log: int, size: int) -> tuple[LogKey, ...]:
    """The keys that sign the checkpoint of all `size` records that the log holds and those to come.

    Raises:
        AuditUnavailableError: the database did not answer.
    """
    keys = read_keys(connection, log)
    with driver_errors(connection):
        ((previous,),) = fetch(connection, _LAST_SIZE, (log,))
    return keys[signing([key.announced for key in keys], previous, size + 1)]


def signer_of(key: LogKey, signers: LogSigners) -> Signer:
    """What signs with this key.

    Raises:
        IntegrityError: the provider's key is not the one that the log has pinned.
        KeysUnavailableError: the provider is not at hand, or does not answer.
    """
    signer = signers.signer(key.provider, key.version)
    if signer.public_key() != key.public_key:
        raise IntegrityError(f"version {key.version} of the log key is not the key that the log has pinned")
    return signer
