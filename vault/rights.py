"""Consent and customer rights: what a customer decides, recorded and in force at once.

    1 authorise   the right to the act
    2 check       fields; find the customer, or draft a new subject
    3 change      one transaction: replay, lock the subject, append the event, outbox, record
    4 answer      a token, and what is in force now

A read that starts after step 3 sees the change. `seq` orders events of a subject: later means higher.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.audit.outside import outbox_event
from vault.audit.record import encode
from vault.consent.events import leaves_below
from vault.consent.ledger import ConsentRequest, Ledger
from vault.consent.overview import InForce, in_force
from vault.crypto.encoding import lp
from vault.domain.checks import FieldChecks
from vault.domain.errors import (
    DatavaultError,
    InvalidArgumentError,
    NotFoundError,
    NotPermittedError,
    RequestIdReusedError,
)
from vault.domain.protocols import Clock, ConsentRepository, Transactions
from vault.domain.types import (
    Act,
    Caller,
    ConsentEvent,
    ConsentState,
    Outcome,
    Purpose,
    Subject,
)
from vault.enrolment import Enrolment
from vault.permission import authorise
from vault.policy.live import LivePolicy, Loaded
from vault.recording import RecordedAt, Recorder
from vault.replay import Kept, Replay, Replays
from vault.store.subjects import SubjectRepository

log = structlog.get_logger("datavault.rights")

T = TypeVar("T")
_NEGATIVE: Final = frozenset(
    {
        ConsentState.REFUSED,
        ConsentState.WITHDRAWN,
        ConsentState.EXPIRED,
        ConsentState.INVALIDATED,
        ConsentState.OBJECTED,
        ConsentState.OPTED_OUT,
    }
)
"""States that a restored backup must not forget: they also go to the outside store."""
_RECORDABLE: Final = frozenset(ConsentState) - {
    ConsentState.WITHDRAWN,
    ConsentState.OBJECTED,
    ConsentState.OBJECTION_LIFTED,
}
"""States of RecordConsent; the others have a call, and an act, of their own."""


@dataclass(frozen=True, slots=True)
class ConsentWrite:
    """One event as a channel sends it. Times are microseconds since 1970 UTC, 0 for not given."""

    request_id: str
    customer_number: str = field(repr=False)
    purpose: str
    state: ConsentState
    channel: str
    evidence: str = ""
    notice: str = ""
    notice_version: int = 0
    language: str = ""
    jurisdiction: str = ""
    valid_from: int = 0
    expires_at: int = 0
    jurisdictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """Names an acknowledged change: event id, seq in the customer's ledger, and where the record stands."""

    event_id: str
    seq: int
    recorded: RecordedAt


