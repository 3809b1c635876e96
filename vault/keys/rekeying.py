"""A customer's values encrypted anew, under new DEKs (keys.md, "Rotation").

    1 authorise   the act keys.rewrap; check the fields
    2 prepare     outside any transaction, for it waits for the KMS: open the old DEKs, and make a new one per
                  key class
    3 change      one transaction: replay, lock the subject, seal every value again as the same version of the
                  same value, put the new DEKs in the place of the old ones, record
    4 answer

What an erasure left stays what it is: it gets a DEK of its own, retained since the same moment. Where DEKs
came or went between 2 and 3 both are done again. The customer number is under the tenant's lookup key.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.audit.record import Record
from vault.crypto.encoding import lp
from vault.crypto.lookup_keys import LookupKeys
from vault.domain.checks import FieldChecks
from vault.domain.errors import (
    AuditUnavailableError,
    DatavaultError,
    KeyTooOldError,
    NotFoundError,
    StoreUnavailableError,
)
from vault.domain.preparation import Preparation
from vault.domain.protocols import Clock, Transactions
from vault.domain.types import Act, Caller, Subject
from vault.enrolment import Enrolment
from vault.keys.resealing import KeyChange, Resealer
from vault.permission import authorise
from vault.policy.live import LivePolicy
from vault.recording import Committed, RecordedAt, Recorder
from vault.replay import Kept, Replay, Replays
from vault.store.rekeying import RekeyRepository, Sealed
from vault.store.subjects import SubjectRepository

ACTION: Final = "subject.rekey"
_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """The answer: how many values, the key classes that have a new DEK, and when (microseconds UTC)."""

    values: int
    key_classes: tuple[str, ...]
    at: int
    recorded: RecordedAt
    replayed: bool = False


class _StaleError(Exception):
    """What was prepared is no longer what the store holds: prepare again."""


@dataclass(frozen=True, slots=True)
class _Request:
    caller: Caller
    request_id: str
    customer_number: str = field(repr=False)

    @property
    def content(self) -> bytes:
        """What the fingerprint covers: everything but the request id."""
        return lp(ACTION.encode(), self.customer_number.encode())


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What step 3 needs: the subject as it was found, its change of DEKs, and when that began."""

    at: Preparation
    subject: Subject
    old: Sealed
    change: KeyChange


