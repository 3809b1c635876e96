"""The disclosure pipeline: the one way an attribute leaves the vault.

    1 load      subject, keys, ciphertext, consent: one snapshot per tenant of the group
    2 bases     which legal bases hold now
    3 decide    a form or a denial per attribute
    4 open      unwrap keys, decrypt, apply the form; build the answer and size it
    5 record    wait until the audit record is durable
    6 release   answer the caller

Only what step 3 allowed is ever decrypted, and nothing of step 4 is returned unless step 5 succeeded. Every
item of a group ends in its own answer or its own error. `disclose` blocks: it runs on the worker thread.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, Generic

import structlog
from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.audit.logbook import LogPlace
from vault.audit.record import AttributeEntry, Record, encode
from vault.consent.bases import EffectiveBases, effective
from vault.crypto.envelope import CUSTOMER_NUMBER, DataKey, dek_id_of
from vault.crypto.keyring import Keyring
from vault.crypto.lookup_keys import LookupKeys, OtherLookupKeyError
from vault.crypto.tenant_keys import TenantKeys
from vault.domain.checks import well_formed
from vault.domain.errors import (
    AnswerTooLargeError,
    AuditUnavailableError,
    DatavaultError,
    IntegrityError,
    PurposeNotLeafError,
    QuotaExceededError,
    RecordTooLargeError,
    RequireAllError,
    StoreUnavailableError,
    Violation,
)
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, Transactions
from vault.domain.types import (
    ANY_BASIS,
    OPERATION_BASIS,
    UNKNOWN_SUBJECT,
    Attribute,
    Basis,
    Decision,
    Form,
    KeyScope,
    Outcome,
    Reason,
    StoredValue,
    SubjectSnapshot,
    ValueScope,
    WrappedKey,
)
from vault.domain.values import Value, ValueFormatError, decode_value
from vault.erasing.retention import readable_bases
from vault.policy.bundle import Bundle
from vault.policy.forms import apply_form
from vault.policy.live import LivePolicy, Loaded
from vault.reads import (
    Answer,
    AnswerWriter,
    Attempt,
    DisclosedAttribute,
    M,
    MissingKeys,
    Read,
    Released,
    Result,
    check_read,
)
from vault.recording import Recorder
from vault.store.quotas import QuotaRepository
from vault.store.reader import Found, SubjectReader
from vault.store.tenant_keys import lookup_rows

log = structlog.get_logger("datavault.disclosure")

READ: Final = "read"
_EVERY_BASIS: Final = frozenset(basis.value for basis in Basis) - {ANY_BASIS, OPERATION_BASIS}
_NOT_PERMITTED: Final = Decision(form=None, reason=Reason.NOT_PERMITTED)
_LOADING_SECONDS: Final = 1.0
_HOUR_SECONDS: Final = 3_600
_HOUR_MICROSECONDS: Final = 3_600_000_000


class _Item(Generic[M]):
    """What is known of one read on its way through the steps."""

    __slots__ = (
        "attempt",
        "checked",
        "entitled",
        "error",
        "keys",
        "lookup",
        "macs",
        "message",
        "missing",
        "read",
        "record",
        "retains",
        "snapshot",
        "stale",
    )

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.read = attempt.read
        self.lookup: LookupKeys | None = None
        self.macs: tuple[bytes, ...] = ()
        self.stale = False
        self.checked = False
        self.entitled = False
        self.snapshot: SubjectSnapshot | None = None
        self.retains = False
        self.message: M | None = None
        self.record: Record | None = None
        self.error: DatavaultError | None = None
        self.keys: dict[bytes, DataKey] = {}
        self.missing: dict[WrappedKey, tuple[KeyScope, WrappedKey]] = {}

    @property
    def leaves(self) -> bool:
        """Whether it has to leave the group for keys."""
        return self.stale or bool(self.missing)

    def lacks_lookup(self) -> None:
        """Have the lookup keys read again: those in memory cannot tell whose record it is.

        Raises:
            DatavaultError: they were, once, for this read, and that did not help.
        """
        if isinstance(self.attempt.refreshed, DatavaultError):
            raise self.attempt.refreshed
        if self.attempt.refreshed:
            raise StoreUnavailableError(
                "the lookup keys are being changed: try again",
                retry_after_seconds=LIMITS.retry_after_seconds,
            )
        self.stale = True


_Metered = dict[tuple[str, str], list[_Item[M]]]
"""Reads that count against a quota, by (caller, purpose)."""


class DisclosurePipeline(Generic[M]):
    """Holds what the six steps need; has no state of its own between groups."""

    def __init__(
        self,
        transactions: Transactions,
        reader: SubjectReader,
        quotas: QuotaRepository,
        tenant_keys: TenantKeys,
        keyring: Keyring,
        policy: LivePolicy,
        recorder: Recorder,
        writer: AnswerWriter[M],
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._reader = reader
        self._quotas = quotas
        self._tenant_keys = tenant_keys
        self._keyring = keyring
        self._policy = policy
        self._recorder = recorder
        self._writer = writer
        self._clock = clock

    def disclose(self, group: Sequence[Attempt]) -> list[Result[M]]:
        """Take a group of reads through the six steps; one result per read, in order. Never raises."""
        loaded = self._policy.current
        items: list[_Item[M]] = [_Item(attempt) for attempt in group]
        for item in items:
            self._guard(self._admit, item, loaded)
        self._load(items, loaded.bundle)  # 1
        now = self._clock.now()
        for item in items:
            if item.error is None and not item.stale:
                self._guard(self._answer, item, loaded, now)
        positions = self._record(items, loaded.bundle)  # 5
        return [self._release(item, positions) for item in items]  # 6

    # --- before and 1 load ---------------------------------------------------------------------------------

    def _admit(self, item: _Item[M], loaded: Loaded) -> None:
        read = item.read
        check_read(read)
        item.checked = True
        item.entitled = loaded.engine.entitled(read.caller.id, read.purpose)
        _refuse_inner_purpose(read, loaded)
        item.lookup = self._tenant_keys.lookup(read.caller.tenant)
        item.macs = item.lookup.macs(read.customer_number)

    def refresh(self, tenant: str) -> None:
        """Read a tenant's lookup keys again, for items that left their group for them. Not on the worker
        thread: it may wait for the KMS.

        Raises:
            KeysUnavailableError, StoreUnavailableError, IntegrityError.
        """
        self._tenant_keys.refresh(tenant)

    def _load(self, items: Sequence[_Item[M]], bundle: Bundle) -> None:
        tenants: dict[str, list[_Item[M]]] = defaultdict(list)
        for item in items:
            if item.error is None:
                tenants[item.read.caller.tenant].append(item)
        for tenant, members in tenants.items():
            began = self._clock.monotonic()
            error = _failure(self._load_tenant, tenant, members, bundle)
            if error is not None:
                self._load_singly(tenant, members, bundle, error, began + _LOADING_SECONDS)

    def _load_singly(
        self, tenant: str, items: Sequence[_Item[M]], bundle: Bundle, error: DatavaultError, until: float
    ) -> None:
        """Load the members of a group that failed with `error` one by one, so that only the bad one fails.

        Where each try waits, for a lock, a group's worth of waiting would hold up everyone else: those whose
        turn does not come before `until` get the error of the group.
        """
        for item in items:
            alone = len(items) > 1 and self._clock.monotonic() < until
            item.error = (
                _failure(self._load_tenant, tenant, [item], bundle) if alone else error
            ) or item.error
        # alone, each found the whole quota left
        loaded = [item for item in items if item.error is None]
        if loaded and (failed := _failure(self._count_quota, tenant, loaded, bundle)):
            for item in loaded:
                item.error = failed

    def _count_quota(self, tenant: str, items: Sequence[_Item[M]], bundle: Bundle) -> None:
        metered = _metered(items, bundle)
        if metered:
            with self._transactions.read() as connection:
                self._refuse_over_quota(connection, tenant, metered, bundle)

    def _load_tenant(self, tenant: str, items: Sequence[_Item[M]], bundle: Bundle) -> None:
        asked = {name for item in items if item.entitled for name in item.read.attributes}
        attributes = {CUSTOMER_NUMBER, *(asked & bundle.attributes.keys())}
        macs = [mac for item in items for mac in item.macs]
        rotating = len(macs) > len(items)
        with self._transactions.read_once() as connection:
            found = self._reader.load(connection, tenant, macs, attributes, rotating=rotating)
        if len(found) < len(set(macs)):
            with self._transactions.read() as connection:
                found = self._reader.load(connection, tenant, macs, attributes, rotating=rotating)
                self._trust_misses(connection, tenant, items, found)
        self._count_quota(tenant, items, bundle)
        for item in items:
            if item.stale:
                continue
            subject = _one(found, item.macs)
            if isinstance(subject, IntegrityError):
                # who is not entitled learns nothing, not even that there is such a customer
                if item.entitled:
                    log.error("subject_is_not_readable", kind="row of another type")
                    item.error = subject
                continue
            item.snapshot = subject
            if item.snapshot is not None and item.entitled:
                self._guard(self._check_subject, item)

    def _trust_misses(
        self, connection: Connection, tenant: str, items: Sequence[_Item[M]], found: Mapping[bytes, Found]
    ) -> None:
        """Let those who were not found leave the group, unless the lookup keys in memory are those of the
        snapshot: else there may be such a customer all the same."""
        missed = [item for item in items if found.keys().isdisjoint(item.macs)]
        rows = lookup_rows(connection, tenant) if missed else ()
        for item in missed:
            if item.lookup is not None and item.lookup.rows != rows:
                self._guard(_Item.lacks_lookup, item)

    def _check_subject(self, item: _Item[M]) -> None:
        """Hold the subject found against its own encrypted number: a lookup row that was pointed at another
        customer must not answer with that customer's data."""
        snapshot, read = item.snapshot, item.read
        stored = snapshot.values.get(CUSTOMER_NUMBER) if snapshot else None
        try:
            if snapshot is not None and stored is not None and item.lookup is not None:
                number = item.lookup.open_number(snapshot.subject.id, stored.ciphertext)
                if number == read.customer_number:
                    return
        except OtherLookupKeyError:
            if item.attempt.refreshed is not True:
                item.snapshot = None
                item.lacks_lookup()
                return
        except IntegrityError:
            pass
        item.snapshot = None
        log.error("subject_is_not_the_one_asked_for", kind="customer number")
        raise IntegrityError("the customer's record is not whole; operators have been told")

    # --- 2 bases, 3 decide, 4 open -------------------------------------------------------------------------

    def _answer(self, item: _Item[M], loaded: Loaded, now: int) -> None:
        read, snapshot = item.read, item.snapshot
        item.retains = snapshot is not None and any(key.retained for key in snapshot.keys.values())
        held = None
        if item.entitled and snapshot is not None:
            held = effective(  # 2
                loaded.bundle.purposes, snapshot.subject, snapshot.consents, read.purpose, now
            )
        disclosed: list[DisclosedAttribute] = []
        entries: dict[str, AttributeEntry] = {}
        for name in read.attributes:
            decision, bases = _decide(item, name, held, loaded)  # 3
            attribute = self._open(item, name, decision, loaded.bundle, now)  # 4
            disclosed.append(attribute)
            entries[name] = AttributeEntry(
                act=(attribute.form or read.max_form or Form.CLEAR).act,
                reason=attribute.reason.value if attribute.reason else "",
                bases=bases,
                rule=decision.rule,
            )
        if item.missing:
            return
        item.record = self._recorder.draft(
            read.caller,
            READ,
            outcome=_outcome(disclosed, read.require_all),
            subject=snapshot.subject.audit_pseudonym if snapshot else UNKNOWN_SUBJECT,
            purpose=read.purpose,
            attributes=entries,
            request=read.request_id,
            policy=loaded.bundle.hash,
            max_form=read.max_form.value if read.max_form else "",
            require_all=int(read.require_all),
            consents=held.events if held else (),
        )
        if read.require_all and any(attribute.reason for attribute in disclosed):
            raise _all_required(disclosed)
        message = self._writer.build(Answer(item.record.id, loaded.bundle.hash, disclosed))
        if self._writer.size(message) > LIMITS.message_bytes:
            raise AnswerTooLargeError(
                f"the answer is larger than {LIMITS.message_bytes} bytes: ask for fewer attributes"
            )
        item.message = message

    def _open(
        self, item: _Item[M], name: str, decision: Decision, bundle: Bundle, now: int
    ) -> DisclosedAttribute:
        form, snapshot = decision.form, item.snapshot
        if form is None or snapshot is None:
            return DisclosedAttribute(name, reason=decision.reason or Reason.NOT_AVAILABLE)
        attribute = bundle.attributes[name]
        stored = snapshot.values.get(name)
        if stored is None or not _current(attribute, stored, now):
            return DisclosedAttribute(name, reason=Reason.NOT_SET)
        if form is Form.EXISTS:
            return DisclosedAttribute(name, form, type=attribute.type, version=stored.version)
        try:
            key = self._key(item, snapshot, stored)
            if key is None:
                return DisclosedAttribute(name, reason=Reason.KEY_UNAVAILABLE)
            value = self._reveal(item.read, snapshot, attribute, form, key, stored)
        except (IntegrityError, ValueFormatError) as error:
            log.error("integrity_failure", attribute=name, kind=type(error).__name__)
            return DisclosedAttribute(name, reason=Reason.INTEGRITY)
        return DisclosedAttribute(name, form, None, attribute.type, value, stored.version)

    def _key(self, item: _Item[M], snapshot: SubjectSnapshot, stored: StoredValue) -> DataKey | None:
        """The DEK of a value, or None: it cannot be had, or the item has to leave the group for it."""
        dek_id = dek_id_of(stored.ciphertext)
        known = item.keys.get(dek_id)
        if known is not None:
            return known
        wrapped = snapshot.keys.get(dek_id)
        if wrapped is None:
            raise IntegrityError("no key of this subject has the id that the value names")
        scope = KeyScope(item.read.caller.tenant, snapshot.subject.id, wrapped.key_class)
        fetched = item.attempt.keys.get(wrapped) or self._keyring.cached(scope, wrapped)
        if isinstance(fetched, IntegrityError):
            raise fetched
        if isinstance(fetched, DatavaultError):
            return None
        if fetched is None:
            item.missing[wrapped] = (scope, wrapped)
        else:
            item.keys[dek_id] = fetched
        return fetched

    def _reveal(
        self,
        read: Read,
        snapshot: SubjectSnapshot,
        attribute: Attribute,
        form: Form,
        key: DataKey,
        stored: StoredValue,
    ) -> Value | None:
        scope = ValueScope(
            read.caller.tenant, snapshot.subject.id, attribute.id, stored.type_version, stored.version
        )
        value = decode_value(attribute.type, key.open(scope, stored.ciphertext))
        if form is Form.CLEAR:
            return value
        spec = attribute.spec(form)
        if spec is None:
            raise IntegrityError("the policy gave a form that the attribute does not have")
        return apply_form(attribute, spec, value, self._pseudonymiser(read, attribute, spec.parameters))

    def _pseudonymiser(
        self, read: Read, attribute: Attribute, parameters: Mapping[str, object]
    ) -> Callable[[bytes], bytes]:
        purpose = read.purpose if parameters.get("scope") == "caller-purpose" else None
        caller = read.caller
        return lambda stored: self._tenant_keys.pseudonym_key(
            caller.tenant, caller.id, attribute.id, purpose
        ).pseudonym(stored)

    # --- 5 record, 6 release -------------------------------------------------------------------------------

    def _record(self, items: Sequence[_Item[M]], bundle: Bundle) -> dict[str, int]:
        """Make the records of all items durable, in one transaction per log; position by record id."""
        logs: dict[LogPlace, list[_Item[M]]] = defaultdict(list)
        for item in items:
            self._guard(self._choose_log, item, logs)
        positions: dict[str, int] = {}
        for _, members in sorted(logs.items()):
            positions |= self._record_in_one(members, bundle)
        return positions

    def _choose_log(self, item: _Item[M], logs: dict[LogPlace, list[_Item[M]]]) -> None:
        logs[self._recorder.logs.of(item.read.caller.tenant)].append(item)

    def _record_in_one(self, items: Sequence[_Item[M]], bundle: Bundle) -> dict[str, int]:
        """The same for the items of one log: where it takes nothing now, the others go on."""
        records: list[EncodedRecord] = []
        for item in items:
            if not item.leaves:
                self._guard(self._encode, item, records, bundle)
        if not records:
            return {}

        try:
            positions = self._commit(_metered(_done(items), bundle), records)
        except DatavaultError as error:
            log.error("audit_append_failed", reason=error.reason.value, records=len(records))
            for item in items:
                item.error = AuditUnavailableError(
                    "the audit log cannot be written now, so nothing is released",
                    retry_after_seconds=LIMITS.retry_after_seconds,
                )
            return {}
        return {record.id: position for record, position in zip(records, positions, strict=True)}

    def _commit(self, metered: _Metered[M], records: Sequence[EncodedRecord]) -> tuple[int, ...]:
        if not metered:
            return self._recorder.commit_records(records)

        def work(connection: Connection) -> tuple[None, Sequence[EncodedRecord]]:
            self._use(connection, metered)
            return None, records

        return self._recorder.commit(work).positions

    def _encode(self, item: _Item[M], records: list[EncodedRecord], bundle: Bundle) -> None:
        if item.record is None or (item.error and not isinstance(item.error, RequireAllError)):
            item.record = self._record_of_failure(item, bundle)
        try:
            entry = encode(item.record)
        except RecordTooLargeError as error:
            item.error = error
            item.record = self._record_of_failure(item, bundle)
            entry = encode(item.record)
        records.append(EncodedRecord(item.record.id, entry, item.record.tenant))

    def _record_of_failure(self, item: _Item[M], bundle: Bundle) -> Record:
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

    def _release(self, item: _Item[M], positions: Mapping[str, int]) -> Result[M]:
        if item.leaves:
            tenants = (item.read.caller.tenant,) if item.stale else ()
            return MissingKeys(tuple(item.missing.values()), tenants)
        if item.error is not None:
            return item.error
        if item.record is None or item.message is None or item.record.id not in positions:
            return DatavaultError("internal error")
        denials = tuple(entry.reason for entry in item.record.attributes.values() if entry.reason)
        return Released(item.message, item.record.id, positions[item.record.id], item.record.outcome, denials)

    # --- quotas and faults ---------------------------------------------------------------------------------

    def _refuse_over_quota(
        self, connection: Connection, tenant: str, metered: _Metered[M], bundle: Bundle
    ) -> None:
        hour = self._clock.now() // _HOUR_MICROSECONDS
        for (caller, purpose), members in metered.items():
            quota = _quota(bundle, caller, purpose) or 0
            left = max(0, quota - self._quotas.used(connection, tenant, caller, purpose, hour))
            for item in members[left:]:
                item.error = QuotaExceededError(
                    f"quota of {quota} subjects an hour for this purpose is used up",
                    retry_after_seconds=_HOUR_SECONDS - self._clock.now() // 1_000_000 % _HOUR_SECONDS,
                )

    def _use(self, connection: Connection, metered: _Metered[M]) -> None:
        hour = self._clock.now() // _HOUR_MICROSECONDS
        # in one order, so that two groups cannot wait for each other
        for (caller, purpose), members in sorted(metered.items(), key=lambda each: each[0]):
            tenant = members[0].read.caller.tenant
            self._quotas.add(connection, tenant, caller, purpose, hour, len(members))

    def _guard(self, step: Callable[..., None], item: _Item[M], *arguments: object) -> None:
        """Run a step for one item: what goes wrong there stays its own."""
        failed = _failure(step, item, *arguments)
        if failed is not None:
            item.error = failed


