"""From the verifier keys that somebody trusts to all keys of a log, by its own announcements (ADR 0013).

An announcement counts when
    1 the record says which key announces which, signed by both (announcement.py),
    2 the first checkpoint that covers the record is signed by both,
    3 the record is in that checkpoint's tree.

Trust goes along announcements that count, both ways, because each key signed the other's name. So it does not
matter which of the log's keys an auditor has kept. Where to look is read from `log_key`; nothing is believed
because it stands there, and rows that disagree with the announcements are named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from vault.audit.announcement import Announcement, parse_announcement
from vault.audit.checkpoint import signed_by, vkey
from vault.audit.log_keys import NOT_ANNOUNCED, LogKey, read_keys, signing
from vault.audit.merkle import inclusion_proof, leaf_hash, verify_inclusion
from vault.audit.sql import driver_errors
from vault.audit.sql import fetch_tolerantly as fetch
from vault.audit.tree import stored_tiles
from vault.domain.errors import IntegrityError

_ENTRY: Final = 'SELECT entry FROM log_entry WHERE log = ? AND "index" = ?'
_COVERING: Final = "SELECT size, note FROM log_checkpoint WHERE log = ? AND size > ? ORDER BY size LIMIT 1"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the announcement at `index` does not count."""

    what: str
    index: int


@dataclass(frozen=True, slots=True)
class KeyChain:
    """The keys of one log, oldest first, as far as announcements count, and what somebody trusts of it.

    `links` are (index, verifier key) of the announcements that count; `first` is the key before them.
    `trusted` were given; `known` are those and what trust reaches from them.
    """

    first: str
    links: tuple[tuple[int, str], ...]
    trusted: frozenset[str]
    known: frozenset[str]
    announced: frozenset[int] = frozenset()
    """Places of all announcements of the log's keys, those too that no checkpoint covers yet."""
    faults: tuple[Fault, ...] = ()

    @property
    def vkeys(self) -> tuple[str, ...]:
        """The known keys, those of the chain last, and of these the newest last."""
        chain = [self.first, *(key for _, key in self.links)]
        others = sorted(self.known.difference(chain))
        return (*others, *(key for key in chain if key in self.known))

    def missing(self, signed: frozenset[str], previous: int, size: int) -> bool:
        """Whether a key that had to sign the checkpoint of `size` records, after one of `previous`, did not.

        Before the first announcement any trusted key will do: earlier releases always signed by the newest.
        """
        if not self.links or size <= self.links[0][0]:
            return signed.isdisjoint({self.first, *self.trusted}.difference(key for _, key in self.links))
        keys = [self.first, *(key for _, key in self.links)]
        places = [NOT_ANNOUNCED, *(place for place, _ in self.links)]
        return not signed.issuperset(keys[signing(places, previous, size)])


def follow(
    connection: Connection,
    log: int,
    origin: str,
    vkeys: Sequence[str],
    *,
    recomputed_from: int | None = None,
) -> KeyChain:
    """What the keys `vkeys` lead to in this log.

    `recomputed_from` is the index from which on the caller computes the whole tree anew from the entries:
    condition 3 is then the caller's.

    Raises:
        AuditUnavailableError: the database did not answer.
        ConfigurationError: a vkey is not one.
    """
    trusted = frozenset(vkeys)
    keys = read_keys(connection, log)
    with driver_errors(connection):
        return _Follower(connection, log, origin, recomputed_from).chain(keys, trusted)


class _Follower:
    def __init__(self, connection: Connection, log: int, origin: str, recomputed_from: int | None) -> None:
        self._connection = connection
        self._log = log
        self._origin = origin
        self._recomputed_from = recomputed_from
        self._tiles = stored_tiles(connection, log)

    def chain(self, keys: Sequence[LogKey], trusted: frozenset[str]) -> KeyChain:
        """Announcement after announcement, until one does not count."""
        first = vkey(self._origin, keys[0].public_key) if keys else ""
        links: list[tuple[int, str]] = []
        faults: list[Fault] = []
        current = first
        for key in keys[1:]:
            try:
                covered = self._check(key, current, [first, *(known for _, known in links)])
            except IntegrityError as error:
                faults.append(Fault(f"log key {key.number}: {error.message}", key.announced))
                break
            if not covered:
                break
            current = vkey(self._origin, key.public_key)
            links.append((key.announced, current))
        known = trusted | _reached(first, links, trusted)
        announced = frozenset(key.announced for key in keys[1:])
        return KeyChain(first, tuple(links), trusted, known, announced, tuple(faults))

    def _check(self, key: LogKey, current: str, earlier: Sequence[str]) -> bool:
        """Whether the announcement of `key` by `current` counts; False while no checkpoint covers it.

        Raises:
            IntegrityError: it never will.
        """
        entry = self._entry(key.announced)
        announcement = parse_announcement(entry)
        wanted = vkey(self._origin, key.public_key)
        if announcement.verifier_key in earlier:
            raise IntegrityError("a key of this log was announced again")
        if announcement != Announcement(current, wanted):
            raise IntegrityError("the record at its place announces another key")
        covering = fetch(self._connection, _COVERING, (self._log, key.announced))
        if not covering:
            return False
        size, note = covering[0]
        checkpoint, signed = signed_by(note if isinstance(note, str) else "", current, wanted)
        if signed != {current, wanted} or checkpoint.size != size or checkpoint.origin != self._origin:
            raise IntegrityError(f"checkpoint {size}, the first to cover it, is not signed by both keys")
        if self._recomputed_from is None or key.announced < self._recomputed_from:
            proof = inclusion_proof(key.announced, size, self._tiles)
            verify_inclusion(leaf_hash(entry), key.announced, size, proof, checkpoint.root)
        return True

    def _entry(self, index: int) -> bytes:
        rows = fetch(self._connection, _ENTRY, (self._log, index))
        entry = rows[0][0] if rows else None
        if not isinstance(entry, bytes):
            raise IntegrityError("there is no record at the place of its announcement")
        return entry


def _reached(first: str, links: Sequence[tuple[int, str]], trusted: frozenset[str]) -> frozenset[str]:
    """All keys of an unbroken chain, if one of them is trusted."""
    chain = frozenset({first, *(key for _, key in links)}) - {""}
    return chain if chain & trusted else frozenset()
