"""How a customer becomes a subject: shared by writes and consent events of customers not yet known."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from vault.crypto.envelope import CUSTOMER_NUMBER
from vault.crypto.tenant_keys import LookupKey, TenantKeys
from vault.domain.errors import InvalidArgumentError
from vault.domain.protocols import Clock, Randomness
from vault.domain.types import Subject
from vault.store.subjects import NewSubject, SubjectRepository
from vault.store.values import ValueRow

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
    """Drafts new subjects and inserts them."""

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

    def lookup(self, tenant: str) -> LookupKey:
        """The tenant's lookup key (not inside a transaction: its first use waits for the KMS)."""
        return self._tenant_keys.lookup(tenant)

    def draft(self, tenant: str, customer_number: str, jurisdictions: Sequence[str]) -> Enrolled:
        """A new subject with random id and audit pseudonym.

        Raises:
            InvalidArgumentError: no jurisdictions.
        """
        if not jurisdictions:
            raise InvalidArgumentError.of("jurisdictions", "must be given for a customer not yet known")
        key = self.lookup(tenant)
        now = self._clock.now()
        subject = Subject(
            id=self._randomness.token(_SUBJECT_ID_BYTES),
            audit_pseudonym=self._randomness.token(_PSEUDONYM_BYTES).hex(),
            jurisdictions=tuple(sorted(set(jurisdictions))),
        )
        sealed = key.seal_number(subject.id, customer_number, self._randomness)
        return Enrolled(
            NewSubject(key.mac(customer_number), key.version, subject, now),
            ValueRow(subject.id, CUSTOMER_NUMBER, 1, 1, _LOOKUP_CLASS, sealed, now),
        )

    def insert(self, connection: Connection, tenant: str, enrolled: Sequence[Enrolled]) -> None:
        """Insert drafted subjects with their lookup rows and encrypted numbers."""
        self._subjects.insert(connection, tenant, [one.row for one in enrolled])
        self._subjects.put_values(connection, tenant, [one.number for one in enrolled])
