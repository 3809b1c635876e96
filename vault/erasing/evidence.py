"""The sealed evidence of an erased customer's consents (consent.md, "Rights").

An erasure moves the ledger into one document, encrypted under a DEK of its own (class `evidence`), which
belongs to the receipt and to nobody: it is found by the receipt id, and by nothing else.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from vault.crypto.envelope import EVIDENCE, DataKey
from vault.crypto.keyring import Keyring
from vault.domain.canonical import canonical_json
from vault.domain.errors import (
    AnswerTooLargeError,
    DatavaultError,
    IntegrityError,
    InvalidArgumentError,
    KeysUnavailableError,
    KeyTooOldError,
    NotFoundError,
    NotPermittedError,
)
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, ConsentRepository, Randomness, Transactions
from vault.domain.types import Act, Caller, ConsentEvent, KeyScope, ValueScope, WrappedKey
from vault.erasing.retention import EVIDENCE_CLASS
from vault.permission import authorise
from vault.policy.live import LivePolicy
from vault.recording import RecordedAt, Recorder
from vault.store.erasure import ErasureRepository, StoredEvidence

EVIDENCE_VERSION: Final = 1
_PAGE: Final = 1_000
_FRAME_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class EvidenceKey:
    """A fresh DEK for the evidence of one receipt."""

    receipt_id: str
    wrapped: WrappedKey
    key: DataKey


@dataclass(frozen=True, slots=True)
class Evidence:
    """Opened evidence: canonical JSON. `kept_until` in microseconds since 1970 UTC."""

    document: bytes
    kept_until: int
    recorded: RecordedAt


def evidence_scope(tenant: str, receipt_id: str) -> KeyScope:
    """What the DEK of evidence belongs to: the receipt stands where others have a subject."""
    return KeyScope(tenant, uuid.UUID(receipt_id).bytes, EVIDENCE_CLASS)


def make_keys(keyring: Keyring, tenant: str, receipt_ids: Sequence[str]) -> list[EvidenceKey]:
    """A DEK per receipt. Waits for the provider: never inside a transaction.

    Raises:
        KeysUnavailableError.
    """
    made = keyring.create([evidence_scope(tenant, receipt_id) for receipt_id in receipt_ids])
    return [
        EvidenceKey(receipt_id, wrapped, key)
        for receipt_id, (wrapped, key) in zip(receipt_ids, made, strict=True)
    ]


def every_event(
    connection: Connection, consents: ConsentRepository, tenant: str, subject: bytes
) -> Iterator[ConsentEvent]:
    """The whole ledger of a subject, in order of seq."""
    after = 0
    while page := consents.events(connection, tenant, subject, after, _PAGE):
        yield from page
        after = page[-1].seq


def seal(
    made: EvidenceKey,
    tenant: str,
    events: Sequence[ConsentEvent],
    at: int,
    keep_until: int,
    randomness: Randomness,
) -> StoredEvidence:
    """The row that keeps these events. Times in microseconds since 1970 UTC."""
    document = {
        "v": EVIDENCE_VERSION,
        "receipt": made.receipt_id,
        "sealed_at": at,
        "events": [_document(event) for event in events],
    }
    receipt = uuid.UUID(made.receipt_id).bytes
    ciphertext = made.key.seal(_scope(tenant, receipt), canonical_json(document), randomness)
    return StoredEvidence(receipt, made.wrapped, ciphertext, at, keep_until)


class EvidencePipeline:
    """Shows evidence again: authorised first, and on record before it is released."""

    def __init__(
        self,
        transactions: Transactions,
        store: ErasureRepository,
        keyring: Keyring,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._store = store
        self._keyring = keyring
        self._policy = policy
        self._recorder = recorder
        self._clock = clock

    def open(self, caller: Caller, receipt_id: str) -> Evidence:
        """The evidence that the erasure with this receipt left. What is past keeping is not there.

        Raises:
            NotPermittedError, InvalidArgumentError, NotFoundError, KeysUnavailableError, IntegrityError,
            AnswerTooLargeError, AuditUnavailableError, StoreUnavailableError.
        """
        loaded = self._policy.current
        told: dict[str, str | int] = {}
        try:
            authorise(loaded, caller, Act.SUBJECT_HISTORY)
            receipt = _receipt_bytes(receipt_id)
            told["receipt"] = str(uuid.UUID(bytes=receipt))
            document, kept_until = self._opened(caller.tenant, receipt)
        except (
            NotPermittedError,
            InvalidArgumentError,
            NotFoundError,
            KeysUnavailableError,
            IntegrityError,
            AnswerTooLargeError,
        ) as error:
            record = self._recorder.draft(caller, Act.SUBJECT_HISTORY.value, policy=loaded.bundle.hash)
            self._recorder.refuse(record, error)
        record = self._recorder.draft(
            caller, Act.SUBJECT_HISTORY.value, policy=loaded.bundle.hash, detail=told
        )
        return Evidence(document, kept_until, self._recorder.record(record))

    def _opened(self, tenant: str, receipt: bytes) -> tuple[bytes, int]:
        stored, key = self._found(tenant, receipt)
        if isinstance(key, KeyTooOldError):
            # rewrapped since the row was read
            stored, key = self._found(tenant, receipt)
        if isinstance(key, DatavaultError):
            raise key
        document = key.open(_scope(tenant, receipt), stored.ciphertext)
        if len(document) + _FRAME_BYTES > LIMITS.message_bytes:
            raise AnswerTooLargeError(f"the evidence is larger than {LIMITS.message_bytes} bytes")
        return document, stored.keep_until

    def _found(self, tenant: str, receipt: bytes) -> tuple[StoredEvidence, DataKey | DatavaultError]:
        with self._transactions.read() as connection:
            stored = self._store.evidence(connection, tenant, receipt, EVIDENCE_CLASS)
        if stored is None or stored.keep_until <= self._clock.now():
            raise NotFoundError("receipt_id: no evidence is kept for this receipt")
        (key,) = self._keyring.unwrap([(KeyScope(tenant, receipt, EVIDENCE_CLASS), stored.key)])
        return stored, key


def _scope(tenant: str, receipt: bytes) -> ValueScope:
    return ValueScope(tenant, receipt, EVIDENCE, EVIDENCE_VERSION, 1)


def _receipt_bytes(receipt_id: str) -> bytes:
    try:
        parsed = uuid.UUID(receipt_id)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != receipt_id:
        raise InvalidArgumentError.of("receipt_id", "must be the id that a receipt gives, a lower-case UUID")
    return parsed.bytes


def _document(event: ConsentEvent) -> dict[str, Any]:
    """All there is of an event; empty fields are left out."""
    fields: dict[str, Any] = {
        "event": event.id,
        "seq": event.seq,
        "purpose": event.purpose,
        "state": event.state.value,
        "notice": event.notice,
        "notice_version": event.notice_version,
        "language": event.language,
        "notice_sha256": event.notice_sha256,
        "jurisdiction": event.jurisdiction,
        "scope": {leaf: sorted(categories) for leaf, categories in sorted(event.scope.items())},
        "channel": event.channel,
        "evidence": event.evidence,
        "valid_from": event.valid_from,
        "expires_at": event.expires_at,
        "recorded_by": event.recorded_by,
        "recorded_at": event.recorded_at,
    }
    return {name: value for name, value in fields.items() if value not in ("", 0, {})}
