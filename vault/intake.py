"""The intake pipeline: how attributes are written.

    1 check     the right to write each attribute; fields, types, bounds
    2 prepare   find the subject, unwrap or make its DEKs: outside any transaction, it may wait for the KMS
    3 change    one transaction: replay, lock the subjects, check versions, encrypt, store, record
    4 answer

A write is all or nothing and commits with its record; a repeated one is answered as the first time, and its
record names the first. Many writes share a transaction; each ends in its own answer or its own error. `write`
blocks: it runs on a worker of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.audit.record import AttributeEntry, Record
from vault.crypto.encoding import lp
from vault.crypto.envelope import DataKey
from vault.crypto.keyring import Keyring
from vault.crypto.lookup_keys import LookupKeys
from vault.customers import StaleLookupError, one_customer, require_current
from vault.domain.checks import FieldChecks
from vault.domain.errors import (
    AuditUnavailableError,
    DatavaultError,
    IntegrityError,
    InvalidArgumentError,
    KeysUnavailableError,
    KeyTooOldError,
    NotPermittedError,
    RecordTooLargeError,
    StoreUnavailableError,
    ValueFormatError,
    VersionMismatchError,
    Violation,
)
from vault.domain.limits import LIMITS
from vault.domain.preparation import Preparation
from vault.domain.protocols import Clock, Randomness, Transactions
from vault.domain.types import (
    OPERATION_BASIS,
    UNKNOWN_SUBJECT,
    Act,
    Attribute,
    KeyScope,
    Outcome,
    Subject,
    ValueScope,
    WrappedKey,
)
from vault.domain.values import encode_value
from vault.enrolment import Enrolled, Enrolment
from vault.permission import authorise
from vault.policy.live import LivePolicy, Loaded
from vault.recording import Recorder
from vault.replay import Kept, Replay, Replays
from vault.store.subjects import SubjectRepository
from vault.store.values import ValueRow, VersionState
from vault.writes import AttributeChange, Write, Written, check_write

log = structlog.get_logger("datavault.intake")

_ROUNDS: Final = 4


class _StaleError(Exception):
    """What was prepared is no longer what the store holds: prepare again."""


@dataclass(slots=True)
class _Item:
    """What is known of one write on its way through the steps."""

    write: Write
    policy: str
    checked: bool = False
    lookup: LookupKeys | None = None
    macs: tuple[bytes, ...] = ()
    fingerprints: tuple[bytes, ...] = ()
    encoded: dict[str, bytes] = field(default_factory=dict, repr=False)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    entries: dict[str, AttributeEntry] = field(default_factory=dict)
    enrolled: Enrolled | None = None
    subject: Subject | None = None
    keys: dict[str, DataKey] = field(default_factory=dict)
    made: list[WrappedKey] = field(default_factory=list)
    reread: bool = False
    error: DatavaultError | None = None
    outcome: Outcome = Outcome.ERROR
    versions: dict[str, int] = field(default_factory=dict)
    record: Record | None = None
    written: Written | None = None

    @property
    def open(self) -> bool:
        """Neither failed nor answered yet."""
        return self.error is None and self.written is None

    def fail(self, error: DatavaultError) -> None:
        self.error = error
        self.outcome = Outcome.DENIED if isinstance(error, NotPermittedError) else Outcome.ERROR

    @property
    def classes(self) -> set[str]:
        """Key classes that values are to be encrypted under."""
        return {self.attributes[name].key_class for name in self.encoded}


class IntakePipeline:
    """Holds what the steps need; has no state of its own between calls."""

    def __init__(
        self,
        transactions: Transactions,
        subjects: SubjectRepository,
        replays: Replays,
        enrolment: Enrolment,
        keyring: Keyring,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self._transactions = transactions
        self._subjects = subjects
        self._replays = replays
        self._enrolment = enrolment
        self._keyring = keyring
        self._policy = policy
        self._recorder = recorder
        self._clock = clock
        self._randomness = randomness

    def write(self, writes: Sequence[Write]) -> list[Written | DatavaultError]:
        """Take writes of one caller through the steps; one result per write, in order. Never raises."""
        loaded = self._policy.current
        items = [_Item(write, loaded.bundle.hash) for write in writes]
        for item in items:
            self._check(item, loaded)  # 1
        for part in _without_repeats(items):
            self._change_together(part)
        return [_answer(item) for item in items]  # 4

    # --- 1 check -------------------------------------------------------------------------------------------

    def _check(self, item: _Item, loaded: Loaded) -> None:
        try:
            self._authorise(item, loaded)
            check_write(item.write)
            item.checked = True
            _encode_values(item)
            _identify(item, self._enrolment.lookup(item.write.caller.tenant))
        except DatavaultError as error:
            item.fail(error)
        except Exception as error:
            log.error("intake_fault", kind=type(error).__name__)
            item.fail(DatavaultError("internal error"))

    def _authorise(self, item: _Item, loaded: Loaded) -> None:
        caller = item.write.caller
        if item.write.jurisdictions:
            # they decide which legal bases hold: whoever could change them could open what consent closes
            authorise(loaded, caller, Act.SUBJECT_JURISDICTIONS)
        refused = []
        for index, change in enumerate(item.write.changes[: LIMITS.attributes_per_write]):
            decision = loaded.engine.act(caller.id, Act.WRITE.value, change.attribute)
            attribute = loaded.bundle.attributes.get(change.attribute)
            if decision.reason is not None or attribute is None:
                # by its place: a value that was put where the name belongs must not come back in an error
                refused.append(Violation(f"writes[{index}].attribute", "not permitted, or does not exist"))
                continue
            item.attributes[change.attribute] = attribute
            item.entries[change.attribute] = AttributeEntry(
                act=Act.WRITE.value, bases=(OPERATION_BASIS,), rule=decision.rule
            )
        if refused:
            item.attributes.clear()
            item.entries.clear()
            raise NotPermittedError(
                "not permitted to write every attribute named, or one of them does not exist",
                violations=refused,
            )

    # --- 2 prepare -----------------------------------------------------------------------------------------

    def _change_together(self, items: Sequence[_Item]) -> None:
        """Steps 2 and 3 for items that do not depend on each other."""
        error: DatavaultError = StoreUnavailableError(
            "the customer is being changed by many at once: try again"
        )
        stale_lookup = False
        for _ in range(_ROUNDS):
            try:
                if stale_lookup:
                    self._enrolment.refresh(items[0].write.caller.tenant)
                    stale_lookup = False
                prepared = Preparation.begin(self._clock)
                self._prepare([item for item in items if item.open])
                self._commit(items, prepared)
                return
            except StaleLookupError:
                stale_lookup = True
                continue
            except _StaleError:
                continue
            except DatavaultError as raised:
                error = raised
            except Exception as raised:
                log.error("intake_fault", kind=type(raised).__name__)
                error = DatavaultError("internal error")
            break
        log.error("write_failed", reason=error.reason.value, writes=len(items))
        for item in items:
            if item.open:
                item.fail(error)
        self._record_failures(items, error)

    def _record_failures(self, items: Sequence[_Item], error: DatavaultError) -> None:
        """Put calls on record that failed together; not where it is the database that failed."""
        if isinstance(error, StoreUnavailableError | AuditUnavailableError):
            return
        drafts = [self._draft(item) for item in items if item.written is None]
        records = [EncodedRecord.of(draft) for draft in drafts]
        try:
            self._recorder.commit(lambda _: (None, records))
        except DatavaultError as failed:
            log.error("audit_append_failed", reason=failed.reason.value, records=len(records))

    def _prepare(self, items: Sequence[_Item]) -> None:
        if not items:
            return
        tenant = items[0].write.caller.tenant
        # one for all: a customer who is there under an older key must not be new under a newer one
        lookup = self._enrolment.lookup(tenant)
        for item in items:
            if item.lookup is not lookup:
                _identify(item, lookup)
        with self._transactions.read() as connection:
            found = self._subjects.find(connection, tenant, [mac for item in items for mac in item.macs])
            if any(found.keys().isdisjoint(item.macs) for item in items):
                require_current(connection, lookup)
            held = self._subjects.keys(connection, tenant, {subject.id for subject in found.values()})
        for item in items:
            item.subject = item.enrolled = None
            item.keys, item.made = {}, []
            try:
                item.subject = one_customer(found, item.macs)
                if item.subject is None:
                    item.enrolled = self._enrolment.draft(
                        lookup, item.write.customer_number, item.write.jurisdictions
                    )
                    item.subject = item.enrolled.subject
            except (InvalidArgumentError, IntegrityError) as error:
                item.fail(error)
        self._unwrap([item for item in items if item.error is None], tenant, held)
        self._make_keys([item for item in items if item.error is None], tenant)

    def _unwrap(
        self, items: Sequence[_Item], tenant: str, held: Mapping[bytes, Sequence[WrappedKey]]
    ) -> None:
        """Fetch the DEKs that exist; where a class has several, the newest is the current one.

        Raises:
            _StaleError: one is of a version that no longer opens: it may have been rewrapped since it was
                read. An item is prepared again for that once.
        """
        wanted = [
            (item, KeyScope(tenant, _id(item), key_class), newest)
            for item in items
            for key_class in item.classes
            if (newest := _newest(held.get(_id(item), ()), key_class)) is not None
        ]
        fetched = self._keyring.unwrap([(scope, key) for _, scope, key in wanted])
        too_old: list[_Item] = []
        for (item, scope, _), key in zip(wanted, fetched, strict=True):
            if isinstance(key, DataKey):
                item.keys[scope.key_class] = key
            elif isinstance(key, KeyTooOldError) and not item.reread:
                too_old.append(item)
            else:
                item.fail(key)
        for item in too_old:
            item.reread = True
        if too_old:
            raise _StaleError

    def _make_keys(self, items: Sequence[_Item], tenant: str) -> None:
        lacking = [
            (item, KeyScope(tenant, _id(item), key_class))
            for item in items
            for key_class in sorted(item.classes - item.keys.keys())
        ]
        for key_class in sorted({scope.key_class for _, scope in lacking}):
            group = [(item, scope) for item, scope in lacking if scope.key_class == key_class]
            try:
                made = self._keyring.create([scope for _, scope in group])
            except KeysUnavailableError as error:
                # the other classes may still be served: only who needs this one fails
                for item, _ in group:
                    item.fail(error)
                continue
            for (item, scope), (wrapped, key) in zip(group, made, strict=True):
                item.made.append(wrapped)
                item.keys[scope.key_class] = key

    # --- 3 change ------------------------------------------------------------------------------------------

    def _commit(self, items: Sequence[_Item], prepared: Preparation) -> None:
        """One transaction for all; sets `written` of each item without error once it is durable."""

        def work(connection: Connection) -> tuple[None, list[EncodedRecord]]:
            self._replay(connection, items)
            fresh = [item for item in items if item.open]
            self._apply(connection, fresh, prepared)
            records = [self._encode(item) for item in items]
            self._keep(connection, [item for item in fresh if item.error is None])
            return None, records

        positions = self._recorder.commit(work).positions
        for item, position in zip(items, positions, strict=True):
            if item.open and item.record is not None:
                item.written = _written(item, item.record.id, position)

    def _encode(self, item: _Item) -> EncodedRecord:
        """
        Raises:
            _StaleError: the record would be too large; the write is an error now, so begin again without it.
        """
        item.record = self._draft(item)
        try:
            return EncodedRecord.of(item.record)
        except RecordTooLargeError as error:
            item.entries = {}
            item.fail(error)
            raise _StaleError from None

    def _replay(self, connection: Connection, items: Sequence[_Item]) -> None:
        """Answer repeated requests as the first time."""
        live = {item.write.request_id: item for item in items if item.open}
        if not live:
            return
        caller, lookup = items[0].write.caller, _lookup(live.values())
        replays = self._replays.look_up(
            connection,
            caller,
            lookup,
            {request_id: item.fingerprints for request_id, item in live.items()},
        )
        for request_id, replay in replays.items():
            item = live[request_id]
            if isinstance(replay, Replay):
                position = self._recorder.position(connection, caller.tenant, replay.record_id)
                item.written = _replayed(replay, position)
            else:
                item.fail(replay)

    def _apply(self, connection: Connection, items: Sequence[_Item], prepared: Preparation) -> None:
        """Lock, check versions, encrypt, store.

        Raises:
            _StaleError: a subject or key appeared or went since `_prepare`, or that was long ago.
            StaleLookupError: the lookup keys did.
        """
        if not items:
            return
        tenant = items[0].write.caller.tenant
        known = [_id(item) for item in items if item.enrolled is None]
        locked = self._subjects.lock(connection, tenant, sorted(known))
        new = [mac for item in items if item.enrolled for mac in item.macs]
        appeared = self._subjects.find(connection, tenant, new)
        if appeared or len(locked) < len(known) or prepared.is_stale(self._clock):
            raise _StaleError
        held = self._subjects.keys(connection, tenant, known)
        current = self._subjects.versions(connection, tenant, known)
        for item in items:
            self._plan(item, held.get(_id(item), ()), current.get(_id(item), {}))
        good = [item for item in items if item.error is None]
        enrolled = [item.enrolled for item in good if item.enrolled]
        self._enrolment.insert(connection, _lookup(items), enrolled)
        for item in good:
            if item.enrolled is None and item.write.jurisdictions:
                self._subjects.set_jurisdictions(connection, tenant, _id(item), item.write.jurisdictions)
        now = self._clock.now()
        self._subjects.put_keys(
            connection, tenant, [(_id(item), key) for item in good for key in item.made], now
        )
        self._subjects.put_values(
            connection, tenant, [row for item in good for row in self._seal(item, tenant, now)]
        )

    def _plan(self, item: _Item, held: Sequence[WrappedKey], current: Mapping[str, VersionState]) -> None:
        """Decide the new versions of one write.

        Raises:
            _StaleError: another DEK became the current one of a class, or an erasure took it away.
        """
        made = {key.key_class: key for key in item.made}
        for key_class in item.classes:
            serving = _newest(held, key_class) or made.get(key_class)
            if serving is None or serving.dek_id != item.keys[key_class].id:
                raise _StaleError
        item.versions = {}
        for change in item.write.changes:
            state = current.get(change.attribute, _NEVER_SET)
            if change.expected_version is not None and change.expected_version != (
                state.version if state.is_set else 0
            ):
                item.fail(_mismatch(change, state))
                return
            unchanged = change.clear and not state.is_set
            item.versions[change.attribute] = state.version + (0 if unchanged else 1)

    def _seal(self, item: _Item, tenant: str, now: int) -> Iterator[ValueRow]:
        for change in item.write.changes:
            attribute = item.attributes[change.attribute]
            version = item.versions[change.attribute]
            if change.clear:
                if version:
                    yield ValueRow(
                        _id(item),
                        attribute.id,
                        version,
                        attribute.type_version,
                        attribute.key_class,
                        None,
                        now,
                    )
                continue
            scope = ValueScope(tenant, _id(item), attribute.id, attribute.type_version, version)
            ciphertext = item.keys[attribute.key_class].seal(
                scope, item.encoded[attribute.id], self._randomness
            )
            yield ValueRow(
                _id(item), attribute.id, version, attribute.type_version, attribute.key_class, ciphertext, now
            )

    def _draft(self, item: _Item) -> Record:
        write = item.write
        return self._recorder.draft(
            write.caller,
            Act.WRITE.value,
            outcome=Outcome.AUTHORISED if item.error is None else item.outcome,
            subject=item.subject.audit_pseudonym if item.subject and _stored(item) else UNKNOWN_SUBJECT,
            attributes=item.entries,
            request=write.request_id if item.checked else "",
            policy=item.policy,
            detail=_detail(item),
        )

    def _keep(self, connection: Connection, items: Sequence[_Item]) -> None:
        if items:
            self._replays.keep(
                connection,
                items[0].write.caller,
                [
                    Kept(
                        item.write.request_id,
                        item.record.id if item.record else "",
                        item.fingerprints[0],
                        {"versions": list(item.versions.items()), "created": item.enrolled is not None},
                    )
                    for item in items
                ],
            )


_NEVER_SET: Final = VersionState(0, False)


def _id(item: _Item) -> bytes:
    if item.subject is None:
        raise _StaleError
    return item.subject.id


def _identify(item: _Item, lookup: LookupKeys) -> None:
    item.lookup = lookup
    item.macs = lookup.macs(item.write.customer_number)
    item.fingerprints = lookup.fingerprints(_content(item))


def _lookup(items: Iterable[_Item]) -> LookupKeys:
    """The lookup keys that all of them were prepared with."""
    first = next(iter(items))
    if first.lookup is None:
        raise _StaleError
    return first.lookup


def _stored(item: _Item) -> bool:
    """Whether the subject is, or is about to be, in the store: a failed write of a new one leaves nothing."""
    return item.enrolled is None or item.error is None


def _newest(keys: Sequence[WrappedKey], key_class: str) -> WrappedKey | None:
    """The current DEK of a class; the store gives keys oldest first. What an erasure left is for reading."""
    return next((key for key in reversed(keys) if key.key_class == key_class and not key.retained), None)


def _encode_values(item: _Item) -> None:
    """Stored bytes of all values.

    Raises:
        InvalidArgumentError: names each value that does not fit its attribute's declaration.
    """
    checks = FieldChecks()
    for index, change in enumerate(item.write.changes):
        if change.value is None:
            continue
        attribute = item.attributes[change.attribute]
        field_name = f"writes[{index}].value"
        if not checks.require(
            change.value.type is attribute.type,
            field_name,
            f"{attribute.id} is a {attribute.type.value}: set {attribute.type.value}_value",
        ):
            continue
        try:
            encoded = encode_value(attribute, change.value.value)
        except ValueFormatError as error:
            checks.require(False, field_name, f"{attribute.id} {error}")
            continue
        checks.require(
            len(encoded) <= LIMITS.value_bytes, field_name, f"must be at most {LIMITS.value_bytes} bytes"
        )
        item.encoded[attribute.id] = encoded
    checks.raise_if_any()


def _content(item: _Item) -> bytes:
    """What the fingerprint of a request covers: everything but the request id."""
    write = item.write
    parts = [b"write", write.customer_number.encode(), ",".join(sorted(write.jurisdictions)).encode()]
    for change in write.changes:
        expected = "" if change.expected_version is None else str(change.expected_version)
        parts += [change.attribute.encode(), expected.encode(), b"clear" if change.clear else b"set"]
        parts.append(item.encoded.get(change.attribute, b""))
    return lp(*parts)


def _mismatch(change: AttributeChange, state: VersionState) -> VersionMismatchError:
    current = f"is at version {state.version}" if state.is_set else "has no value (version 0)"
    return VersionMismatchError(
        f"{change.attribute}: expected version {change.expected_version}, but it {current}"
    )


def _detail(item: _Item) -> dict[str, str | int]:
    if item.error is not None:
        return {"error": item.error.reason.value}
    if item.written is not None:
        return {"replay_of": item.written.record_id}
    if not item.write.jurisdictions or item.subject is None:
        return {}
    now = {"jurisdictions": ",".join(sorted(set(item.write.jurisdictions)))}
    if item.enrolled is not None:
        return dict(now)
    return {**now, "jurisdictions_before": ",".join(item.subject.jurisdictions)}


def _written(item: _Item, record_id: str, position: int) -> Written:
    versions = tuple((change.attribute, item.versions[change.attribute]) for change in item.write.changes)
    return Written(versions, item.enrolled is not None, record_id, position)


def _replayed(replay: Replay, position: int) -> Written:
    versions = tuple((str(name), int(version)) for name, version in replay.answer["versions"])
    return Written(versions, bool(replay.answer["created"]), replay.record_id, position, replayed=True)


def _answer(item: _Item) -> Written | DatavaultError:
    return item.error or item.written or DatavaultError("internal error")


def _without_repeats(items: Sequence[_Item]) -> Iterator[list[_Item]]:
    """Cut into parts in which no subject and no request id stands twice: the second sees the first's work."""
    part: list[_Item] = []
    seen: set[tuple[str, str]] = set()
    for item in items:
        write = item.write
        # by the number: its MAC would change if the lookup key was rotated between two of them
        marks = {("customer", write.customer_number), ("request", write.request_id)} if item.open else set()
        if seen & marks:
            yield part
            part, seen = [], set()
        part.append(item)
        seen |= marks
    if part:
        yield part
