"""Wrapped keys and ciphertexts of subjects. Methods take lists: a batch is a handful of statements."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select, update

from vault.domain.errors import VersionMismatchError
from vault.domain.types import WrappedKey
from vault.store.statements import upsert
from vault.store.tables import attribute_value, subject_key


@dataclass(frozen=True, slots=True)
class ValueRow:
    """One write of an attribute: the version it gets, and its ciphertext, None to clear it.

    `written_at` in microseconds since 1970 UTC.
    """

    subject: bytes
    attribute: str
    version: int
    type_version: int
    key_class: str
    ciphertext: bytes | None
    written_at: int


@dataclass(frozen=True, slots=True)
class VersionState:
    """The version an attribute has reached; `is_set` is False once it was cleared."""

    version: int
    is_set: bool


_KEYS: Final = (
    select(
        subject_key.c.subject,
        subject_key.c.key_class,
        subject_key.c.dek_id,
        subject_key.c.wrapped,
        subject_key.c.retained_since,
    )
    .where(subject_key.c.tenant == bindparam("tenant"))
    .where(subject_key.c.subject.in_(bindparam("subjects", expanding=True)))
    .order_by(subject_key.c.subject, subject_key.c.created_at, subject_key.c.dek_id)
)
_VERSIONS: Final = (
    select(
        attribute_value.c.subject,
        attribute_value.c.attribute,
        attribute_value.c.version,
        attribute_value.c.ciphertext.is_not(None),
    )
    .where(attribute_value.c.tenant == bindparam("tenant"))
    .where(attribute_value.c.subject.in_(bindparam("subjects", expanding=True)))
)
_SOME_VERSIONS: Final = _VERSIONS.where(
    attribute_value.c.attribute.in_(bindparam("attributes", expanding=True))
)
_CLEAR: Final = (
    update(attribute_value)
    .where(attribute_value.c.tenant == bindparam("of_tenant"))
    .where(attribute_value.c.subject == bindparam("of_subject"))
    .where(attribute_value.c.attribute.in_(bindparam("those", expanding=True)))
    .where(attribute_value.c.ciphertext.is_not(None))
    .values(ciphertext=None, version=attribute_value.c.version + 1, written_at=bindparam("at"))
)
# a version names one ciphertext for ever (associated data binds it), so none is written a second time
_PUT: Final = upsert(
    attribute_value,
    only_if="excluded.version > attribute_value.version"
    " OR (excluded.version = attribute_value.version"
    " AND excluded.ciphertext IS NULL AND attribute_value.ciphertext IS NULL)",
)


class ValueRepository:
    """Keys and values. Every method runs inside the caller's transaction; errors of the database become
    StoreUnavailableError at its end (`Database.write`)."""

    def keys(
        self, connection: Connection, tenant: str, subjects: Collection[bytes]
    ) -> dict[bytes, list[WrappedKey]]:
        """The wrapped DEKs of each subject that has any, the newest last."""
        found: dict[bytes, list[WrappedKey]] = {}
        if subjects:
            rows = connection.execute(_KEYS, {"tenant": tenant, "subjects": list(subjects)})
            for subject, key_class, dek_id, wrapped, since in rows:
                found.setdefault(subject, []).append(WrappedKey(key_class, dek_id, wrapped, since != 0))
        return found

    def put_keys(
        self, connection: Connection, tenant: str, rows: Sequence[tuple[bytes, WrappedKey]], created_at: int
    ) -> None:
        """Add DEKs as (subject id, key). The subjects must be there. `created_at` in microseconds UTC."""
        columns = [
            {
                "tenant": tenant,
                "subject": subject,
                "dek_id": key.dek_id,
                "key_class": key.key_class,
                "wrapped": key.wrapped,
                "created_at": created_at,
            }
            for subject, key in rows
        ]
        if columns:
            connection.execute(insert(subject_key), columns)

    def versions(
        self,
        connection: Connection,
        tenant: str,
        subjects: Collection[bytes],
        attributes: Collection[str] | None = None,
    ) -> dict[bytes, dict[str, VersionState]]:
        """By subject and attribute, of those ever set; the next write of one gets its version + 1.

        `attributes` None means all, the reserved ones too.
        """
        if not subjects or (attributes is not None and not attributes):
            return {}
        parameters: dict[str, object] = {"tenant": tenant, "subjects": list(subjects)}
        statement = _VERSIONS
        if attributes is not None:
            statement, parameters["attributes"] = _SOME_VERSIONS, list(attributes)
        found: dict[bytes, dict[str, VersionState]] = {}
        for subject, attribute, version, is_set in connection.execute(statement, parameters):
            found.setdefault(subject, {})[attribute] = VersionState(version, bool(is_set))
        return found

    def put_values(self, connection: Connection, tenant: str, rows: Sequence[ValueRow]) -> None:
        """Set or clear attributes. The subjects are locked or new, and no attribute of one stands twice.

        A cleared attribute keeps its row and goes on counting versions. Clearing a cleared one again under
        its own version changes nothing.

        Raises:
            VersionMismatchError: one has that version, or a later one, already: roll the transaction back.
        """
        if not rows:
            return
        columns = [
            {
                "tenant": tenant,
                "subject": row.subject,
                "attribute": row.attribute,
                "version": row.version,
                "type_version": row.type_version,
                "key_class": row.key_class,
                "ciphertext": row.ciphertext,
                "written_at": row.written_at,
            }
            for row in rows
        ]
        if connection.execute(_PUT, columns).rowcount != len(rows):
            raise VersionMismatchError("an attribute has another version by now")

    def clear_values(
        self, connection: Connection, tenant: str, subject: bytes, attributes: Collection[str], at: int
    ) -> None:
        """Clear those of a locked subject's attributes that are set; each gets its next version."""
        if attributes:
            parameters = {"of_tenant": tenant, "of_subject": subject, "at": at, "those": list(attributes)}
            connection.execute(_CLEAR, parameters)
