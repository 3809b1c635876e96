"""Quota counters: subjects per (caller, purpose, hour), in the database so that they hold over replicas."""

from typing import Final

from sqlalchemy import Connection, delete, select, text, tuple_

from vault.store.tables import quota_use

_ADD: Final = text(
    "INSERT INTO quota_use (tenant, caller, purpose, hour, subjects)"
    " VALUES (:tenant, :caller, :purpose, :hour, :subjects)"
    " ON CONFLICT (tenant, caller, purpose, hour)"
    " DO UPDATE SET subjects = quota_use.subjects + excluded.subjects RETURNING subjects"
)


class QuotaRepository:
    """In the caller's transaction. `hour` is hours since 1970 UTC."""

    def add(
        self, connection: Connection, tenant: str, caller: str, purpose: str, hour: int, subjects: int
    ) -> int:
        """Count `subjects` more and return how many are used now; once per group, not per read."""
        used: int = connection.execute(
            _ADD,
            {"tenant": tenant, "caller": caller, "purpose": purpose, "hour": hour, "subjects": subjects},
        ).scalar_one()
        return used

    def used(self, connection: Connection, tenant: str, caller: str, purpose: str, hour: int) -> int:
        """How many subjects are used in this hour."""
        table = quota_use
        found = connection.execute(
            select(table.c.subjects).where(
                table.c.tenant == tenant,
                table.c.caller == caller,
                table.c.purpose == purpose,
                table.c.hour == hour,
            )
        ).scalar_one_or_none()
        return int(found or 0)

    def purge(self, connection: Connection, hour: int, most: int) -> int:
        """Forget at most `most` counters of hours before `hour`; returns how many."""
        key = quota_use.primary_key.columns
        old = select(*key).where(quota_use.c.hour < hour).limit(most)
        return connection.execute(delete(quota_use).where(tuple_(*key).in_(old))).rowcount
