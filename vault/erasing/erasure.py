"""Erasing a customer (GDPR 17, CCPA delete): crypto-shredding per key class (keys.md, "Erasure").

    1 authorise   the right to erase
    2 check       fields
    3 prepare     find the customer, make the key of the evidence: outside any transaction, it may wait for
                  the KMS
    4 destroy     one transaction: replay, lock, decide per class, seal the consents, delete, tombstone,
                  record
    5 forget      the cached keys; where asked, rewrite the database file
    6 answer      the receipt, signed

A read that starts after step 4 gets nothing of what was erased, on any replica: a cached key serves only
with the row that was deleted. Nothing after step 4 undoes it: where the receipt cannot be signed the call
fails, and a repeat with the same request id answers the same receipt.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.audit.record import Record
from vault.crypto.encoding import lp
from vault.crypto.keyring import Keyring
from vault.crypto.lookup_keys import LookupKeys
from vault.crypto.receipts import ReceiptSigner
from vault.domain.checks import FieldChecks
from vault.domain.errors import (
    IntegrityError,
    InvalidArgumentError,
    KeysUnavailableError,
    NotFoundError,
    NotPermittedError,
    RequestIdReusedError,
    StoreUnavailableError,
)
from vault.domain.limits import LIMITS
from vault.domain.preparation import Preparation
from vault.domain.protocols import Clock, ConsentRepository, Transactions
from vault.domain.types import UNKNOWN_SUBJECT, Act, Caller, KeyScope, Subject
from vault.enrolment import Enrolment
from vault.erasing.evidence import EvidenceKey, evidence_scope, make_keys
from vault.erasing.receipts import (
    Erasure,
    ErasureOutcome,
    Made,
    Receipt,
    Tombstone,
    build_receipt,
    read_receipt,
)
from vault.erasing.retention import Plan
from vault.erasing.shredding import MissingKeyError, Shredder
from vault.permission import authorise
from vault.policy.bundle import Bundle
from vault.policy.live import LivePolicy
from vault.recording import RecordedAt, Recorder
from vault.replay import Kept, Replay, Replays

log = structlog.get_logger("datavault.erasure")

PREVIEW: Final = "subject.erase-preview"
_ROUNDS: Final = 4
_REFUSED: Final = (
    NotPermittedError,
    InvalidArgumentError,
    NotFoundError,
    RequestIdReusedError,
    KeysUnavailableError,
    IntegrityError,
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One erasure on its way through the steps."""

    caller: Caller
    request_id: str
    customer_number: str = field(repr=False)
    bundle: Bundle
    lookup: LookupKeys

    @property
    def tenant(self) -> str:
        return self.caller.tenant

    @property
    def fingerprints(self) -> tuple[bytes, ...]:
        """Not of `scrub`: whoever repeats the request to scrub after all means the same erasure."""
        return self.lookup.fingerprints(lp(Act.SUBJECT_ERASE.value.encode(), self.customer_number.encode()))


@dataclass(frozen=True, slots=True)
class _Done:
    """What step 4 did, and whose cached keys are to be forgotten."""

    receipt: Receipt
    recorded: RecordedAt
    replayed: bool = False
    scopes: tuple[KeyScope, ...] = ()


