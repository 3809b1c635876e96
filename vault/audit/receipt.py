"""Receipts: C2SP tlog-proof v1, proof that one record stands in the log (audit.md, "Receipt").

c2sp.org/tlog-proof@v1
extra <base64 of the exact record bytes>
index <decimal>
<base64 of 32 bytes>          0 or more, the leaf's sibling first

<checkpoint, verbatim>
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from vault.audit.checkpoint import Checkpoint, decode64, parse_and_verify, parse_decimal
from vault.audit.merkle import HASH_BYTES, inclusion_proof, leaf_hash, verify_inclusion
from vault.audit.sql import driver_errors, fetch
from vault.audit.tree import stored_tiles
from vault.domain.errors import IntegrityError, NotFoundError

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_PROOF_HASHES: Final = 63
_ENTRY: Final = 'SELECT entry FROM log_entry WHERE log = ? AND "index" = ?'
_CHECKPOINT: Final = "SELECT size, note FROM log_checkpoint WHERE log = ? AND size > ? ORDER BY size LIMIT 1"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A verified receipt: the record's exact bytes, its index, and the checkpoint that covers it."""

    entry: bytes
    index: int
    checkpoint: Checkpoint


def build(entry: bytes, index: int, proof: Sequence[bytes], note: str) -> str:
    """The receipt's text."""
    lines = [_HEADER, f"extra {_encode64(entry)}", f"index {index}", *map(_encode64, proof), "", note]
    return "\n".join(lines)


def verify(text: str, *vkeys: str) -> Receipt:
    """Check a receipt offline.

    Raises:
        IntegrityError: not a receipt, not signed by a known key, or the record is not in the signed tree.
        ConfigurationError: a vkey is not one.
    """
    head, separator, note = text.partition("\n\n")
    lines = head.split("\n")
    if not separator or len(lines) < 3 or lines[0] != _HEADER or len(lines) > 3 + _PROOF_HASHES:
        raise IntegrityError("this is not a receipt")
    entry, index = decode64(_field(lines[1], "extra ")), parse_decimal(_field(lines[2], "index "))
    hashes = [decode64(line) for line in lines[3:]]
    proof = [item for item in hashes if item is not None and len(item) == HASH_BYTES]
    if entry is None or index is None or len(proof) != len(hashes):
        raise IntegrityError("the receipt's record, index or proof is not well formed")
    checkpoint = parse_and_verify(note, *vkeys)
    verify_inclusion(leaf_hash(entry), index, checkpoint.size, proof, checkpoint.root)
    return Receipt(entry, index, checkpoint)


def receipt(connection: Connection, log: int, index: int) -> str:
    """The receipt of record `index`, under the first checkpoint that covers it.

    Raises:
        NotFoundError: there is no such record, or no checkpoint covers it yet.
        IntegrityError: the stored tiles are damaged.
        AuditUnavailableError: the database did not answer.
    """
    with driver_errors(connection):
        entries = fetch(connection, _ENTRY, (log, index))
        checkpoints = fetch(connection, _CHECKPOINT, (log, index))
        if not entries or not checkpoints:
            raise NotFoundError("no checkpoint covers such a record yet")
        size, note = checkpoints[0]
        proof = inclusion_proof(index, size, stored_tiles(connection, log))
    return build(bytes(entries[0][0]), index, proof, note)


def _field(line: str, name: str) -> str:
    if not line.startswith(name):
        raise IntegrityError("this is not a receipt")
    return line.removeprefix(name)


def _encode64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
