"""How a customer becomes a subject: shared by writes and consent events of customers not yet known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection

from vault.crypto.envelope import CUSTOMER_NUMBER
from vault.crypto.lookup_keys import LookupKeys
from vault.crypto.tenant_keys import TenantKeys
from vault.customers import find_customer, require_current, with_lookup
from vault.domain.errors import InvalidArgumentError
from vault.domain.protocols import Clock, Randomness
from vault.domain.types import Subject
from vault.store.subjects import NewSubject, SubjectRepository
from vault.store.values import ValueRow

T = TypeVar("T")
_SUBJECT_ID_BYTES = 16
_PSEUDONYM_BYTES = 16
_LOOKUP_CLASS = "lookup"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A subject that is not in the store yet, and its encrypted customer number."""

    row: NewSubject
    number: ValueRow

    @property
    def subject(self) -> Subject:
        return self.row.subject


class Enrolment:
    """Finds subjects, drafts new ones and inserts them."""

    def __init__(
        self,
        tenant_keys: TenantKeys,
        subjects: SubjectRepository,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self._tenant_keys = tenant_keys
        self._subjects = subjects
        self._clock = clock
        self._randomness = randomness

    def lookup(self, tenant: str) -> LookupKeys:
        """The tenant's lookup keys (not inside a transaction: their first use waits for the KMS)."""
        return self._tenant_keys.lookup(tenant)

    def refresh(self, tenant: str) -> LookupKeys:
        """The tenant's lookup keys, read again; not inside a transaction."""
        return self._tenant_keys.refresh(tenant)

    def with_lookup(self, tenant: str, work: Callable[[LookupKeys], T]) -> T:
        """See `customers.with_lookup`."""
        return with_lookup(self._tenant_keys, tenant, work)

    def find(self, connection: Connection, lookup: LookupKeys, customer_number: str) -> Subject | None:
        """See `customers.find_customer`."""
        return find_customer(connection, self._subjects, lookup, customer_number)

    def draft(self, lookup: LookupKeys, customer_number: str, jurisdictions: Sequence[str]) -> Enrolled:
        """A new subject with random id and audit pseudonym, indexed under every lookup key in force.

        Raises:
            InvalidArgumentError: no jurisdictions.
        """
        if not jurisdictions:
            raise InvalidArgumentError.of("jurisdictions", "must be given for a customer not yet known")
        now = self._clock.now()
        subject = Subject(
            id=self._randomness.token(_SUBJECT_ID_BYTES),
            audit_pseudonym=self._randomness.token(_PSEUDONYM_BYTES).hex(),
            jurisdictions=tuple(sorted(set(jurisdictions))),
        )
        (mac, version), *older = [(key.mac(customer_number), key.version) for key in lookup.in_force]
        sealed = lookup.seal_number(subject.id, customer_number, self._randomness)
        return Enrolled(
            NewSubject(mac, version, subject, now, tuple(older)),
            ValueRow(subject.id, CUSTOMER_NUMBER, 1, 1, _LOOKUP_CLASS, sealed, now),
        )

    def insert(self, connection: Connection, lookup: LookupKeys, enrolled: Sequence[Enrolled]) -> None:
        """Insert subjects that were drafted with `lookup`, with their lookup rows and encrypted numbers.

        Raises:
            StaleLookupError: other lookup keys are in force by now; nothing was inserted.
        """
        if not enrolled:
            return
        require_current(connection, lookup)
        self._subjects.insert(connection, lookup.tenant, [one.row for one in enrolled])
        self._subjects.put_values(connection, lookup.tenant, [one.number for one in enrolled])
