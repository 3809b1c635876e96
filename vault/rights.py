"""Consent and customer rights: what a customer decides, recorded and in force at once.

    1 authorise   the right to the act
    2 check       fields; find the customer, or draft a new subject
    3 change      one transaction: replay, lock the subject, append the event, outbox, record
    4 answer      a token, and what is in force now

A read that starts after step 3 sees the change. `seq` orders events of a subject: later means higher.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.audit.record import Record
from vault.consent.ledger import Ledger
from vault.consent.overview import InForce
from vault.consents import (
    NEGATIVE,
    RECORDABLE,
    ConsentOutcome,
    ConsentWrite,
    Token,
    fingerprinted,
    ledger_request,
    outside_document,
)
from vault.crypto.encoding import lp
from vault.crypto.lookup_keys import LookupKeys
from vault.domain.checks import FieldChecks
from vault.domain.errors import (
    InvalidArgumentError,
    NotFoundError,
    NotPermittedError,
    RequestIdReusedError,
    Violation,
)
from vault.domain.protocols import Clock, ConsentRepository
from vault.domain.types import (
    UNKNOWN_SUBJECT,
    Act,
    Caller,
    ConsentState,
    Subject,
)
from vault.enrolment import Enrolment
from vault.permission import authorise
from vault.policy.bundle import Bundle
from vault.policy.live import LivePolicy
from vault.recording import Committed, RecordedAt, Recorder
from vault.replay import Kept, Replay, Replays
from vault.showing import effective_now
from vault.store.subjects import SubjectRepository


@dataclass(frozen=True, slots=True)
class _Applied:
    """What step 3 did: the event, what is in force now, and the document that the outside store gets where
    the event takes something away."""

    event_id: str
    seq: int
    effective: tuple[InForce, ...] = ()
    outside: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    """One change on its way through the steps. `apply` runs with the subject's row locked."""

    caller: Caller
    act: Act
    action: str
    request_id: str
    customer_number: str = field(repr=False)
    purpose: str
    content: tuple[str, ...] = field(repr=False)
    apply: Callable[[Connection, Subject, Bundle], _Applied]
    enrol_in: tuple[str, ...] | None = None
    """Jurisdictions of a new subject; None where an unknown customer is an error."""
    problems: tuple[Violation, ...] = ()


