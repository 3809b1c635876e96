"""Erasures from request to answer: the types that go through the erasure pipeline, and the receipt.

A receipt is canonical JSON (audit.md, "Record": strings and integers, absent means left out). It names no
customer and holds no value; who it belongs to is known to those who were given it.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vault.crypto.receipts import ReceiptSignature
from vault.domain.canonical import canonical_json, parse_json
from vault.domain.errors import IntegrityError
from vault.erasing.retention import Plan, Retained
from vault.recording import RecordedAt

RECEIPT_VERSION: Final = 1
TOMBSTONE: Final = "tombstone"
"""Kind of the event in the outside store."""
SURVIVALS: Final = (
    {
        "where": "backups",
        "until": "the last backup from before this moment, of the database or its file system, is destroyed",
    },
    {
        "where": "database pages",
        "until": "the database file is rewritten: subject erase --scrub (SQLite), VACUUM FULL (PostgreSQL)",
    },
    {
        "where": "write-ahead log",
        "until": "it is emptied: subject erase --scrub (SQLite), its files are recycled (PostgreSQL)",
    },
)
"""Where old copies of the wrapped keys may be left, and until when (keys.md, "Erasure")."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """One request to erase a customer."""

    request_id: str
    customer_number: str = field(repr=False)
    dry_run: bool = False
    scrub: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt says; `raw` are its exact bytes."""

    id: str
    erased: tuple[str, ...]
    retained: tuple[Retained, ...]
    whole: bool
    raw: bytes


@dataclass(frozen=True, slots=True)
class ErasureOutcome:
    """The answer to an erasure. In a dry run there is neither receipt nor signature.

    `scrub_problem` is why the database file was not rewritten though that was asked for.
    """

    erased: tuple[str, ...]
    retained: tuple[Retained, ...]
    whole: bool
    recorded: RecordedAt
    receipt: Receipt | None = None
    signature: ReceiptSignature | None = None
    scrubbed: bool = False
    scrub_problem: str = ""
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """What a receipt needs besides the plan. `events` is how many consent events were sealed."""

    receipt_id: str
    tenant: str
    at: int
    record: RecordedAt
    origin: str
    policy: str
    legal_hold: str
    events: int = 0
    evidence_until: int = 0


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What the outside store keeps of an erasure, so that a restored backup is erased again.

    `only_retained`: what was destroyed was what an earlier erasure had left, because its ground had run out.
    Under a `legal_hold` the ledger stayed. `at` in microseconds since 1970 UTC.
    """

    receipt_id: str
    erased: tuple[str, ...]
    whole: bool
    legal_hold: bool
    evidence_until: int
    at: int
    only_retained: bool = False

    def document(self, tenant: str, subject: bytes) -> dict[str, Any]:
        """The event for the outside store: who, by the subject id, and what; no key and no value."""
        return {
            "kind": TOMBSTONE,
            "event": self.receipt_id,
            "tenant": tenant,
            "subject": subject.hex(),
            "erased": list(self.erased),
            "whole": int(self.whole),
            "legal_hold": int(self.legal_hold),
            "only_retained": int(self.only_retained),
            "evidence_until": self.evidence_until,
            "recorded_at": self.at,
        }


def read_tombstone(document: Mapping[str, Any]) -> Tombstone:
    """The tombstone of an event of the outside store.

    Raises:
        IntegrityError: it is none.
    """
    try:
        return Tombstone(
            receipt_id=str(uuid.UUID(document["event"])),
            erased=tuple(map(str, document["erased"])),
            whole=bool(document["whole"]),
            legal_hold=bool(document["legal_hold"]),
            evidence_until=int(document["evidence_until"]),
            at=int(document["recorded_at"]),
            only_retained=bool(document["only_retained"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise IntegrityError("an event in the outside store is no tombstone") from None


def build_receipt(plan: Plan, made: Made) -> Receipt:
    """The receipt of an erasure."""
    document: dict[str, Any] = {
        "v": RECEIPT_VERSION,
        "receipt": made.receipt_id,
        "tenant": made.tenant,
        "erased_at": made.at,
        "erased": [{"class": one.key_class, "keys": one.keys, "values": one.values} for one in plan.erased],
        "retained": [_retained(one) for one in plan.retained],
        "whole": int(plan.whole),
        "log": {
            "origin": made.origin,
            "position": made.record.position,
            "record": made.record.record_id,
        },
        "policy": made.policy,
        "survives": list(SURVIVALS),
    }
    if made.events:
        document["evidence"] = {"events": made.events, "kept_until": made.evidence_until}
    if made.legal_hold:
        document["legal_hold"] = made.legal_hold
    return read_receipt(canonical_json(document))


def read_receipt(raw: bytes) -> Receipt:
    """What a receipt says.

    Raises:
        IntegrityError: not a receipt of this version.
    """
    try:
        document = parse_json(raw)
        if document["v"] != RECEIPT_VERSION or canonical_json(document) != raw:
            raise IntegrityError("not an erasure receipt that this release can read")
        return Receipt(
            id=str(uuid.UUID(document["receipt"])),
            erased=tuple(str(one["class"]) for one in document["erased"]),
            retained=tuple(map(_read_retained, document["retained"])),
            whole=bool(document["whole"]),
            raw=raw,
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise IntegrityError("not an erasure receipt that this release can read") from None


def _retained(one: Retained) -> dict[str, Any]:
    ends = {} if one.ends_at is None else {"ends_at": one.ends_at}
    return {
        "class": one.key_class,
        "ground": one.ground,
        "legal_hold": int(one.legal_hold),
        "purposes": list(one.purposes),
        **ends,
    }


def _read_retained(document: Mapping[str, Any]) -> Retained:
    ends_at = document.get("ends_at")
    return Retained(
        key_class=str(document["class"]),
        ground=str(document["ground"]),
        legal_hold=bool(document["legal_hold"]),
        ends_at=None if ends_at is None else int(ends_at),
        purposes=tuple(map(str, document["purposes"])),
    )
