"""The disclosure pipeline: the one way an attribute leaves the vault.

    1 load      subject, keys, ciphertext, consent: one snapshot per tenant of the group
    2 bases     which legal bases hold now
    3 decide    a form or a denial per attribute
    4 open      unwrap keys, decrypt, apply the form; write the answer's parts and size them
    5 record    wait until the audit record is durable
    6 release   answer the caller

Only what step 3 allowed is ever decrypted, and nothing of step 4 is returned unless step 5 succeeded. Every
item of a group ends in its own answer or its own error. `disclose` blocks: it runs on the worker thread.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.audit.logbook import LogPlace
from vault.audit.record import Record, encode
from vault.consent.bases import EffectiveBases, effective
from vault.crypto.keyring import Keyring
from vault.crypto.tenant_keys import TenantKeys
from vault.disclosing.decisions import DecisionMaker
from vault.disclosing.guard import guard
from vault.disclosing.item import Item, Opened
from vault.disclosing.loading import Loader
from vault.disclosing.opening import Opener
from vault.disclosing.quotas import Metered, Quotas, metered_items
from vault.domain.checks import well_formed
from vault.domain.errors import (
    AnswerTooLargeError,
    AuditUnavailableError,
    DatavaultError,
    RecordTooLargeError,
    RequireAllError,
    Violation,
)
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, Transactions
from vault.domain.types import UNKNOWN_SUBJECT, Outcome
from vault.policy.bundle import Bundle
from vault.policy.live import LivePolicy
from vault.reads import AnswerWriter, Attempt, MissingKeys, Released, Result, check_read
from vault.recording import Recorder
from vault.store.quotas import QuotaRepository
from vault.store.reader import SubjectReader

log = structlog.get_logger("datavault.disclosure")

READ: Final = "read"


class DisclosurePipeline:
    """Holds what the six steps need; keeps nothing of a group but decisions, see `DecisionMaker`. One thread
    at a time discloses."""

    def __init__(
        self,
        transactions: Transactions,
        reader: SubjectReader,
        quotas: QuotaRepository,
        tenant_keys: TenantKeys,
        keyring: Keyring,
        policy: LivePolicy,
        recorder: Recorder,
        writer: AnswerWriter,
        clock: Clock,
    ) -> None:
        self._quotas = Quotas(transactions, quotas, clock)
        self._loader = Loader(transactions, reader, self._quotas, clock)
        self._opener = Opener(keyring, tenant_keys, writer)
        self._tenant_keys = tenant_keys
        self._policy = policy
        self._recorder = recorder
        self._writer = writer
        self._clock = clock
        self._maker: DecisionMaker | None = None

    def disclose(self, group: Sequence[Attempt]) -> list[Result]:
        """Take a group of reads through the six steps; one result per read, in order. Never raises."""
        maker = self._decision_maker()
        bundle = maker.loaded.bundle
        items = [Item(attempt) for attempt in group]
        for item in items:
            guard(self._admit, item, maker)
        self._loader.load(items, bundle)  # 1
        now = self._clock.now()
        for item in items:
            if item.error is None and not item.stale:
                guard(self._answer, item, maker, now)
        positions = self._record(items, bundle)  # 5
        return [self._release(item, bundle.hash, positions) for item in items]  # 6

    def refresh(self, tenant: str) -> None:
        """Read a tenant's lookup keys again, for items that left their group for them. Not on the worker
        thread: it may wait for the KMS.

        Raises:
            KeysUnavailableError, StoreUnavailableError, IntegrityError.
        """
        self._tenant_keys.refresh(tenant)

    # --- before 1 ------------------------------------------------------------------------------------------

    def _admit(self, item: Item, maker: DecisionMaker) -> None:
        read = item.read
        check_read(read)
        item.checked = True
        item.entitled = maker.entitled(read)
        item.lookup = self._tenant_keys.lookup(read.caller.tenant)
        item.macs = item.lookup.macs(read.customer_number)

    def _decision_maker(self) -> DecisionMaker:
        """That of the bundle in force; decisions under another one are forgotten with it."""
        maker, loaded = self._maker, self._policy.current
        if maker is None or maker.loaded is not loaded:
            maker = self._maker = DecisionMaker(loaded, self._writer)
        return maker

    # --- 2 bases, 3 decide, 4 open -------------------------------------------------------------------------

    def _answer(self, item: Item, maker: DecisionMaker, now: int) -> None:
        read, snapshot, bundle = item.read, item.snapshot, maker.loaded.bundle
        held = None
        if item.entitled and snapshot is not None:
            held = effective(  # 2
                bundle.purposes, snapshot.subject, snapshot.consents, read.purpose, now
            )
        if held is not None and snapshot is not None and any(key.retained for key in snapshot.keys.values()):
            decisions = maker.of_retained(read, held, snapshot)  # 3
        else:
            decisions = maker.of(read, held, entitled=item.entitled)  # 3
        opened = self._opener.open(item, decisions, now)  # 4
        if item.missing:
            return
        item.record = self._draft(item, opened, held, bundle)
        if read.require_all and opened.denials:
            raise _all_required(opened)
        if self._writer.size(opened.parts) > LIMITS.message_bytes:
            raise AnswerTooLargeError(
                f"the answer is larger than {LIMITS.message_bytes} bytes: ask for fewer attributes"
            )
        item.opened = opened

    def _draft(self, item: Item, opened: Opened, held: EffectiveBases | None, bundle: Bundle) -> Record:
        read, snapshot = item.read, item.snapshot
        return self._recorder.draft(
            read.caller,
            READ,
            outcome=_outcome(len(opened.parts), len(opened.denials), read.require_all),
            subject=snapshot.subject.audit_pseudonym if snapshot else UNKNOWN_SUBJECT,
            purpose=read.purpose,
            attributes=opened.entries,
            request=read.request_id,
            policy=bundle.hash,
            max_form=read.max_form.value if read.max_form else "",
            require_all=int(read.require_all),
            consents=held.events if held else (),
        )

    # --- 5 record ------------------------------------------------------------------------------------------

    def _record(self, items: Sequence[Item], bundle: Bundle) -> dict[str, int]:
        """Make the records of all items durable, in one transaction per log; position by record id."""
        logs: dict[LogPlace, list[Item]] = defaultdict(list)
        for item in items:
            if not item.leaves:
                guard(self._encode, item, bundle, logs)
        positions: dict[str, int] = {}
        for _, members in sorted(logs.items(), key=lambda each: each[0]):
            positions |= self._record_in_one(members, bundle)
        return positions

    def _encode(self, item: Item, bundle: Bundle, logs: dict[LogPlace, list[Item]]) -> None:
        place = self._recorder.logs.of(item.read.caller.tenant)
        if item.record is None or (item.error and not isinstance(item.error, RequireAllError)):
            item.record = self._record_of_failure(item, bundle)
        try:
            entry = encode(item.record)
        except RecordTooLargeError as error:
            item.error = error
            item.record = self._record_of_failure(item, bundle)
            entry = encode(item.record)
        item.encoded = EncodedRecord(item.record.id, entry, item.record.tenant)
        logs[place].append(item)

    def _record_of_failure(self, item: Item, bundle: Bundle) -> Record:
        """The record of a call that failed as a whole: it names no attributes."""
        read = item.read
        return self._recorder.draft(
            read.caller,
            READ,
            outcome=Outcome.ERROR,
            subject=item.snapshot.subject.audit_pseudonym if item.snapshot else UNKNOWN_SUBJECT,
            purpose=read.purpose if well_formed(read.purpose) else "",
            request=read.request_id if item.checked else "",
            policy=bundle.hash,
            max_form=read.max_form.value if read.max_form else "",
            require_all=int(read.require_all),
            detail={"error": item.error.reason.value} if item.error else {},
        )

    def _record_in_one(self, items: Sequence[Item], bundle: Bundle) -> dict[str, int]:
        """The same for the items of one log: where it takes nothing now, the others go on."""
        records = [item.encoded for item in items if item.encoded is not None]
        try:
            positions = self._commit(metered_items(filter(_counts, items), bundle), records)
        except DatavaultError as error:
            log.error("audit_append_failed", reason=error.reason.value, records=len(records))
            for item in items:
                item.error = AuditUnavailableError(
                    "the audit log cannot be written now, so nothing is released",
                    retry_after_seconds=LIMITS.retry_after_seconds,
                )
            return {}
        return {record.id: position for record, position in zip(records, positions, strict=True)}

    def _commit(self, metered: Metered, records: Sequence[EncodedRecord]) -> tuple[int, ...]:
        if not metered:
            return self._recorder.commit_records(records)

        def work(connection: Connection) -> tuple[None, Sequence[EncodedRecord]]:
            self._quotas.add(connection, metered)
            return None, records

        return self._recorder.commit(work).positions

    # --- 6 release -----------------------------------------------------------------------------------------

    def _release(self, item: Item, bundle_hash: str, positions: Mapping[str, int]) -> Result:
        if item.leaves:
            tenants = (item.read.caller.tenant,) if item.stale else ()
            return MissingKeys(tuple(item.missing.values()), tenants)
        if item.error is not None:
            return item.error
        record, opened = item.record, item.opened
        if record is None or opened is None or record.id not in positions:
            return DatavaultError("internal error")
        position = positions[record.id]
        answer = self._writer.finish(opened.parts, record.id, position, bundle_hash)
        return Released(answer, record.id, position, record.outcome, opened.denials)


def _outcome(asked: int, denied: int, require_all: bool) -> Outcome:
    if not denied:
        return Outcome.AUTHORISED
    return Outcome.PARTIAL if denied < asked and not require_all else Outcome.DENIED


def _all_required(opened: Opened) -> RequireAllError:
    denied = [(name, entry.reason) for name, entry in opened.entries.items() if entry.reason]
    return RequireAllError(
        "require_all: " + ", ".join(f"{name} is denied ({reason})" for name, reason in denied[:5]),
        violations=[Violation(f"attributes[{name}]", reason) for name, reason in denied],
    )


def _counts(item: Item) -> bool:
    """Whether a read counts against a quota; a require_all that failed has told the reasons all the same."""
    return item.error is None or isinstance(item.error, RequireAllError)
