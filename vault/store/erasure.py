"""What an erasure takes out of the tables, and the sealed evidence that it leaves.

Every method runs inside the caller's transaction; errors of the database become StoreUnavailableError where
it ends (`Database.write`). The caller holds the lock of the subject's row.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    Connection,
    Function,
    LargeBinary,
    Select,
    case,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)

from vault.domain.errors import NotFoundError
from vault.domain.types import ConsentState, WrappedKey
from vault.store.tables import (
    attribute_value,
    consent_event,
    consent_state,
    erasure_evidence,
    subject_key,
    subject_lookup,
)
from vault.store.tables import subject as subject_table

RESERVED: Final = "$"
"""Begins the names of attributes that belong to the subject itself and to no key class."""
_PERMISSIVE: Final = (
    ConsentState.GIVEN,
    ConsentState.RENEWED,
    ConsentState.OPTED_IN,
    ConsentState.OBJECTION_LIFTED,
)
_DEK_ID_AT: Final = 5
_DEK_ID_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Holding:
    """What is held of one subject in one key class: DEKs, values that are set, and when one was last written
    (microseconds since 1970 UTC, 0 for never)."""

    key_class: str
    keys: int
    values: int
    newest: int


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """A row of erasure_evidence: the sealed consents of an erased subject, and the DEK that opens them.

    `receipt` are the 16 bytes of the receipt id; times in microseconds since 1970 UTC.
    """

    receipt: bytes
    key: WrappedKey
    ciphertext: bytes
    created_at: int
    keep_until: int


class ErasureRepository:
    """Stateless."""

    def relationship_end(self, connection: Connection, tenant: str, subject: bytes) -> datetime.date | None:
        """The day the relationship ended; None while it is open.

        Raises:
            NotFoundError: no such subject.
        """
        table = subject_table
        row = connection.execute(
            select(table.c.relationship_ended_on).where(table.c.tenant == tenant, table.c.subject == subject)
        ).one_or_none()
        if row is None:
            raise NotFoundError("no such subject")
        ended: datetime.date | None = row[0]
        return ended

    def set_retention(
        self,
        connection: Connection,
        tenant: str,
        subject: bytes,
        ended_on: datetime.date | None,
        legal_hold: str,
    ) -> None:
        """Say when the relationship ended, and why nothing may be destroyed ('' for no hold).

        Raises:
            NotFoundError: no such subject.
        """
        table = subject_table
        statement = update(table).where(table.c.tenant == tenant, table.c.subject == subject)
        changed = connection.execute(statement.values(relationship_ended_on=ended_on, legal_hold=legal_hold))
        if changed.rowcount != 1:
            raise NotFoundError("no such subject")

    def holdings(
        self, connection: Connection, tenant: str, subject: bytes, *, retained: bool = False
    ) -> list[Holding]:
        """What is held per key class, in no order; `retained`: only what an erasure left."""
        keys: dict[str, int] = {}
        table = subject_key
        counted = (
            select(table.c.key_class, func.count())
            .where(table.c.tenant == tenant, table.c.subject == subject)
            .group_by(table.c.key_class)
        )
        if retained:
            counted = counted.where(table.c.retained_since != 0)
        for key_class, count in connection.execute(counted):
            keys[key_class] = count
        values = self._values(connection, tenant, subject, retained=retained)
        return [Holding(name, keys.get(name, 0), *values.get(name, (0, 0))) for name in keys | values]

    def destroy(
        self, connection: Connection, tenant: str, subject: bytes, key_class: str, *, retained: bool = False
    ) -> None:
        """Delete the wrapped DEKs and the rows of values of one key class; `retained`: only DEKs that an
        earlier erasure left, and what they seal."""
        values, keys = attribute_value, subject_key
        of_values = delete(values).where(
            values.c.tenant == tenant, values.c.subject == subject, values.c.key_class == key_class
        )
        of_keys = delete(keys).where(
            keys.c.tenant == tenant, keys.c.subject == subject, keys.c.key_class == key_class
        )
        if retained:
            of_values = of_values.where(_sealing_key().in_(_retained_ids(tenant, subject)))
            of_keys = of_keys.where(keys.c.retained_since != 0)
        connection.execute(of_values.where(values.c.attribute.not_like(f"{RESERVED}%")))
        connection.execute(of_keys)

    def retain(self, connection: Connection, tenant: str, subject: bytes, now: int) -> None:
        """Mark every DEK that is left: what it seals is read for its ground alone from `now` on."""
        table = subject_key
        connection.execute(
            update(table)
            .where(table.c.tenant == tenant, table.c.subject == subject, table.c.retained_since == 0)
            .values(retained_since=now)
        )

    def forget_consents(self, connection: Connection, tenant: str, subject: bytes, *, events: bool) -> None:
        """Delete what permits from consent_state, and with `events` the ledger too. What forbids stays: an
        objection binds what is written later."""
        state, event = consent_state, consent_event
        connection.execute(
            delete(state).where(
                state.c.tenant == tenant,
                state.c.subject == subject,
                state.c.state.in_([one.value for one in _PERMISSIVE]),
            )
        )
        if events:
            connection.execute(delete(event).where(event.c.tenant == tenant, event.c.subject == subject))

    def remove(self, connection: Connection, tenant: str, subject: bytes) -> None:
        """Delete the subject with everything that leads to it: all lookup rows, the encrypted customer
        number, consents, the audit pseudonym."""
        for table in (
            attribute_value,
            subject_key,
            consent_event,
            consent_state,
            subject_lookup,
            subject_table,
        ):
            connection.execute(delete(table).where(table.c.tenant == tenant, table.c.subject == subject))

    def retained_subjects(
        self, connection: Connection, after: tuple[str, bytes], most: int
    ) -> list[tuple[str, bytes]]:
        """(tenant, subject id) of at most `most` subjects with retained DEKs, in order, after this one."""
        table = subject_key
        place = tuple_(table.c.tenant, table.c.subject)
        rows = connection.execute(
            select(table.c.tenant, table.c.subject)
            .where(table.c.retained_since != 0, place > tuple_(*after))
            .distinct()
            .order_by(table.c.tenant, table.c.subject)
            .limit(most)
        )
        return [(tenant, subject) for tenant, subject in rows]

    # --- evidence ------------------------------------------------------------------------------------------

    def put_evidence(self, connection: Connection, tenant: str, evidence: StoredEvidence) -> None:
        """Insert sealed evidence; its receipt is new."""
        connection.execute(
            insert(erasure_evidence),
            {
                "tenant": tenant,
                "receipt": evidence.receipt,
                "dek_id": evidence.key.dek_id,
                "wrapped": evidence.key.wrapped,
                "ciphertext": evidence.ciphertext,
                "created_at": evidence.created_at,
                "keep_until": evidence.keep_until,
            },
        )

    def evidence(
        self, connection: Connection, tenant: str, receipt: bytes, key_class: str
    ) -> StoredEvidence | None:
        """The evidence of a receipt, its key as one of `key_class`; None where there is none."""
        table = erasure_evidence
        row = connection.execute(
            select(
                table.c.dek_id, table.c.wrapped, table.c.ciphertext, table.c.created_at, table.c.keep_until
            ).where(table.c.tenant == tenant, table.c.receipt == receipt)
        ).one_or_none()
        if row is None:
            return None
        dek_id, wrapped, ciphertext, created_at, keep_until = row
        return StoredEvidence(
            receipt, WrappedKey(key_class, dek_id, wrapped), ciphertext, created_at, keep_until
        )

    def purge_evidence(self, connection: Connection, now: int, most: int) -> int:
        """Delete at most `most` pieces of evidence that are past keeping at `now`; returns how many."""
        key = erasure_evidence.primary_key.columns
        old = select(*key).where(erasure_evidence.c.keep_until <= now).limit(most)
        return connection.execute(delete(erasure_evidence).where(tuple_(*key).in_(old))).rowcount

    def _values(
        self, connection: Connection, tenant: str, subject: bytes, *, retained: bool
    ) -> dict[str, tuple[int, int]]:
        """(how many are set, newest write) of the values per class."""
        table = attribute_value
        statement = (
            select(
                table.c.key_class,
                func.sum(case((table.c.ciphertext.is_not(None), 1), else_=0)),
                func.max(table.c.written_at),
            )
            .where(table.c.tenant == tenant, table.c.subject == subject)
            .where(table.c.attribute.not_like(f"{RESERVED}%"))
            .group_by(table.c.key_class)
        )
        if retained:
            statement = statement.where(_sealing_key().in_(_retained_ids(tenant, subject)))
        rows: Sequence[tuple[str, int, int]] = [
            (name, int(count), int(newest)) for name, count, newest in connection.execute(statement)
        ]
        return {name: (count, newest) for name, count, newest in rows}


def _sealing_key() -> Function[bytes]:
    """The id of the DEK that sealed a value stands in its envelope (keys.md, "Ciphertext")."""
    return func.substr(attribute_value.c.ciphertext, _DEK_ID_AT, _DEK_ID_BYTES, type_=LargeBinary)


def _retained_ids(tenant: str, subject: bytes) -> Select[tuple[bytes]]:
    table = subject_key
    return select(table.c.dek_id).where(
        table.c.tenant == tenant, table.c.subject == subject, table.c.retained_since != 0
    )
