"""Committing a change together with its audit record: the one way every pipeline writes (audit.md)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, NoReturn, TypeVar

from sqlalchemy import Connection

from vault.audit.append import Appender, EncodedRecord
from vault.audit.record import AttributeEntry, Record, encode
from vault.domain.errors import (
    AuditUnavailableError,
    DatavaultError,
    NotPermittedError,
    StoreUnavailableError,
    UncertainCommitError,
)
from vault.domain.protocols import Clock, Randomness, Transactions
from vault.domain.system import RecordIds
from vault.domain.types import UNKNOWN_SUBJECT, Caller, Outcome

T = TypeVar("T")
_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class Committed(Generic[T]):
    """What a committed transaction gave, and where its records stand in the log."""

    value: T
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RecordedAt:
    """Where the record of one call stands (0-based position)."""

    record_id: str
    position: int


Work = Callable[[Connection], tuple[T, list[EncodedRecord]]]


class Recorder:
    """Drafts records and commits work with them."""

    def __init__(
        self,
        transactions: Transactions,
        appender: Appender,
        clock: Clock,
        randomness: Randomness,
        policy_hash: Callable[[], str],
        committed: Callable[[], None],
    ) -> None:
        self._transactions = transactions
        self._appender = appender
        self._clock = clock
        self._ids = RecordIds(clock, randomness)
        self._policy_hash = policy_hash
        self._committed = committed
        self._failing = False

    def problem(self) -> str:
        """Why records cannot be made durable now, '' when they can; after a failure it tries a real write.

        For health: blocks like any write.
        """
        if not self._failing:
            return ""
        try:
            with self._transactions.write() as connection:
                self._appender.probe(connection)
        except DatavaultError as error:
            return error.message
        self._failing = False
        return ""

    @property
    def log(self) -> int:
        """Id of the log that records go to."""
        return self._appender.log

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

    def commit(self, work: Work[T]) -> Committed[T]:
        """Run `work` in a transaction, append the records it returns, commit.

        `work` may run twice: after an uncertain COMMIT the record ids are looked up, and only when none is
        there is it tried again (architecture.md, "Changes").

        Raises:
            AuditUnavailableError, StoreUnavailableError: nothing was changed, or it cannot be told.
        """
        for attempt in range(_ATTEMPTS):
            ids: list[str] = []
            value: T | None = None
            try:
                with self._transactions.write() as connection:
                    value, records = work(connection)
                    ids = [record.id for record in records]
                    positions = self._appender.append(connection, records)
            except (StoreUnavailableError, AuditUnavailableError) as error:
                self._failing = True
                if not isinstance(error, UncertainCommitError):
                    raise
                found = self._look_up(ids)
                if not found:
                    if attempt + 1 < _ATTEMPTS:
                        continue
                    raise
                positions = [found[record_id] for record_id in ids]
            self._failing = False
            self._committed()
            return Committed(value, tuple(positions))  # type: ignore[arg-type]
        raise AuditUnavailableError("the audit record could not be made durable")

    def record(self, record: Record) -> RecordedAt:
        """Commit one record alone: of an operation that changes nothing, a denial or an error.

        Raises:
            AuditUnavailableError: it is not durable; release nothing.
        """
        encoded = EncodedRecord(record.id, encode(record))
        try:
            return RecordedAt(record.id, self.commit(lambda _: (None, [encoded])).positions[0])
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

    def position(self, connection: Connection, record_id: str) -> int:
        """Where a committed record stands; -1 when the log no longer holds it (it was in an older log)."""
        return self._appender.find(connection, [record_id]).get(record_id, -1)

    def next_position(self, connection: Connection) -> int:
        """The position the first record of this transaction will get. Locks the head row, the last lock of
        a transaction: call it after every other change."""
        self._appender.touch(connection)
        return self._appender.head(connection)

    def _look_up(self, ids: list[str]) -> dict[str, int]:
        if not ids:
            return {}
        with self._transactions.read() as connection:
            return self._appender.find(connection, ids)
