"""What retention is counted from, and legal holds: set per customer by the privacy office.

    1 authorise   the right to set it
    2 check       fields
    3 change      one transaction: replay, lock the subject, set, outbox, record
    4 answer      what is in force now

Reads and erasures that start after step 3 go by it. The reason of a hold stays out of the log: it is kept
with the customer, and ends with the customer.
"""

import datetime
import re
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.crypto.encoding import lp
from vault.crypto.lookup_keys import LookupKeys
from vault.domain.checks import FieldChecks
from vault.domain.errors import (
    InvalidArgumentError,
    NotFoundError,
    NotPermittedError,
    RequestIdReusedError,
)
from vault.domain.protocols import Clock
from vault.domain.types import UNKNOWN_SUBJECT, Act, Caller, Subject
from vault.enrolment import Enrolment
from vault.permission import authorise
from vault.policy.live import LivePolicy
from vault.recording import Committed, RecordedAt, Recorder
from vault.replay import Kept, Replay, Replays
from vault.store.erasure import ErasureRepository
from vault.store.subjects import SubjectRepository

RETENTION: Final = "retention"
"""Kind of the event in the outside store: a restored backup must not forget a hold."""
REASON_CHARACTERS: Final = 256
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_OLDEST: Final = datetime.date(1900, 1, 1)
_DAY_MICROSECONDS: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class RetentionChange:
    """One change: exactly one of the two is not None. `ended_on` '' opens the relationship again, `hold` ''
    lifts the hold."""

    request_id: str
    customer_number: str = field(repr=False)
    ended_on: str | None = None
    hold: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RetentionOutcome:
    """What is in force: the day the relationship ended (None: open), the reason of the hold ('' for none)."""

    ended_on: datetime.date | None
    hold: str = field(repr=False)
    recorded: RecordedAt
    replayed: bool = False


