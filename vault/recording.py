"""Committing a change together with its audit record: the one way every pipeline writes (audit.md)."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, NoReturn, TypeVar

from sqlalchemy import Connection

from vault.audit.append import Appender, EncodedRecord, reopened
from vault.audit.logbook import LogBook, LogPlace
from vault.audit.outside import outbox_event
from vault.audit.record import AttributeEntry, Record
from vault.domain.errors import (
    AuditUnavailableError,
    ConflictError,
    DatavaultError,
    NotPermittedError,
    StoreUnavailableError,
    UncertainCommitError,
)
from vault.domain.protocols import Clock, Randomness, Transactions
from vault.domain.system import RecordIds
from vault.domain.types import UNKNOWN_SUBJECT, Caller, Outcome

T = TypeVar("T")
_ATTEMPTS: Final = 4
"""A change that lost every race so often is refused as unavailable; its caller may repeat it."""


@dataclass(frozen=True, slots=True)
class Committed(Generic[T]):
    """What a committed transaction gave, and where its records stand, each in the log it went to."""

    value: T
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RecordedAt:
    """Where the record of one call stands (0-based position)."""

    record_id: str
    position: int


Work = Callable[[Connection], tuple[T, Sequence[EncodedRecord]]]
_Parts = list[tuple[LogPlace, list[EncodedRecord]]]


class Recorder:
    """Drafts records and commits work with them, each in the log of its tenant."""

    def __init__(
        self,
        transactions: Transactions,
        logs: LogBook,
        clock: Clock,
        randomness: Randomness,
        policy_hash: Callable[[], str],
        committed: Callable[[], None],
    ) -> None:
        self._transactions = transactions
        self.logs: Final = logs
        self._clock = clock
        self._ids = RecordIds(clock, randomness)
        self._policy_hash = policy_hash
        self._committed = committed
        self._failing: frozenset[LogPlace] = frozenset()

    def problem(self) -> str:
        """Why records cannot be made durable now, '' when they can; after a failure it tries a real write.

        For health: blocks like any write.
        """
        for place in sorted(self._failing):
            try:
                with self._transactions.write() as connection:
                    Appender(place.log).probe(connection)
            except DatavaultError as error:
                return error.message
            self._failing -= {place}
        return ""

    def new_id(self) -> str:
        """A fresh UUIDv7 for a record or an event."""
        return self._ids.next()

    def draft(
        self,
        caller: Caller,
        action: str,
        *,
        outcome: Outcome = Outcome.AUTHORISED,
        subject: str = UNKNOWN_SUBJECT,
        purpose: str = "",
        attributes: Mapping[str, AttributeEntry] | None = None,
        request: str = "",
        policy: str = "",
        **fields: Any,
    ) -> Record:
        """A record of a call by `caller`, stamped with id and time. `policy` is the hash of the bundle that
        decided; left out, that of the live one."""
        return Record(
            id=self.new_id(),
            time=self._clock.now(),
            tenant=caller.tenant,
            caller=caller.id,
            identity=caller.identity,
            action=action,
            subject=subject,
            outcome=outcome.value,
            purpose=purpose,
            attributes=attributes or {},
            policy=policy or self._policy_hash(),
            request=request,
            **fields,
        )

    def commit(self, work: Work[T], *, place: LogPlace | None = None) -> Committed[T]:
        """Run `work` in a transaction, append the records it returns, commit. With `place` all of them go to
        that log, whoever's they are, the closed former log too.

        `work` may run again: where another change was first; and after an uncertain COMMIT, once the record
        ids were looked up and none is there (architecture.md, "Changes").

        Raises:
            AuditUnavailableError, StoreUnavailableError: nothing was changed, or it cannot be told.
        """
        return self._commit(self._transactions.write, work, place)

    def commit_records(self, records: Sequence[EncodedRecord]) -> tuple[int, ...]:
        """Make records of one log durable that nothing else is committed with: one statement. Returns their
        positions.

        Raises:
            AuditUnavailableError, StoreUnavailableError: they are not, or it cannot be told.
        """
        return self._commit(self._transactions.write_once, lambda _: (None, records)).positions

    def _commit(
        self,
        begin: Callable[[], AbstractContextManager[Connection]],
        work: Work[T],
        place: LogPlace | None = None,
    ) -> Committed[T]:
        unsure: tuple[_Parts, Sequence[EncodedRecord], T | None] = ([], (), None)
        for attempt in range(1, _ATTEMPTS + 1):
            records: Sequence[EncodedRecord] = ()
            parts: _Parts = []
            value: T | None = None
            try:
                with begin() as connection, self._open(connection, place):
                    value, records = work(connection)
                    parts = [(place, list(records))] if place else self.logs.apart(records)
                    found = _append(connection, parts)
            except (StoreUnavailableError, AuditUnavailableError) as error:
                if not isinstance(error, ConflictError):
                    self._failing |= {each for each, _ in parts} or set(self.logs.every)
                if isinstance(error, UncertainCommitError):
                    unsure = parts, records, value
                # what was not there at once may be by now: then it is what the same records collide with;
                # work that drafts others finds the kept request when it runs again
                found = self._look_up(unsure[0]) if list(records) == list(unsure[1]) else {}
                if not found:
                    if _may_try_again(error, attempt):
                        continue
                    raise
                parts, records, value = unsure
            if self._failing:
                self._failing -= {each for each, _ in parts}
            self._committed()
            return Committed(value, tuple(found[record.id] for record in records))  # type: ignore[arg-type]
        raise AuditUnavailableError("the audit record could not be made durable")

    def record(self, record: Record) -> RecordedAt:
        """Commit one record alone: of an operation that changes nothing, a denial or an error.

        Raises:
            AuditUnavailableError: it is not durable; release nothing.
        """
        try:
            return RecordedAt(record.id, self.commit_records([EncodedRecord.of(record)])[0])
        except StoreUnavailableError as error:
            raise AuditUnavailableError(
                "the audit log cannot be written now", retry_after_seconds=error.retry_after_seconds
            ) from error

    def refuse(self, record: Record, error: DatavaultError) -> NoReturn:
        """Commit the record of a call that failed or was denied, then raise its error.

        Raises:
            AuditUnavailableError: the record is not durable; else `error` itself.
        """
        denied = isinstance(error, NotPermittedError)
        outcome = Outcome.DENIED if denied else Outcome.ERROR
        self.record(replace(record, outcome=outcome.value, detail={"error": error.reason.value}))
        raise error

    def position(self, connection: Connection, tenant: str, record_id: str) -> int:
        """Where a committed record of a tenant stands in its log; -1 when that log does not hold it (it was
        in an older log)."""
        return Appender(self.logs.of(tenant).log).find(connection, [record_id]).get(record_id, -1)

    def next_position(self, connection: Connection, place: LogPlace) -> int:
        """The position the first record of this transaction will get in a log. Locks the head row, the last
        lock of a transaction: call it after every other change."""
        appender = Appender(place.log)
        appender.touch(connection)
        return appender.head(connection)

    def send_outside(
        self, connection: Connection, tenant: str, document: Mapping[str, Any], position: int | None = None
    ) -> None:
        """Queue what a restored backup must not forget for the outside store, under the origin of the
        tenant's log; `position` is that of its record, by default the next one."""
        place = self.logs.of(tenant)
        if position is None:
            position = self.next_position(connection, place)
        outbox_event(connection, place.log, place.origin, position, dict(document), self._clock.now())

    def _open(self, connection: Connection, place: LogPlace | None) -> AbstractContextManager[None]:
        if place is None or place != self.logs.former:
            return nullcontext()
        return reopened(connection, place.log)

    def _look_up(self, parts: _Parts) -> dict[str, int]:
        found: dict[str, int] = {}
        if not parts:
            return found
        with self._transactions.read() as connection:
            for place, records in parts:
                found |= Appender(place.log).find(connection, [record.id for record in records])
        return found


def _append(connection: Connection, parts: _Parts) -> dict[str, int]:
    """Append to each log; positions by record id."""
    found: dict[str, int] = {}
    for place, records in parts:
        positions = Appender(place.log).append(connection, records)
        found |= zip((record.id for record in records), positions, strict=True)
    return found


def _may_try_again(error: DatavaultError, attempt: int) -> bool:
    if isinstance(error, ConflictError):
        return attempt < _ATTEMPTS
    return isinstance(error, UncertainCommitError) and attempt == 1