@dataclass(frozen=True, slots=True)
class ConsentOutcome:
    """The answer to a change."""

    token: Token
    effective: tuple[InForce, ...]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class ConsentOverview:
    """The answer to GetConsent."""

    purposes: tuple[InForce, ...]
    jurisdictions: tuple[str, ...]
    restricted: bool
    recorded: RecordedAt


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order of seq; `next_seq` 0 at the end, else the seq to go on after."""

    events: tuple[ConsentEvent, ...]
    next_seq: int
    recorded: RecordedAt


@dataclass(frozen=True, slots=True)
class _Applied:
    """What step 3 did: the event, and the document the outside store gets where the event takes away."""

    event_id: str
    seq: int
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
    apply: Callable[[Connection, Subject], _Applied]
    enrol_in: tuple[str, ...] | None = None
    """Jurisdictions of a new subject; None where an unknown customer is an error."""


class RightsPipeline:
    """Holds what the steps need; has no state of its own between calls."""

    def __init__(
        self,
        transactions: Transactions,
        subjects: SubjectRepository,
        consents: ConsentRepository,
        ledger: Ledger,
        replays: Replays,
        enrolment: Enrolment,
        policy: LivePolicy,
        recorder: Recorder,
        origin: str,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._subjects = subjects
        self._consents = consents
        self._ledger = ledger
        self._replays = replays
        self._enrolment = enrolment
        self._policy = policy
        self._recorder = recorder
        self._origin = origin
        self._clock = clock

    # --- changes -------------------------------------------------------------------------------------------

    def record_consent(self, caller: Caller, write: ConsentWrite) -> ConsentOutcome:
        """Append one event to the ledger; an unknown customer becomes a subject.

        Raises:
            NotPermittedError, InvalidArgumentError, RequestIdReusedError, AuditUnavailableError,
            StoreUnavailableError.
        """
        return self._event(caller, Act.CONSENT_RECORD, write, states=_RECORDABLE, may_enrol=True)

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

        def apply(connection: Connection, subject: Subject) -> _Applied:
            if lift:
                return _Applied(event_id, self._subjects.lift(connection, caller.tenant, subject.id))
            seq = self._subjects.restrict(connection, caller.tenant, subject.id)
            document = {"kind": "restriction", "event": event_id, "recorded_at": self._clock.now()}
            return _Applied(event_id, seq, document)

        return self._change(
            _Change(
                caller,
                Act.SUBJECT_RESTRICT,
                action,
                request_id,
                customer_number,
                "",
                (action, customer_number),
                apply,
            )
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
        def apply(connection: Connection, subject: Subject) -> _Applied:
            if write.state not in states:
                raise InvalidArgumentError.of("state", "is recorded by a call of its own")
            bundle = self._policy.current.bundle
            event = self._ledger.record(
                connection,
                bundle.purposes,
                bundle.notices,
                caller.tenant,
                subject.id,
                _request(write),
                caller.id,
            ).event
            return _Applied(event.id, event.seq, _outside(event) if event.state in _NEGATIVE else None)

        return self._change(
            _Change(
                caller,
                act,
                act.value,
                write.request_id,
                write.customer_number,
                write.purpose,
                _content(act, write),
                apply,
                write.jurisdictions if may_enrol else None,
            )
        )

    def _change(self, change: _Change) -> ConsentOutcome:
        loaded = self._policy.current
        try:
            authorise(loaded, change.caller, change.act)  # 1
            _check(change)  # 2
            return self._commit(change, loaded)
        except (NotPermittedError, InvalidArgumentError, NotFoundError, RequestIdReusedError) as error:
            self._record_failure(change, loaded, error)
            raise

    def _commit(self, change: _Change, loaded: Loaded) -> ConsentOutcome:
        caller = change.caller
        lookup = self._enrolment.lookup(caller.tenant)
        mac = lookup.mac(change.customer_number)
        fingerprint = lookup.fingerprint(lp(*(part.encode() for part in change.content)))

        def work(connection: Connection) -> tuple[ConsentOutcome, list[EncodedRecord]]:  # 3
            replay = self._replays.look_up(connection, caller, {change.request_id: fingerprint})
            earlier = replay.get(change.request_id)
            if isinstance(earlier, Replay):
                return self._replayed(connection, change, loaded, mac, earlier), []
            if earlier is not None:
                raise earlier
            subject = self._lock(connection, change, mac)
            applied = change.apply(connection, subject)
            record = self._recorder.draft(
                caller,
                change.action,
                subject=subject.audit_pseudonym,
                purpose=change.purpose,
                request=change.request_id,
                consents=(applied.event_id,),
            )
            answer = {"event": applied.event_id, "seq": applied.seq}
            self._replays.keep(connection, caller, [Kept(change.request_id, record.id, fingerprint, answer)])
            if applied.outside is not None:
                self._send_outside(connection, caller.tenant, subject, applied.outside)
            token = Token(applied.event_id, applied.seq, RecordedAt(record.id, 0))
            changed = self._consents.lock_subject(connection, caller.tenant, subject.id) or subject
            effective_now = self._effective(connection, caller.tenant, changed, change.purpose, loaded)
            return ConsentOutcome(token, effective_now), [EncodedRecord(record.id, encode(record))]

        committed = self._recorder.commit(work)
        outcome = committed.value
        if outcome.replayed:
            return outcome
        placed = RecordedAt(outcome.token.recorded.record_id, committed.positions[0])
        return replace(outcome, token=replace(outcome.token, recorded=placed))  # 4

    def _lock(self, connection: Connection, change: _Change, mac: bytes) -> Subject:
        tenant = change.caller.tenant
        found = self._subjects.find(connection, tenant, [mac]).get(mac)
        if found is None:
            if change.enrol_in is None:
                raise NotFoundError("customer_number: no such customer")
            enrolled = self._enrolment.draft(tenant, change.customer_number, change.enrol_in)
            self._enrolment.insert(connection, tenant, [enrolled])
            return enrolled.subject
        locked = self._consents.lock_subject(connection, tenant, found.id)
        if locked is None:
            raise NotFoundError("customer_number: no such customer")
        return locked

    def _replayed(
        self, connection: Connection, change: _Change, loaded: Loaded, mac: bytes, replay: Replay
    ) -> ConsentOutcome:
        tenant = change.caller.tenant
        recorded = RecordedAt(replay.record_id, self._recorder.position(connection, replay.record_id))
        token = Token(str(replay.answer["event"]), int(replay.answer["seq"]), recorded)
        subject = self._subjects.find(connection, tenant, [mac]).get(mac)
        effective_now = (
            self._effective(connection, tenant, subject, change.purpose, loaded) if subject else ()
        )
        return ConsentOutcome(token, effective_now, replayed=True)

    def _send_outside(
        self, connection: Connection, tenant: str, subject: Subject, document: Mapping[str, Any]
    ) -> None:
        """Tell the outside store what a restored backup must not forget (consent.md, "Outside store")."""
        outbox_event(
            connection,
            self._recorder.log,
            self._origin,
            self._recorder.next_position(connection),
            {**document, "tenant": tenant, "subject": subject.id.hex()},
            self._clock.now(),
        )

    def _record_failure(self, change: _Change, loaded: Loaded, error: DatavaultError) -> None:
        denied = isinstance(error, NotPermittedError)
        known = change.purpose in loaded.bundle.purposes
        self._recorder.record(
            self._recorder.draft(
                change.caller,
                change.action,
                outcome=Outcome.DENIED if denied else Outcome.ERROR,
                purpose=change.purpose if known else "",
                detail={"error": error.reason.value},
            )
        )

    # --- showing -------------------------------------------------------------------------------------------

    def overview(self, caller: Caller, customer_number: str) -> ConsentOverview:
        """What is in force now for every leaf purpose.

        Raises:
            NotPermittedError, InvalidArgumentError, NotFoundError, AuditUnavailableError.
        """

        def work(connection: Connection, subject: Subject, loaded: Loaded) -> ConsentOverview:
            return ConsentOverview(
                self._effective(connection, caller.tenant, subject, "", loaded),
                subject.jurisdictions,
                subject.restricted_seq > 0,
                _NOWHERE,
            )

        shown, recorded = self._show(caller, customer_number, work)
        return replace(shown, recorded=recorded)

    def events(self, caller: Caller, customer_number: str, after_seq: int, limit: int) -> EventPage:
        """A page of the ledger, in order of seq.

        Raises: as `overview`.
        """

        def work(connection: Connection, subject: Subject, _: Loaded) -> EventPage:
            found = self._consents.events(connection, caller.tenant, subject.id, after_seq, limit + 1)
            page = tuple(found[:limit])
            return EventPage(page, page[-1].seq if len(found) > limit else 0, _NOWHERE)

        shown, recorded = self._show(caller, customer_number, work)
        return replace(shown, recorded=recorded)

    def _show(
        self, caller: Caller, customer_number: str, work: Callable[[Connection, Subject, Loaded], T]
    ) -> tuple[T, RecordedAt]:
        loaded = self._policy.current
        act = Act.CONSENT_READ.value
        try:
            authorise(loaded, caller, Act.CONSENT_READ)
            checks = FieldChecks()
            checks.customer_number(customer_number)
            checks.raise_if_any()
            mac = self._enrolment.lookup(caller.tenant).mac(customer_number)
            with self._transactions.read() as connection:
                subject = self._subjects.find(connection, caller.tenant, [mac]).get(mac)
                if subject is None:
                    raise NotFoundError("customer_number: no such customer")
                value = work(connection, subject, loaded)
        except (NotPermittedError, InvalidArgumentError, NotFoundError) as error:
            denied = isinstance(error, NotPermittedError)
            self._recorder.record(
                self._recorder.draft(
                    caller,
                    act,
                    outcome=Outcome.DENIED if denied else Outcome.ERROR,
                    detail={"error": error.reason.value},
                )
            )
            raise
        record = self._recorder.draft(caller, act, subject=subject.audit_pseudonym)
        return value, self._recorder.record(record)

    def _effective(
        self, connection: Connection, tenant: str, subject: Subject, purpose: str, loaded: Loaded
    ) -> tuple[InForce, ...]:
        """What is in force for the leaves at or below `purpose` ('' for all)."""
        entries = self._consents.state(connection, tenant, subject.id)
        purposes = loaded.bundle.purposes
        leaves = leaves_below(purposes, purpose) if purpose else _all_leaves(purposes)
        now = self._clock.now()
        return tuple(in_force(purposes, subject, entries, leaf, now) for leaf in leaves)


def _all_leaves(purposes: Mapping[str, Purpose]) -> list[Purpose]:
    return [purposes[name] for name in sorted(purposes) if purposes[name].leaf]


_NOWHERE: Final = RecordedAt("", 0)


def _check(change: _Change) -> None:
    checks = FieldChecks()
    checks.request_id(change.request_id)
    checks.customer_number(change.customer_number)
    checks.jurisdictions(change.enrol_in or ())
    checks.raise_if_any()


def _content(act: Act, write: ConsentWrite) -> tuple[str, ...]:
    """What the fingerprint of a request covers: everything but the request id."""
    return (
        act.value,
        write.customer_number,
        write.purpose,
        write.state.value,
        write.channel,
        write.evidence,
        write.notice,
        str(write.notice_version),
        write.language,
        write.jurisdiction,
        str(write.valid_from),
        str(write.expires_at),
        ",".join(sorted(write.jurisdictions)),
    )


def _request(write: ConsentWrite) -> ConsentRequest:
    return ConsentRequest(
        purpose=write.purpose,
        state=write.state,
        notice=write.notice,
        notice_version=write.notice_version,
        language=write.language,
        jurisdiction=write.jurisdiction,
        channel=write.channel,
        evidence=write.evidence,
        valid_from=write.valid_from,
        expires_at=write.expires_at,
    )


def _outside(event: ConsentEvent) -> Mapping[str, Any]:
    """A negative event as the outside store keeps it: what is needed to apply it again."""
    return {
        "kind": "consent",
        "event": event.id,
        "purpose": event.purpose,
        "state": event.state.value,
        "jurisdiction": event.jurisdiction,
        "channel": event.channel,
        "recorded_by": event.recorded_by,
        "recorded_at": event.recorded_at,
    }
