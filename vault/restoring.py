"""After an adopted restore: apply again what the outside store knows and the backup has forgotten.

Withdrawals, objections, opt-outs and restrictions bind again before anything is served (consent.md, "Outside
store"). Applying an event twice does no harm: it keeps its id, and a ledger holds an id once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.audit.record import encode
from vault.audit.restore import Adoption, OutsideEvent, finish_adoption
from vault.consent.events import state_rows
from vault.domain.errors import IntegrityError
from vault.domain.protocols import ConsentRepository
from vault.domain.types import Caller, ConsentEvent, ConsentState, Subject
from vault.recording import Recorder
from vault.store.subjects import SubjectRepository

ACTION: Final = "log.reapply"
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Reapplied:
    """How many events were applied again, and how many concern customers the backup does not have."""

    applied: int
    unknown: int


def finish_restore(
    adoption: Adoption,
    recorder: Recorder,
    subjects: SubjectRepository,
    consents: ConsentRepository,
    operator: Caller,
) -> Reapplied:
    """Apply the adoption's events and open its log for service, in one transaction.

    Raises:
        IntegrityError: an event in the outside store is not one.
        AuditUnavailableError, StoreUnavailableError: nothing was changed; run it again.
    """

    def work(connection: Connection) -> tuple[Reapplied, list[EncodedRecord]]:
        records, unknown = [], 0
        for event in adoption.events:
            tenant, subject_id, event_id = _place(event)
            subject = consents.lock_subject(connection, tenant, subject_id)
            if subject is None:
                unknown += 1
                continue
            _apply(connection, subjects, consents, tenant, subject, event.document)
            record = recorder.draft(
                Caller(operator.id, tenant, operator.identity),
                ACTION,
                subject=subject.audit_pseudonym,
                purpose=str(event.document.get("purpose", "")),
                consents=(event_id,),
                detail={"lost_origin": event.origin, "lost_position": event.position},
            )
            records.append(EncodedRecord(record.id, encode(record)))
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


def _apply(
    connection: Connection,
    subjects: SubjectRepository,
    consents: ConsentRepository,
    tenant: str,
    subject: Subject,
    document: Mapping[str, Any],
) -> None:
    if document.get("kind") == "restriction":
        subjects.restrict(connection, tenant, subject.id)
        return
    event = _event(document, subject.last_seq + 1)
    if not _has(connection, consents, tenant, subject, event.id):
        consents.append_event(connection, tenant, subject.id, event, state_rows(event))


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


def _has(
    connection: Connection, consents: ConsentRepository, tenant: str, subject: Subject, event_id: str
) -> bool:
    after = 0
    while True:
        page: Sequence[ConsentEvent] = consents.events(connection, tenant, subject.id, after, _PAGE)
        if any(event.id == event_id for event in page):
            return True
        if len(page) < _PAGE:
            return False
        after = page[-1].seq
