"""After an adopted restore: apply again what the outside store knows and the backup has forgotten.

Withdrawals, objections, opt-outs and restrictions bind again, and what was erased is destroyed again, before
anything is served (consent.md, "Outside store"). Applying an event twice does no harm: it keeps its id, and a
ledger holds an id once; what is destroyed cannot be destroyed again.

The evidence of an erasure that the backup does not have is sealed anew, from the ledger as the backup has it:
consents recorded between the backup and the erasure are not in it.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.audit.restore import Adoption, OutsideEvent, finish_adoption
from vault.consent.events import state_rows
from vault.crypto.keyring import Keyring
from vault.domain.errors import IntegrityError
from vault.domain.protocols import ConsentRepository, Randomness
from vault.domain.types import Caller, ConsentEvent, ConsentState, Subject
from vault.erasing.evidence import EvidenceKey, every_event, evidence_scope, make_keys, seal
from vault.erasing.receipts import TOMBSTONE, Tombstone, read_tombstone
from vault.erasing.retaining import RETENTION
from vault.erasing.retention import EVIDENCE_CLASS
from vault.recording import Recorder
from vault.store.erasure import ErasureRepository
from vault.store.subjects import SubjectRepository

ACTION: Final = "log.reapply"
_NO_CONSENT: Final = (TOMBSTONE, RETENTION)
"""Kinds of events that decided nothing about consent."""


@dataclass(frozen=True, slots=True)
class Reapplied:
    """How many events were applied again, and how many concern customers the backup does not have."""

    applied: int
    unknown: int


def finish_restore(
    adoptions: Sequence[Adoption],
    recorder: Recorder,
    subjects: SubjectRepository,
    consents: ConsentRepository,
    operator: Caller,
    keyring: Keyring,
    randomness: Randomness,
) -> Reapplied:
    """Apply the events of all adoptions and open their logs for service, in one transaction.

    Raises:
        IntegrityError: an event in the outside store is not one.
        KeysUnavailableError, AuditUnavailableError, StoreUnavailableError: nothing was changed; run it again.
    """
    events = [event for adoption in adoptions for event in adoption.events]
    applying = _Applying(subjects, consents, randomness, _evidence_keys(events, keyring))

    def work(connection: Connection) -> tuple[Reapplied, list[EncodedRecord]]:
        records, unknown = [], 0
        for event in events:
            tenant, subject_id, event_id = _place(event)
            subject = consents.lock_subject(connection, tenant, subject_id)
            if subject is None:
                unknown += 1
                continue
            applying.apply(connection, tenant, subject, event.document)
            record = recorder.draft(
                Caller(operator.id, tenant, operator.identity),
                ACTION,
                subject=subject.audit_pseudonym,
                purpose=str(event.document.get("purpose", "")),
                consents=() if event.document.get("kind") in _NO_CONSENT else (event_id,),
                detail={"lost_origin": event.origin, "lost_position": event.position, "event": event_id},
            )
            records.append(EncodedRecord.of(record))
        for adoption in adoptions:
            finish_adoption(connection, adoption.log.log)
        return Reapplied(len(records), unknown), records

    return recorder.commit(work).value


def _place(event: OutsideEvent) -> tuple[str, bytes, str]:
    """Tenant, subject id and event id, which every kind of event has."""
    document = event.document
    try:
        tenant, subject, event_id = document["tenant"], bytes.fromhex(document["subject"]), document["event"]
    except (KeyError, TypeError, ValueError):
        raise IntegrityError("an event in the outside store names no subject, or no event") from None
    if not (isinstance(tenant, str) and isinstance(event_id, str) and event_id):
        raise IntegrityError("an event in the outside store names no subject, or no event")
    return tenant, subject, event_id


def _evidence_keys(events: Sequence[OutsideEvent], keyring: Keyring) -> dict[str, EvidenceKey]:
    """A fresh key for the evidence of each tombstone that left some, by receipt: made here, for inside the
    transaction nothing waits for the provider."""
    made: dict[str, EvidenceKey] = {}
    for event in events:
        if event.document.get("kind") != TOMBSTONE:
            continue
        tombstone = read_tombstone(event.document)
        if tombstone.evidence_until:
            made[tombstone.receipt_id] = make_keys(keyring, _place(event)[0], [tombstone.receipt_id])[0]
    return made


class _Applying:
    """Applies events inside the transaction of the caller, who holds the lock of the subject."""

    def __init__(
        self,
        subjects: SubjectRepository,
        consents: ConsentRepository,
        randomness: Randomness,
        keys: Mapping[str, EvidenceKey],
    ) -> None:
        self._subjects = subjects
        self._consents = consents
        self._randomness = randomness
        self._keys = keys
        self._store = ErasureRepository()

    def apply(
        self, connection: Connection, tenant: str, subject: Subject, document: Mapping[str, Any]
    ) -> None:
        kind = document.get("kind")
        if kind == "restriction":
            self._subjects.restrict(connection, tenant, subject.id)
        elif kind == TOMBSTONE:
            self._erase(connection, tenant, subject, read_tombstone(document))
        elif kind == RETENTION:
            self._store.set_retention(connection, tenant, subject.id, *_retention(document))
        else:
            self._append(connection, tenant, subject, document)

    def _append(
        self, connection: Connection, tenant: str, subject: Subject, document: Mapping[str, Any]
    ) -> None:
        event = _event(document, subject.last_seq + 1)
        ledger = every_event(connection, self._consents, tenant, subject.id)
        if all(known.id != event.id for known in ledger):
            self._consents.append_event(connection, tenant, subject.id, event, state_rows(event))

    def _erase(self, connection: Connection, tenant: str, subject: Subject, tombstone: Tombstone) -> None:
        if tombstone.evidence_until:
            self._seal(connection, tenant, subject, tombstone)
        self._store.forget_consents(connection, tenant, subject.id, events=not tombstone.legal_hold)
        for key_class in tombstone.erased:
            self._store.destroy(connection, tenant, subject.id, key_class, retained=tombstone.only_retained)
        if tombstone.whole:
            self._store.remove(connection, tenant, subject.id)
        elif not tombstone.only_retained:
            self._store.retain(connection, tenant, subject.id, tombstone.at)

    def _seal(self, connection: Connection, tenant: str, subject: Subject, tombstone: Tombstone) -> None:
        receipt = evidence_scope(tenant, tombstone.receipt_id).subject
        events = list(every_event(connection, self._consents, tenant, subject.id))
        if not events or self._store.evidence(connection, tenant, receipt, EVIDENCE_CLASS) is not None:
            return
        key = self._keys[tombstone.receipt_id]
        evidence = seal(key, tenant, events, tombstone.at, tombstone.evidence_until, self._randomness)
        self._store.put_evidence(connection, tenant, evidence)


def _retention(document: Mapping[str, Any]) -> tuple[datetime.date | None, str]:
    try:
        ended_on, hold = str(document["ended_on"]), str(document["hold"])
        return (datetime.date.fromisoformat(ended_on) if ended_on else None), hold
    except (KeyError, ValueError):
        raise IntegrityError("an event in the outside store is no change of retention") from None


def _event(document: Mapping[str, Any], seq: int) -> ConsentEvent:
    try:
        return ConsentEvent(
            id=str(document["event"]),
            seq=seq,
            purpose=str(document["purpose"]),
            state=ConsentState(document["state"]),
            notice="",
            notice_version=0,
            language="",
            notice_sha256="",
            jurisdiction=str(document["jurisdiction"]),
            scope={},
            channel=str(document["channel"]),
            evidence="",
            valid_from=int(document["recorded_at"]),
            expires_at=0,
            recorded_by=str(document["recorded_by"]),
            recorded_at=int(document["recorded_at"]),
        )
    except (KeyError, TypeError, ValueError):
        raise IntegrityError("an event in the outside store is not a consent event") from None