class RightsPipeline:
    """Holds what the steps need; has no state of its own between calls."""

    def __init__(
        self,
        subjects: SubjectRepository,
        consents: ConsentRepository,
        ledger: Ledger,
        replays: Replays,
        enrolment: Enrolment,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._subjects = subjects
        self._consents = consents
        self._ledger = ledger
        self._replays = replays
        self._enrolment = enrolment
        self._policy = policy
        self._recorder = recorder
        self._clock = clock

    def record_consent(self, caller: Caller, write: ConsentWrite) -> ConsentOutcome:
        """Append one event to the ledger; an unknown customer becomes a subject.

        Raises:
            NotPermittedError, InvalidArgumentError, RequestIdReusedError, AuditUnavailableError,
            StoreUnavailableError.
        """
        return self._event(caller, Act.CONSENT_RECORD, write, states=RECORDABLE, may_enrol=True)

    def withdraw_consent(self, caller: Caller, write: ConsentWrite) -> ConsentOutcome:
        """Withdraw consent for a purpose and everything below it.

        Raises: as `record_consent`, and NotFoundError for an unknown customer.
        """
        return self._event(caller, Act.CONSENT_WITHDRAW, write, states=frozenset({ConsentState.WITHDRAWN}))

    def object_to_purpose(self, caller: Caller, write: ConsentWrite) -> ConsentOutcome:
        """Record an objection (GDPR 21), or lift it.

        Raises: as `withdraw_consent`.
        """
        states = frozenset({ConsentState.OBJECTED, ConsentState.OBJECTION_LIFTED})
        return self._event(caller, Act.SUBJECT_OBJECT, write, states=states)

    def restrict(
        self, caller: Caller, request_id: str, customer_number: str, *, lift: bool
    ) -> ConsentOutcome:
        """Restrict a subject (GDPR 18), or lift the restriction; it takes a seq of the ledger.

        Raises: as `withdraw_consent`.
        """
        action = "subject.lift-restriction" if lift else Act.SUBJECT_RESTRICT.value
        event_id = self._recorder.new_id()

        def apply(connection: Connection, subject: Subject, _: Bundle) -> _Applied:
            if lift:
                return _Applied(event_id, self._subjects.lift(connection, caller.tenant, subject.id))
            seq = self._subjects.restrict(connection, caller.tenant, subject.id)
            document = {"kind": "restriction", "event": event_id, "recorded_at": self._clock.now()}
            return _Applied(event_id, seq, outside=document)

        content = (action, customer_number)
        return self._change(
            _Change(caller, Act.SUBJECT_RESTRICT, action, request_id, customer_number, "", content, apply)
        )

    def _event(
        self,
        caller: Caller,
        act: Act,
        write: ConsentWrite,
        *,
        states: frozenset[ConsentState],
        may_enrol: bool = False,
    ) -> ConsentOutcome:
        def apply(connection: Connection, subject: Subject, bundle: Bundle) -> _Applied:
            recorded = self._ledger.record(
                connection,
                bundle.purposes,
                bundle.notices,
                caller.tenant,
                subject.id,
                ledger_request(write),
                caller.id,
            )
            event = recorded.event
            outside = outside_document(event) if event.state in NEGATIVE else None
            return _Applied(event.id, event.seq, recorded.effective, outside)

        own_call = Violation("state", "is recorded by a call of its own")
        return self._change(
            _Change(
                caller,
                act,
                act.value,
                write.request_id,
                write.customer_number,
                write.purpose,
                fingerprinted(act, write),
                apply,
                write.jurisdictions if may_enrol else None,
                write.problems if write.state in states else (*write.problems, own_call),
            )
        )

    def _change(self, change: _Change) -> ConsentOutcome:
        bundle = self._policy.current.bundle
        try:
            authorise(self._policy.current, change.caller, change.act)  # 1
            _check(change)  # 2
            return self._commit(change, bundle)
        except (NotPermittedError, InvalidArgumentError, NotFoundError, RequestIdReusedError) as error:
            known = change.purpose in bundle.purposes
            self._recorder.refuse(
                self._recorder.draft(
                    change.caller,
                    change.action,
                    purpose=change.purpose if known else "",
                    policy=bundle.hash,
                ),
                error,
            )

    def _commit(self, change: _Change, bundle: Bundle) -> ConsentOutcome:
        content = lp(*(part.encode() for part in change.content))

        def attempt(lookup: LookupKeys) -> Committed[ConsentOutcome]:
            fingerprints = lookup.fingerprints(content)

            def work(connection: Connection) -> tuple[ConsentOutcome, list[EncodedRecord]]:  # 3
                asked = {change.request_id: fingerprints}
                kept = self._replays.look_up(connection, change.caller, lookup, asked)
                earlier = kept.get(change.request_id)
                if isinstance(earlier, Replay):
                    return self._again(connection, change, bundle, lookup, earlier)
                if earlier is not None:
                    raise earlier
                return self._apply(connection, change, bundle, lookup, fingerprints[0])

            return self._recorder.commit(work)

        committed = self._enrolment.with_lookup(change.caller.tenant, attempt)
        outcome = committed.value
        if outcome.replayed:
            return outcome
        placed = RecordedAt(outcome.token.recorded.record_id, committed.positions[0])
        return replace(outcome, token=replace(outcome.token, recorded=placed))  # 4

    def _apply(
        self,
        connection: Connection,
        change: _Change,
        bundle: Bundle,
        lookup: LookupKeys,
        fingerprint: bytes,
    ) -> tuple[ConsentOutcome, list[EncodedRecord]]:
        caller = change.caller
        subject = self._lock(connection, change, lookup)
        applied = change.apply(connection, subject, bundle)
        record = self._record(change, bundle, subject, consents=(applied.event_id,))
        answer = {"event": applied.event_id, "seq": applied.seq}
        self._replays.keep(connection, caller, [Kept(change.request_id, record.id, fingerprint, answer)])
        if applied.outside is not None:
            self._send_outside(connection, caller.tenant, subject, applied.outside)
        token = Token(applied.event_id, applied.seq, RecordedAt(record.id, 0))
        return ConsentOutcome(token, applied.effective), [EncodedRecord.of(record)]

    def _again(
        self, connection: Connection, change: _Change, bundle: Bundle, lookup: LookupKeys, replay: Replay
    ) -> tuple[ConsentOutcome, list[EncodedRecord]]:
        """Answer a repeated request: its event as then, what is in force as now; on record as a repeat."""
        tenant = change.caller.tenant
        recorded = RecordedAt(replay.record_id, self._recorder.position(connection, tenant, replay.record_id))
        token = Token(str(replay.answer["event"]), int(replay.answer["seq"]), recorded)
        subject = self._enrolment.find(connection, lookup, change.customer_number)
        effective: tuple[InForce, ...] = ()
        if subject is not None and change.purpose:
            entries = self._consents.state(connection, tenant, subject.id)
            effective = effective_now(bundle, subject, entries, change.purpose, self._clock.now())
        record = self._record(change, bundle, subject, detail={"replay_of": replay.record_id})
        return ConsentOutcome(token, effective, replayed=True), [EncodedRecord.of(record)]

    def _record(self, change: _Change, bundle: Bundle, subject: Subject | None, **fields: Any) -> Record:
        return self._recorder.draft(
            change.caller,
            change.action,
            subject=subject.audit_pseudonym if subject else UNKNOWN_SUBJECT,
            purpose=change.purpose,
            request=change.request_id,
            policy=bundle.hash,
            **fields,
        )

    def _lock(self, connection: Connection, change: _Change, lookup: LookupKeys) -> Subject:
        tenant = change.caller.tenant
        found = self._enrolment.find(connection, lookup, change.customer_number)
        if found is None:
            if change.enrol_in is None:
                raise NotFoundError("customer_number: no such customer")
            enrolled = self._enrolment.draft(lookup, change.customer_number, change.enrol_in)
            self._enrolment.insert(connection, lookup, [enrolled])
            return enrolled.subject
        locked = self._consents.lock_subject(connection, tenant, found.id)
        if locked is None:
            raise NotFoundError("customer_number: no such customer")
        return locked

    def _send_outside(
        self, connection: Connection, tenant: str, subject: Subject, document: Mapping[str, Any]
    ) -> None:
        """Tell the outside store what a restored backup must not forget (consent.md, "Outside store")."""
        named = {**document, "tenant": tenant, "subject": subject.id.hex()}
        self._recorder.send_outside(connection, tenant, named)


def _check(change: _Change) -> None:
    checks = FieldChecks(change.problems)
    checks.request_id(change.request_id)
    checks.customer_number(change.customer_number)
    checks.jurisdictions(change.enrol_in or ())
    checks.raise_if_any()