class RekeyPipeline:
    """Holds what the steps need; has no state of its own between calls."""

    def __init__(
        self,
        transactions: Transactions,
        subjects: SubjectRepository,
        rows: RekeyRepository,
        replays: Replays,
        enrolment: Enrolment,
        resealer: Resealer,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._subjects = subjects
        self._rows = rows
        self._replays = replays
        self._enrolment = enrolment
        self._resealer = resealer
        self._policy = policy
        self._recorder = recorder
        self._clock = clock

    def rekey(self, caller: Caller, request_id: str, customer_number: str) -> Rekeyed:
        """Encrypt every value of a customer under new DEKs, and destroy the old ones.

        Raises:
            NotPermittedError, InvalidArgumentError, NotFoundError, RequestIdReusedError,
            KeysUnavailableError, StoreUnavailableError, AuditUnavailableError.
            IntegrityError: a value does not open: nothing was changed.
        """
        loaded = self._policy.current
        draft = self._recorder.draft(caller, ACTION, policy=loaded.bundle.hash)
        try:
            authorise(loaded, caller, Act.KEYS_REWRAP)  # 1
            checks = FieldChecks()
            checks.request_id(request_id)
            checks.customer_number(customer_number)
            checks.raise_if_any()
            request = _Request(caller, request_id, customer_number)
            return self._enrolment.with_lookup(
                caller.tenant, lambda lookup: self._attempts(request, lookup, draft)
            )
        except (StoreUnavailableError, AuditUnavailableError):
            raise
        except DatavaultError as error:
            self._recorder.refuse(draft, error)

    def _attempts(self, request: _Request, lookup: LookupKeys, draft: Record) -> Rekeyed:
        for left in reversed(range(_ROUNDS)):
            try:
                prepared = self._prepare(request, lookup)
                committed = self._commit(request, lookup, prepared, draft)
            except _StaleError:
                continue
            except KeyTooOldError:
                # the row may have been rewrapped since it was read
                if not left:
                    raise
                continue
            if committed.value.replayed:
                return committed.value
            self._resealer.forget(request.caller.tenant, prepared.subject.id, prepared.old)
            recorded = RecordedAt(committed.value.recorded.record_id, committed.positions[0])
            return replace(committed.value, recorded=recorded)  # 4
        raise StoreUnavailableError("the customer is being changed by many at once: try again")

    # --- 2 prepare -----------------------------------------------------------------------------------------

    def _prepare(self, request: _Request, lookup: LookupKeys) -> _Prepared:
        tenant, at = request.caller.tenant, Preparation.begin(self._clock)
        with self._transactions.read() as connection:
            subject = self._enrolment.find(connection, lookup, request.customer_number)
            old = self._rows.load(connection, tenant, subject.id) if subject else Sealed((), ())
        if subject is None:
            raise NotFoundError("customer_number: no such customer")
        return _Prepared(at, subject, old, self._resealer.prepare(tenant, subject.id, old))

    # --- 3 change ------------------------------------------------------------------------------------------

    def _commit(
        self, request: _Request, lookup: LookupKeys, prepared: _Prepared, draft: Record
    ) -> Committed[Rekeyed]:
        caller, fingerprints = request.caller, lookup.fingerprints(request.content)

        def work(connection: Connection) -> tuple[Rekeyed, list[EncodedRecord]]:
            asked = {request.request_id: fingerprints}
            kept = self._replays.look_up(connection, caller, lookup, asked).get(request.request_id)
            if isinstance(kept, Replay):
                record = self._record(request, prepared.subject, draft, {"replay_of": kept.record_id})
                position = self._recorder.position(connection, caller.tenant, kept.record_id)
                return _replayed(kept, position), [EncodedRecord.of(record)]
            if kept is not None:
                raise kept
            values, now = self._replace(connection, caller.tenant, prepared), self._clock.now()
            classes = sorted({held.key.key_class for held in prepared.change.rows})
            detail = {"values": values, "key_classes": ",".join(classes)}
            record = self._record(request, prepared.subject, draft, detail)
            answer = {"values": values, "key_classes": classes, "at": now}
            self._replays.keep(
                connection, caller, [Kept(request.request_id, record.id, fingerprints[0], answer)]
            )
            done = Rekeyed(values, tuple(classes), now, RecordedAt(record.id, 0))
            return done, [EncodedRecord.of(record)]

        return self._recorder.commit(work)

    def _replace(self, connection: Connection, tenant: str, prepared: _Prepared) -> int:
        """The number of values.

        Raises:
            _StaleError: a DEK was made or destroyed since `_prepare`, or that was long ago. IntegrityError.
        """
        subject = prepared.subject.id
        locked = self._subjects.lock(connection, tenant, [subject])
        now = self._rows.load(connection, tenant, subject)
        if not locked or not now.same_keys(prepared.old) or prepared.at.is_stale(self._clock):
            raise _StaleError
        ciphertexts = self._resealer.reseal(tenant, subject, now, prepared.change)
        if ciphertexts is None:
            raise _StaleError
        self._rows.replace(connection, tenant, subject, now, prepared.change.rows, ciphertexts)
        return len(ciphertexts)

    def _record(self, request: _Request, subject: Subject, draft: Record, detail: dict[str, Any]) -> Record:
        return self._recorder.draft(
            request.caller,
            ACTION,
            subject=subject.audit_pseudonym,
            request=request.request_id,
            policy=draft.policy,
            detail=detail,
        )


def _replayed(replay: Replay, position: int) -> Rekeyed:
    answer = replay.answer
    return Rekeyed(
        int(answer["values"]),
        tuple(answer["key_classes"]),
        int(answer["at"]),
        RecordedAt(replay.record_id, position),
        replayed=True,
    )
