"""All DEKs of one subject and all that they seal, read and replaced whole (keys.md, "Rotation").

Every method runs inside the caller's transaction; errors of the database become StoreUnavailableError where
it ends (`Database.write`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from vault.domain.types import WrappedKey
from vault.store.tables import attribute_value, subject_key

_RESERVED: Final = "$"


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A row of subject_key. Times in microseconds since 1970 UTC; `retained_since` 0 for a key in use."""

    key: WrappedKey
    created_at: int
    retained_since: int


@dataclass(frozen=True, slots=True)
class SealedRow:
    """A value that is set, as it is stored."""

    attribute: str
    version: int
    type_version: int
    key_class: str
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sealed:
    """The DEKs of one subject, oldest first, and the values under them; reserved attributes left out."""

    keys: tuple[HeldKey, ...]
    values: tuple[SealedRow, ...]

    def same_keys(self, other: "Sealed") -> bool:
        """Whether both have the same DEKs; a rewrapped one is the same."""
        return self._marks() == other._marks()

    def _marks(self) -> list[tuple[bytes, str, int]]:
        return [(held.key.dek_id, held.key.key_class, held.retained_since) for held in self.keys]


_KEYS: Final = (
    select(
        subject_key.c.key_class,
        subject_key.c.dek_id,
        subject_key.c.wrapped,
        subject_key.c.created_at,
        subject_key.c.retained_since,
    )
    .where(subject_key.c.tenant == bindparam("of_tenant"), subject_key.c.subject == bindparam("of_subject"))
    .order_by(subject_key.c.created_at, subject_key.c.dek_id)
)
_VALUES: Final = (
    select(
        attribute_value.c.attribute,
        attribute_value.c.version,
        attribute_value.c.type_version,
        attribute_value.c.key_class,
        attribute_value.c.ciphertext,
    )
    .where(
        attribute_value.c.tenant == bindparam("of_tenant"),
        attribute_value.c.subject == bindparam("of_subject"),
        attribute_value.c.ciphertext.is_not(None),
        attribute_value.c.attribute.not_like(f"{_RESERVED}%"),
    )
    .order_by(attribute_value.c.attribute)
)
_RESEAL: Final = (
    update(attribute_value)
    .where(
        attribute_value.c.tenant == bindparam("of_tenant"),
        attribute_value.c.subject == bindparam("of_subject"),
        attribute_value.c.attribute == bindparam("of_attribute"),
    )
    .values(ciphertext=bindparam("new"))
)
_DESTROY: Final = delete(subject_key).where(
    subject_key.c.tenant == bindparam("of_tenant"),
    subject_key.c.subject == bindparam("of_subject"),
    subject_key.c.dek_id.in_(bindparam("those", expanding=True)),
)


class RekeyRepository:
    """Stateless."""

    def load(self, connection: Connection, tenant: str, subject: bytes) -> Sealed:
        """What is stored of a subject now."""
        of = {"of_tenant": tenant, "of_subject": subject}
        keys = [
            HeldKey(WrappedKey(key_class, dek_id, wrapped, since != 0), created_at, since)
            for key_class, dek_id, wrapped, created_at, since in connection.execute(_KEYS, of)
        ]
        return Sealed(tuple(keys), tuple(SealedRow(*row) for row in connection.execute(_VALUES, of)))

    def replace(
        self,
        connection: Connection,
        tenant: str,
        subject: bytes,
        old: Sealed,
        keys: Sequence[HeldKey],
        ciphertexts: Sequence[bytes],
    ) -> None:
        """Put new DEKs in the place of the old ones, and new ciphertexts, in the order of `old.values`.

        The subject is locked, and `old` was loaded since.
        """
        of = {"of_tenant": tenant, "of_subject": subject}
        changes = [
            {**of, "of_attribute": row.attribute, "new": new}
            for row, new in zip(old.values, ciphertexts, strict=True)
        ]
        if changes:
            connection.execute(_RESEAL, changes)
        if old.keys:
            connection.execute(_DESTROY, {**of, "those": [held.key.dek_id for held in old.keys]})
        rows = [
            {
                "tenant": tenant,
                "subject": subject,
                "dek_id": held.key.dek_id,
                "key_class": held.key.key_class,
                "wrapped": held.key.wrapped,
                "created_at": held.created_at,
                "retained_since": held.retained_since,
            }
            for held in keys
        ]
        if rows:
            connection.execute(insert(subject_key), rows)
