"""What an erasure left is destroyed when its ground has run out: nobody has to ask a second time.

Customer after customer, each in a transaction of its own with its record and its tombstone. What was written
since the erasure is in use and stays; where nothing but what was left was known of the customer, the customer
goes too. What no ground keeps, because a hold was lifted or the policies changed, waits until somebody asks:
a mistake in the policies must not destroy by itself.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.append import EncodedRecord
from vault.crypto.keyring import Keyring
from vault.domain.protocols import Clock, ConsentRepository, Transactions
from vault.domain.types import Act, Caller, KeyScope, Subject
from vault.erasing.receipts import Tombstone
from vault.erasing.retention import plan_erasure
from vault.policy.live import LivePolicy
from vault.recording import Recorder
from vault.store.erasure import ErasureRepository
from vault.store.subjects import SubjectRepository

SWEEPER: Final = "housekeeping"
"""The caller of the records: the service itself."""
_PAGE: Final = 64
_START: Final = ("", b"")

Place = tuple[str, bytes]
Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs blocking work on a thread of its own (`BlockingWorker.run`)."""


class RetentionSweep:
    """Holds what a sweep needs."""

    def __init__(
        self,
        transactions: Transactions,
        subjects: SubjectRepository,
        consents: ConsentRepository,
        store: ErasureRepository,
        keyring: Keyring,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._subjects = subjects
        self._consents = consents
        self._store = store
        self._keyring = keyring
        self._policy = policy
        self._recorder = recorder
        self._clock = clock

    async def sweep(self, run: Run) -> None:
        """Go through all customers of whom something is retained, a page at a time.

        Raises:
            AuditUnavailableError, StoreUnavailableError, OverloadedError, ShuttingDownError: the rest is left
            for the next time.
        """
        place: Place | None = _START
        while place is not None:
            place = await run(partial(self.page, place))

    def page(self, after: Place = _START) -> Place | None:
        """Sweep the customers after this one, some at most; where to go on, None at the end.

        Raises:
            AuditUnavailableError, StoreUnavailableError.
        """
        with self._transactions.read() as connection:
            found = self._store.retained_subjects(connection, after, _PAGE)
            # of a tenant that this replica has not heard of yet, another one sweeps
            here = [place for place in found if self._recorder.logs.knows(place[0])]
            due = [place for place in here if self._is_due(connection, *place)]
        for tenant, subject in due:
            work = partial(self._destroy, tenant=tenant, subject_id=subject)
            self._keyring.forget(self._recorder.commit(work).value)
        return found[-1] if len(found) == _PAGE else None

    def _is_due(self, connection: Connection, tenant: str, subject_id: bytes) -> bool:
        subject = self._subjects.get(connection, tenant, [subject_id]).get(subject_id)
        return subject is not None and bool(self._due(connection, tenant, subject))

    def _due(self, connection: Connection, tenant: str, subject: Subject) -> tuple[str, ...]:
        """The key classes of which earlier erasures left something, for a ground that has run out."""
        bundle = self._policy.current.bundle
        plan = plan_erasure(
            bundle.key_classes,
            bundle.purposes,
            subject,
            self._store.relationship_end(connection, tenant, subject.id),
            self._store.holdings(connection, tenant, subject.id, retained=True),
            self._clock.now(),
        )
        over = [one.key_class for one in plan.erased]
        return tuple(name for name in over if bundle.key_classes[name].ground)

    def _destroy(
        self, connection: Connection, *, tenant: str, subject_id: bytes
    ) -> tuple[list[KeyScope], list[EncodedRecord]]:
        """Destroy what is due of one customer; whose cached keys are to be forgotten, and the record."""
        subject = self._subjects.lock(connection, tenant, [subject_id]).get(subject_id)
        erased = () if subject is None else self._due(connection, tenant, subject)
        if subject is None or not erased:
            return [], []
        for key_class in erased:
            self._store.destroy(connection, tenant, subject_id, key_class, retained=True)
        whole = not self._in_use(connection, tenant, subject_id)
        if whole:
            self._store.remove(connection, tenant, subject_id)
        record = self._recorder.draft(
            Caller(SWEEPER, tenant, f"local:{SWEEPER}"),
            Act.SUBJECT_ERASE.value,
            subject=subject.audit_pseudonym,
            detail={"erased": ",".join(erased), "whole": int(whole)},
        )
        self._send_outside(connection, tenant, subject, record.id, erased, whole)
        scopes = [KeyScope(tenant, subject_id, key_class) for key_class in erased]
        return scopes, [EncodedRecord.of(record)]

    def _in_use(self, connection: Connection, tenant: str, subject_id: bytes) -> bool:
        return bool(
            self._store.holdings(connection, tenant, subject_id)
            or self._consents.events(connection, tenant, subject_id, 0, 1)
        )

    def _send_outside(
        self,
        connection: Connection,
        tenant: str,
        subject: Subject,
        record_id: str,
        erased: tuple[str, ...],
        whole: bool,
    ) -> None:
        now = self._clock.now()
        tombstone = Tombstone(record_id, erased, whole, False, 0, now, only_retained=True)
        self._recorder.send_outside(connection, tenant, tombstone.document(tenant, subject.id))
