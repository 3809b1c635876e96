"""Showing consent: what is in force, and the ledger. Each look is authorised first and on record after.

Below it `effective_now`, what is in force for some purposes, as every answer about consent shows it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from sqlalchemy import Connection

from vault.consent.events import leaves_below
from vault.consent.overview import InForce, in_force
from vault.consents import ConsentOverview, EventPage
from vault.crypto.lookup_keys import LookupKeys
from vault.domain.checks import FieldChecks
from vault.domain.errors import InvalidArgumentError, NotFoundError, NotPermittedError, Violation
from vault.domain.protocols import Clock, ConsentRepository, Transactions
from vault.domain.types import Act, Caller, ConsentEntry, Subject
from vault.enrolment import Enrolment
from vault.permission import authorise
from vault.policy.bundle import Bundle
from vault.policy.live import LivePolicy, Loaded
from vault.recording import RecordedAt, Recorder

T = TypeVar("T")
_NOWHERE: Final = RecordedAt("", 0)


class ConsentViews:
    """Holds what looking needs."""

    def __init__(
        self,
        transactions: Transactions,
        consents: ConsentRepository,
        enrolment: Enrolment,
        policy: LivePolicy,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._consents = consents
        self._enrolment = enrolment
        self._policy = policy
        self._recorder = recorder
        self._clock = clock

    def overview(self, caller: Caller, customer_number: str) -> ConsentOverview:
        """What is in force now for every leaf purpose.

        Raises:
            NotPermittedError, InvalidArgumentError, NotFoundError, AuditUnavailableError.
        """

        def work(connection: Connection, subject: Subject, loaded: Loaded) -> ConsentOverview:
            entries = self._consents.state(connection, caller.tenant, subject.id)
            return ConsentOverview(
                effective_now(loaded.bundle, subject, entries, "", self._clock.now()),
                subject.jurisdictions,
                subject.restricted_seq > 0,
                _NOWHERE,
            )

        shown, recorded = self._show(caller, customer_number, (), work)
        return replace(shown, recorded=recorded)

    def events(
        self,
        caller: Caller,
        customer_number: str,
        after_seq: int,
        limit: int,
        problems: Sequence[Violation] = (),
    ) -> EventPage:
        """A page of the ledger, in order of seq. `problems` are those of the message itself.

        Raises: as `overview`.
        """

        def work(connection: Connection, subject: Subject, _: Loaded) -> EventPage:
            found = self._consents.events(connection, caller.tenant, subject.id, after_seq, limit + 1)
            page = tuple(found[:limit])
            return EventPage(page, page[-1].seq if len(found) > limit else 0, _NOWHERE)

        shown, recorded = self._show(caller, customer_number, problems, work)
        return replace(shown, recorded=recorded)

    def _show(
        self,
        caller: Caller,
        customer_number: str,
        problems: Sequence[Violation],
        work: Callable[[Connection, Subject, Loaded], T],
    ) -> tuple[T, RecordedAt]:
        loaded = self._policy.current
        record = self._recorder.draft(caller, Act.CONSENT_READ.value, policy=loaded.bundle.hash)
        try:
            authorise(loaded, caller, Act.CONSENT_READ)
            checks = FieldChecks(problems)
            checks.customer_number(customer_number)
            checks.raise_if_any()

            def look(lookup: LookupKeys) -> tuple[Subject, T]:
                with self._transactions.read() as connection:
                    subject = self._enrolment.find(connection, lookup, customer_number)
                    if subject is None:
                        raise NotFoundError("customer_number: no such customer")
                    return subject, work(connection, subject, loaded)

            subject, value = self._enrolment.with_lookup(caller.tenant, look)
        except (NotPermittedError, InvalidArgumentError, NotFoundError) as error:
            self._recorder.refuse(record, error)
        return value, self._recorder.record(replace(record, subject=subject.audit_pseudonym))


def effective_now(
    bundle: Bundle, subject: Subject, entries: Sequence[ConsentEntry], purpose: str, now: int
) -> tuple[InForce, ...]:
    """What is in force for the leaves at or below `purpose` ('' for all). Pure."""
    purposes = bundle.purposes
    if purpose:
        leaves = leaves_below(purposes, purpose)
    else:
        leaves = tuple(purposes[name] for name in sorted(purposes) if purposes[name].leaf)
    return tuple(in_force(purposes, subject, entries, leaf, now) for leaf in leaves)