def _one(found: Mapping[bytes, Found], macs: Sequence[bytes]) -> Found | None:
    """What the MACs of one customer number lead to."""
    if len(macs) == 1:
        return found.get(macs[0])
    first: Found | None = None
    for mac in macs:
        each = found.get(mac)
        if each is None:
            continue
        if isinstance(each, IntegrityError):
            return each
        if isinstance(first, SubjectSnapshot) and first.subject.id != each.subject.id:
            return IntegrityError("the customer's record is not whole; operators have been told")
        first = first or each
    return first


def _failure(step: Callable[..., None], *arguments: object) -> DatavaultError | None:
    """What goes wrong in a step, None when nothing does."""
    try:
        step(*arguments)
    except DatavaultError as error:
        return error
    except Exception as error:
        log.error("disclosure_fault", step=step.__name__, kind=type(error).__name__)
        return DatavaultError("internal error")
    return None


def _refuse_inner_purpose(read: Read, loaded: Loaded) -> None:
    """Tell callers entitled to something below it that an inner node cannot be requested."""
    purpose = loaded.bundle.purposes.get(read.purpose)
    if purpose is None or purpose.leaf:
        return
    leaves = [
        leaf.id
        for leaf in loaded.bundle.purposes.values()
        if leaf.leaf and read.purpose in leaf.ancestors and loaded.engine.entitled(read.caller.id, leaf.id)
    ]
    if leaves:
        description = "is an inner node of the purpose tree; request one of " + ", ".join(sorted(leaves))
        raise PurposeNotLeafError(f"purpose: {description}", violations=[Violation("purpose", description)])