class ErasurePipeline:
    """Holds what the steps need; has no state of its own between calls.

    `scrub` rewrites the database file, or raises StoreUnavailableError with the reason why it did not.
    """

    def __init__(
        self,
        transactions: Transactions,
        consents: ConsentRepository,
        shredder: Shredder,
        replays: Replays,
        enrolment: Enrolment,
        keyring: Keyring,
        signer: ReceiptSigner,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
        scrub: Callable[[], None],
    ) -> None:
        self._transactions = transactions
        self._consents = consents
        self._shredder = shredder
        self._replays = replays
        self._enrolment = enrolment
        self._keyring = keyring
        self._signer = signer
        self._policy = policy
        self._recorder = recorder
        self._clock = clock
        self._scrub = scrub

    def erase(self, caller: Caller, request: Erasure) -> ErasureOutcome:
        """Destroy what no ground and no legal hold keeps, or in a dry run tell what that would be.

        Raises:
            NotPermittedError, InvalidArgumentError, NotFoundError, RequestIdReusedError,
            AuditUnavailableError, StoreUnavailableError: nothing was destroyed.
            KeysUnavailableError: the same, or, where the message says so, all is done but the signature.
        """
        bundle = self._policy.current.bundle
        action = PREVIEW if request.dry_run else Act.SUBJECT_ERASE.value
        try:
            authorise(self._policy.current, caller, Act.SUBJECT_ERASE)  # 1
            _check(request)  # 2

            def asked(lookup: LookupKeys) -> _Asked:
                return _Asked(caller, request.request_id, request.customer_number, bundle, lookup)

            if request.dry_run:
                return self._enrolment.with_lookup(caller.tenant, lambda keys: self._preview(asked(keys)))
            done = self._enrolment.with_lookup(caller.tenant, lambda keys: self._destroy(asked(keys)))
        except _REFUSED as error:
            self._recorder.refuse(self._recorder.draft(caller, action, policy=bundle.hash), error)
        if done.scopes:
            self._keyring.forget(done.scopes)  # 5
        problem = self._scrub_problem() if request.scrub else ""
        return self._answer(done, scrubbed=request.scrub and not problem, problem=problem)  # 6

    def _preview(self, asked: _Asked) -> ErasureOutcome:
        with self._transactions.read() as connection:
            subject = self._found(connection, asked)
            plan = self._shredder.plan(connection, asked.tenant, subject, asked.bundle, self._clock.now())
        record = self._record(asked, PREVIEW, subject, _told(plan))
        recorded = self._recorder.record(record)
        erased = tuple(one.key_class for one in plan.erased)
        return ErasureOutcome(erased, plan.retained, plan.whole, recorded)

    # --- 3 prepare, 4 destroy ------------------------------------------------------------------------------

    def _destroy(self, asked: _Asked) -> _Done:
        receipt_id = self._recorder.new_id()
        for _ in range(_ROUNDS):
            prepared = Preparation.begin(self._clock)
            key = self._evidence_key(asked, receipt_id)
            try:
                return self._commit(asked, receipt_id, key, prepared)
            except MissingKeyError:
                continue
        raise StoreUnavailableError("the customer is being changed by many at once: try again")

    def _evidence_key(self, asked: _Asked, receipt_id: str) -> EvidenceKey | None:
        """The key for evidence where there is something to seal, and a ground to keep it."""
        with self._transactions.read() as connection:
            if self._earlier(connection, asked, claim=False) is not None:
                return None
            subject = self._found(connection, asked)
            if not self._shredder.sealable(
                connection, asked.tenant, subject, asked.bundle, self._clock.now()
            ):
                return None
        return make_keys(self._keyring, asked.tenant, [receipt_id])[0]

    def _commit(
        self, asked: _Asked, receipt_id: str, key: EvidenceKey | None, prepared: Preparation
    ) -> _Done:
        def work(connection: Connection) -> tuple[_Done, list[EncodedRecord]]:
            earlier = self._earlier(connection, asked)
            if isinstance(earlier, Replay):
                return self._again(connection, asked, earlier)
            if earlier is not None:
                raise earlier
            done = self._erase(connection, asked, receipt_id, key)
            if key is not None and prepared.is_stale(self._clock):
                raise MissingKeyError
            return done

        committed = self._recorder.commit(work)
        done = committed.value
        if done.replayed:
            return done
        return replace(done, recorded=RecordedAt(done.recorded.record_id, committed.positions[0]))

    def _erase(
        self, connection: Connection, asked: _Asked, receipt_id: str, key: EvidenceKey | None
    ) -> tuple[_Done, list[EncodedRecord]]:
        subject = self._locked(connection, asked)
        now = self._clock.now()
        done = self._shredder.shred(connection, asked.tenant, subject, asked.bundle, key, now)
        plan = done.plan
        told = _told(plan) | {"receipt": receipt_id, "consents": done.events}
        record = self._record(asked, Act.SUBJECT_ERASE.value, subject, told)
        place = self._recorder.logs.of(asked.tenant)
        recorded = RecordedAt(record.id, self._recorder.next_position(connection, place))
        made = Made(
            receipt_id,
            asked.tenant,
            now,
            recorded,
            place.origin,
            asked.bundle.hash,
            subject.legal_hold,
            done.events,
            done.evidence_until,
        )
        receipt = build_receipt(plan, made)
        answer = {"receipt": receipt.raw.decode("ascii")}
        self._replays.keep(
            connection, asked.caller, [Kept(asked.request_id, record.id, asked.fingerprints[0], answer)]
        )
        self._send_outside(connection, asked, subject, plan, made)
        scopes = tuple(KeyScope(asked.tenant, subject.id, one.key_class) for one in plan.erased)
        sealed = (evidence_scope(asked.tenant, receipt_id),) if key is not None else ()
        return _Done(receipt, recorded, scopes=scopes + sealed), [EncodedRecord.of(record)]

    def _send_outside(
        self, connection: Connection, asked: _Asked, subject: Subject, plan: Plan, made: Made
    ) -> None:
        """The tombstone: what a restored backup must destroy again (restoring.py)."""
        tombstone = Tombstone(
            made.receipt_id,
            tuple(one.key_class for one in plan.erased),
            plan.whole,
            bool(subject.legal_hold),
            made.evidence_until,
            made.at,
        )
        document = tombstone.document(asked.tenant, subject.id)
        self._recorder.send_outside(connection, asked.tenant, document, made.record.position)

    def _again(
        self, connection: Connection, asked: _Asked, replay: Replay
    ) -> tuple[_Done, list[EncodedRecord]]:
        """Answer a repeated request with its first receipt; on record as a repeat."""
        receipt = read_receipt(str(replay.answer["receipt"]).encode("ascii"))
        recorded = RecordedAt(
            replay.record_id, self._recorder.position(connection, asked.tenant, replay.record_id)
        )
        subject = self._enrolment.find(connection, asked.lookup, asked.customer_number)
        told: dict[str, str | int] = {"replay_of": replay.record_id, "receipt": receipt.id}
        record = self._record(asked, Act.SUBJECT_ERASE.value, subject, told)
        return _Done(receipt, recorded, replayed=True), [EncodedRecord.of(record)]

    def _earlier(
        self, connection: Connection, asked: _Asked, *, claim: bool = True
    ) -> Replay | RequestIdReusedError | None:
        wanted = {asked.request_id: asked.fingerprints}
        kept = self._replays.look_up(connection, asked.caller, asked.lookup, wanted, claim=claim)
        return kept.get(asked.request_id)

    def _found(self, connection: Connection, asked: _Asked) -> Subject:
        subject = self._enrolment.find(connection, asked.lookup, asked.customer_number)
        if subject is None:
            raise NotFoundError("customer_number: no such customer")
        return subject

    def _locked(self, connection: Connection, asked: _Asked) -> Subject:
        found = self._found(connection, asked)
        locked = self._consents.lock_subject(connection, asked.tenant, found.id)
        if locked is None:
            raise NotFoundError("customer_number: no such customer")
        return locked

    def _record(self, asked: _Asked, action: str, subject: Subject | None, told: dict[str, Any]) -> Record:
        return self._recorder.draft(
            asked.caller,
            action,
            subject=subject.audit_pseudonym if subject else UNKNOWN_SUBJECT,
            request=asked.request_id,
            policy=asked.bundle.hash,
            detail=told,
        )

    # --- 5 forget, 6 answer --------------------------------------------------------------------------------

    def _scrub_problem(self) -> str:
        try:
            self._scrub()
        except StoreUnavailableError as error:
            log.warning("scrub_failed", reason=error.reason.value)
            return error.message
        return ""

    def _answer(self, done: _Done, *, scrubbed: bool, problem: str) -> ErasureOutcome:
        try:
            signature = self._signer.sign(done.receipt.raw)
        except KeysUnavailableError:
            raise KeysUnavailableError(
                "the customer is erased, and the receipt cannot be signed now: repeat the request with the"
                " same request id",
                retry_after_seconds=LIMITS.retry_after_seconds,
            ) from None
        receipt = done.receipt
        return ErasureOutcome(
            receipt.erased,
            receipt.retained,
            receipt.whole,
            done.recorded,
            receipt,
            signature,
            scrubbed,
            problem,
            done.replayed,
        )


def _told(plan: Plan) -> dict[str, Any]:
    """What the record of an erasure says of it."""
    return {
        "erased": ",".join(one.key_class for one in plan.erased),
        "retained": ",".join(plan.kept),
        "whole": int(plan.whole),
    }


def _check(request: Erasure) -> None:
    checks = FieldChecks()
    checks.request_id(request.request_id, optional=request.dry_run)
    checks.customer_number(request.customer_number)
    checks.require(
        not (request.dry_run and request.scrub), "scrub", "destroys nothing in a dry run: leave it out"
    )
    checks.raise_if_any()