class RetentionPipeline:
    """Holds what the steps need; has no state of its own between calls."""

    def __init__(
        self,
        subjects: SubjectRepository,
        store: ErasureRepository,
        replays: Replays,
        enrolment: Enrolment,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._subjects = subjects
        self._store = store
        self._replays = replays
        self._enrolment = enrolment
        self._policy = policy
        self._recorder = recorder
        self._clock = clock

    def set(self, caller: Caller, change: RetentionChange) -> RetentionOutcome:
        """Set one of the two.

        Raises:
            NotPermittedError, InvalidArgumentError, NotFoundError, RequestIdReusedError,
            AuditUnavailableError, StoreUnavailableError.
        """
        loaded = self._policy.current
        try:
            authorise(loaded, caller, Act.SUBJECT_RETENTION)  # 1
            _check(change, self._clock.now())  # 2
            return self._commit(caller, change, loaded.bundle.hash)
        except (NotPermittedError, InvalidArgumentError, NotFoundError, RequestIdReusedError) as error:
            record = self._recorder.draft(caller, Act.SUBJECT_RETENTION.value, policy=loaded.bundle.hash)
            self._recorder.refuse(record, error)

    def _commit(self, caller: Caller, change: RetentionChange, policy: str) -> RetentionOutcome:
        def attempt(lookup: LookupKeys) -> Committed[RetentionOutcome]:
            fingerprints = lookup.fingerprints(_content(change))

            def work(connection: Connection) -> tuple[RetentionOutcome, list[EncodedRecord]]:  # 3
                wanted = {change.request_id: fingerprints}
                kept = self._replays.look_up(connection, caller, lookup, wanted)
                earlier = kept.get(change.request_id)
                if earlier is not None and not isinstance(earlier, Replay):
                    raise earlier
                found = self._enrolment.find(connection, lookup, change.customer_number)
                if isinstance(earlier, Replay):
                    return self._again(connection, caller, change, policy, earlier, found)
                return self._apply(connection, caller, change, policy, fingerprints[0], found)

            return self._recorder.commit(work)

        committed = self._enrolment.with_lookup(caller.tenant, attempt)
        outcome = committed.value
        if outcome.replayed:
            return outcome
        placed = RecordedAt(outcome.recorded.record_id, committed.positions[0])
        return replace(outcome, recorded=placed)  # 4

    def _apply(
        self,
        connection: Connection,
        caller: Caller,
        change: RetentionChange,
        policy: str,
        fingerprint: bytes,
        found: Subject | None,
    ) -> tuple[RetentionOutcome, list[EncodedRecord]]:
        locked = self._subjects.lock(connection, caller.tenant, [found.id] if found else [])
        subject = locked.get(found.id) if found else None
        if subject is None:
            raise NotFoundError("customer_number: no such customer")
        before = self._store.relationship_end(connection, caller.tenant, subject.id)
        ended_on = before if change.ended_on is None else _date(change.ended_on)
        hold = subject.legal_hold if change.hold is None else change.hold
        self._store.set_retention(connection, caller.tenant, subject.id, ended_on, hold)
        told: dict[str, Any] = {
            "relationship_ended_on": _text(ended_on),
            "relationship_ended_on_before": _text(before),
            "legal_hold": int(bool(hold)),
            "legal_hold_before": int(bool(subject.legal_hold)),
        }
        record = self._recorder.draft(
            caller,
            Act.SUBJECT_RETENTION.value,
            subject=subject.audit_pseudonym,
            request=change.request_id,
            policy=policy,
            detail=told,
        )
        answer = {"ended_on": _text(ended_on), "hold": hold}
        self._replays.keep(connection, caller, [Kept(change.request_id, record.id, fingerprint, answer)])
        self._send_outside(connection, caller.tenant, subject, record.id, answer)
        outcome = RetentionOutcome(ended_on, hold, RecordedAt(record.id, 0))
        return outcome, [EncodedRecord.of(record)]

    def _again(
        self,
        connection: Connection,
        caller: Caller,
        change: RetentionChange,
        policy: str,
        replay: Replay,
        subject: Subject | None,
    ) -> tuple[RetentionOutcome, list[EncodedRecord]]:
        """Answer a repeated request as the first time; on record as a repeat."""
        record = self._recorder.draft(
            caller,
            Act.SUBJECT_RETENTION.value,
            subject=subject.audit_pseudonym if subject else UNKNOWN_SUBJECT,
            request=change.request_id,
            policy=policy,
            detail={"replay_of": replay.record_id},
        )
        recorded = RecordedAt(
            replay.record_id, self._recorder.position(connection, caller.tenant, replay.record_id)
        )
        ended_on = _date(str(replay.answer["ended_on"]))
        outcome = RetentionOutcome(ended_on, str(replay.answer["hold"]), recorded, replayed=True)
        return outcome, [EncodedRecord.of(record)]

    def _send_outside(
        self, connection: Connection, tenant: str, subject: Subject, event: str, answer: dict[str, str]
    ) -> None:
        document = {
            "kind": RETENTION,
            "event": event,
            "tenant": tenant,
            "subject": subject.id.hex(),
            "recorded_at": self._clock.now(),
            **answer,
        }
        self._recorder.send_outside(connection, tenant, document)


def _check(change: RetentionChange, now: int) -> None:
    checks = FieldChecks()
    checks.request_id(change.request_id)
    checks.customer_number(change.customer_number)
    checks.require(
        (change.ended_on is None) is not (change.hold is None),
        "change",
        "must be relationship_ended_on or legal_hold, one of them",
    )
    if change.ended_on:
        checks.require(
            _possible(change.ended_on, now),
            "relationship_ended_on",
            "must be a day from 1900 until today as YYYY-MM-DD, or empty while the relationship goes on",
        )
    if change.hold is not None:
        checks.text(change.hold, "legal_hold", REASON_CHARACTERS, optional=True)
    checks.raise_if_any()


def _possible(text: str, now: int) -> bool:
    """A mistyped year would keep data for decades, or destroy it at once. Where it is tomorrow already, the
    day is a possible one too."""
    if not _DATE.fullmatch(text):
        return False
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        return False
    latest = datetime.date(1970, 1, 1) + datetime.timedelta(days=now // _DAY_MICROSECONDS + 1)
    return _OLDEST <= day <= latest


def _date(text: str) -> datetime.date | None:
    return datetime.date.fromisoformat(text) if text else None


def _text(day: datetime.date | None) -> str:
    return "" if day is None else day.isoformat()


def _content(change: RetentionChange) -> bytes:
    """What the fingerprint of a request covers: everything but the request id."""
    kind = "ended" if change.hold is None else "hold"
    parts = (Act.SUBJECT_RETENTION.value, change.customer_number, kind, change.ended_on or change.hold or "")
    return lp(*(part.encode() for part in parts))