def _decide(
    item: _Item[M], name: str, held: EffectiveBases | None, loaded: Loaded
) -> tuple[Decision, tuple[str, ...]]:
    """The decision for one attribute, with the precise reason, and the bases that held."""
    read = item.read
    attribute = loaded.bundle.attributes.get(name)
    if attribute is None or not item.entitled:
        return _NOT_PERMITTED, ()
    if held is None:
        decision = loaded.engine.decide(read.caller.id, read.purpose, name, _EVERY_BASIS, read.max_form)
        if decision.form is None:
            return decision, ()
        return replace(decision, form=None, reason=Reason.NOT_AVAILABLE), ()
    bases = held.for_category(attribute.category)
    if item.retains and (key_class := _retained_class(item.snapshot, attribute)) is not None:
        return _decide_retained(item, attribute, key_class, bases, loaded)
    decision = loaded.engine.decide(read.caller.id, read.purpose, name, bases, read.max_form)
    if decision.reason is Reason.BASIS_MISSING:
        decision = replace(decision, reason=held.reason(attribute.category, decision.wanted))
    return decision, _sorted(bases)


def _decide_retained(
    item: _Item[M], attribute: Attribute, key_class: str, bases: frozenset[str], loaded: Loaded
) -> tuple[Decision, tuple[str, ...]]:
    """The decision for a value that an erasure left for a ground or a legal hold: for these it is there, for
    all else as unknown as the customer would be."""
    read, snapshot = item.read, item.snapshot
    hold = snapshot is not None and bool(snapshot.subject.legal_hold)
    bases &= readable_bases(loaded.bundle.key_classes, key_class, read.purpose, legal_hold=hold)
    asked = bases or _EVERY_BASIS
    decision = loaded.engine.decide(read.caller.id, read.purpose, attribute.id, asked, read.max_form)
    # a rule for any basis is no basis
    if decision.reason is not Reason.NOT_PERMITTED and (decision.form is None or not bases):
        decision = replace(decision, form=None, reason=Reason.NOT_AVAILABLE)
    return decision, _sorted(bases)


