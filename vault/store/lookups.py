"""What a rotation of lookup keys reads and changes of `subject_lookup`, in the caller's transaction.

Everything goes by subject id, a page at a time: no statement looks at more rows than its page has, however
many customers there are.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, select, update

from vault.store.tables import attribute_value, subject, subject_lookup


@dataclass(frozen=True, slots=True)
class Indexed:
    """A subject that has lookup rows, and the oldest and newest key version among them."""

    subject: bytes
    oldest: int
    newest: int


@dataclass(frozen=True, slots=True)
class Unindexed:
    """A subject without a row of the version asked for: the MACs it has, and its encrypted number, None where
    it has none."""

    subject: bytes
    macs: frozenset[bytes]
    number: bytes | None


_of_tenant = subject_lookup.c.tenant == bindparam("of_tenant")
_PAGE: Final = (
    select(
        subject_lookup.c.subject,
        func.min(subject_lookup.c.key_version),
        func.max(subject_lookup.c.key_version),
    )
    .where(_of_tenant)
    .where(subject_lookup.c.subject > bindparam("after"))
    .group_by(subject_lookup.c.subject)
    .order_by(subject_lookup.c.subject)
    .limit(bindparam("most"))
)
_ROWS: Final = (
    select(subject_lookup.c.subject, subject_lookup.c.mac, subject_lookup.c.key_version)
    .where(_of_tenant)
    .where(subject_lookup.c.subject.in_(bindparam("subjects", expanding=True)))
)
_NUMBERS: Final = (
    select(attribute_value.c.subject, attribute_value.c.ciphertext)
    .where(attribute_value.c.tenant == bindparam("of_tenant"))
    .where(attribute_value.c.subject.in_(bindparam("subjects", expanding=True)))
    .where(attribute_value.c.attribute == bindparam("of_attribute"))
)
_OWNERS: Final = (
    select(subject_lookup.c.mac, subject_lookup.c.subject)
    .where(_of_tenant)
    .where(subject_lookup.c.mac.in_(bindparam("macs", expanding=True)))
)
_LOCK: Final = (
    select(subject.c.subject)
    .where(subject.c.tenant == bindparam("of_tenant"))
    .where(subject.c.subject.in_(bindparam("subjects", expanding=True)))
    .order_by(subject.c.subject)
    .with_for_update()
)
_RESEAL: Final = (
    update(attribute_value)
    .where(attribute_value.c.tenant == bindparam("of_tenant"))
    .where(attribute_value.c.subject == bindparam("of_subject"))
    .where(attribute_value.c.attribute == bindparam("of_attribute"))
    .where(attribute_value.c.ciphertext == bindparam("old"))
    .values(ciphertext=bindparam("new"))
)
_DROP: Final = (
    delete(subject_lookup)
    .where(_of_tenant)
    .where(subject_lookup.c.subject.in_(bindparam("subjects", expanding=True)))
    .where(subject_lookup.c.key_version < bindparam("before"))
)
_COUNT: Final = select(func.count(subject_lookup.c.subject.distinct())).where(_of_tenant)
_COUNT_INDEXED: Final = (
    select(func.count()).where(_of_tenant).where(subject_lookup.c.key_version == bindparam("version"))
)


class LookupIndex:
    """Stateless and thread-safe."""

    def page(self, connection: Connection, tenant: str, after: bytes, most: int) -> list[Indexed]:
        """The next subjects after `after` (b"" for the first) that have lookup rows, in order of ids."""
        rows = connection.execute(_PAGE, {"of_tenant": tenant, "after": after, "most": most})
        return [Indexed(*row) for row in rows]

    def unindexed(
        self, connection: Connection, tenant: str, subjects: Collection[bytes], version: int, attribute: str
    ) -> list[Unindexed]:
        """Lock these subjects, and return those that are still without a row of `version` or a later one, in
        order of their ids. `attribute` is the reserved one that holds the number."""
        if not subjects:
            return []
        parameters = {"of_tenant": tenant, "subjects": sorted(subjects)}
        connection.execute(_LOCK, parameters).all()
        macs: dict[bytes, set[bytes]] = {}
        done: set[bytes] = set()
        for owner, mac, key_version in connection.execute(_ROWS, parameters):
            macs.setdefault(owner, set()).add(mac)
            if key_version >= version:
                done.add(owner)
        found = connection.execute(_NUMBERS, {**parameters, "of_attribute": attribute})
        numbers: dict[bytes, bytes | None] = {row[0]: row[1] for row in found}
        return [
            Unindexed(owner, frozenset(macs[owner]), numbers.get(owner))
            for owner in sorted(macs.keys() - done)
        ]

    def owners(self, connection: Connection, tenant: str, macs: Collection[bytes]) -> dict[bytes, bytes]:
        """The subject that each MAC leads to; an unknown MAC is left out."""
        if not macs:
            return {}
        rows = connection.execute(_OWNERS, {"of_tenant": tenant, "macs": list(macs)})
        return {row[0]: row[1] for row in rows}

    def reseal(
        self, connection: Connection, tenant: str, attribute: str, rows: Iterable[tuple[bytes, bytes, bytes]]
    ) -> int:
        """Replace the number of each (subject, old ciphertext, new ciphertext) where it is still the old one;
        returns how many were replaced."""
        columns = [
            {"of_tenant": tenant, "of_attribute": attribute, "of_subject": owner, "old": old, "new": new}
            for owner, old, new in rows
        ]
        return connection.execute(_RESEAL, columns).rowcount if columns else 0

    def drop(self, connection: Connection, tenant: str, subjects: Sequence[bytes], before: int) -> int:
        """Delete these subjects' rows of versions below `before`; returns how many there were."""
        if not subjects:
            return 0
        parameters = {"of_tenant": tenant, "subjects": list(subjects), "before": before}
        return connection.execute(_DROP, parameters).rowcount

    def count(self, connection: Connection, tenant: str) -> int:
        """How many subjects have lookup rows."""
        return int(connection.execute(_COUNT, {"of_tenant": tenant}).scalar_one())

    def count_indexed(self, connection: Connection, tenant: str, version: int) -> int:
        """How many of them have one of `version`."""
        return int(connection.execute(_COUNT_INDEXED, {"of_tenant": tenant, "version": version}).scalar_one())