def _retained_class(snapshot: SubjectSnapshot | None, attribute: Attribute) -> str | None:
    """The key class of a retained value; None for a value in use. Where everything of the customer is
    retained, what is not set is as good as retained: it must not tell that there was an erasure."""
    if snapshot is None:
        return None
    stored = snapshot.values.get(attribute.id)
    if stored is None:
        return attribute.key_class if all(key.retained for key in snapshot.keys.values()) else None
    try:
        key = snapshot.keys.get(dek_id_of(stored.ciphertext))
    except IntegrityError:
        return None
    return key.key_class if key is not None and key.retained else None


def _current(attribute: Attribute, stored: StoredValue, now: int) -> bool:
    """Whether the value is of the declared type version and within its retention."""
    if stored.type_version != attribute.type_version:
        return False
    return (
        not attribute.retention_seconds or now < stored.written_at + attribute.retention_seconds * 1_000_000
    )


def _outcome(disclosed: Sequence[DisclosedAttribute], require_all: bool) -> Outcome:
    given = sum(1 for attribute in disclosed if attribute.form is not None)
    if given == len(disclosed):
        return Outcome.AUTHORISED
    return Outcome.PARTIAL if given and not require_all else Outcome.DENIED


def _all_required(disclosed: Sequence[DisclosedAttribute]) -> RequireAllError:
    denied = [(attribute.name, attribute.reason.value) for attribute in disclosed if attribute.reason]
    return RequireAllError(
        "require_all: " + ", ".join(f"{name} is denied ({reason})" for name, reason in denied[:5]),
        violations=[Violation(f"attributes[{name}]", reason) for name, reason in denied],
    )


def _quota(bundle: Bundle, caller: str, purpose: str) -> int | None:
    entry = bundle.callers.get(caller)
    quotas = entry.subjects_per_hour if entry else None
    return quotas.get(purpose, quotas.get("*")) if quotas else None


def _done(items: Sequence[_Item[M]]) -> list[_Item[M]]:
    """Those that count; a require_all that failed has told the reasons all the same."""
    return [
        item
        for item in items
        if not item.leaves and (item.error is None or isinstance(item.error, RequireAllError))
    ]


def _metered(items: Sequence[_Item[M]], bundle: Bundle) -> _Metered[M]:
    """Items of callers that have a quota, by (caller, purpose)."""
    metered: dict[tuple[str, str], list[_Item[M]]] = defaultdict(list)
    for item in items:
        if item.entitled and _quota(bundle, item.read.caller.id, item.read.purpose) is not None:
            metered[item.read.caller.id, item.read.purpose].append(item)
    return metered


@lru_cache(maxsize=4_096)
def _sorted(bases: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(bases))
