"""The wrapped keys of each tenant: implements `TenantKeyRepository` (domain/protocols.py).

Below it what a rotation of lookup keys changes, in the caller's transaction.
"""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, select, tuple_, update

from vault.domain.limits import LIMITS
from vault.domain.protocols import TenantKeyRow, Transactions
from vault.store.statements import insert_new
from vault.store.tables import tenant_key

LOOKUP_USE: Final = "lookup"
# a day longer than requests: a replica that has not heard of it may use a retired key a little longer
_KEPT_MICROSECONDS: Final = (LIMITS.request_kept_days + 1) * 24 * 3_600 * 1_000_000

_LOAD: Final = (
    select(tenant_key.c.version, tenant_key.c.wrapped, tenant_key.c.retired_at)
    .where(tenant_key.c.tenant == bindparam("of_tenant"))
    .where(tenant_key.c.use == bindparam("of_use"))
    .order_by(tenant_key.c.version)
)
_TENANTS: Final = select(tenant_key.c.tenant).distinct()
_INSERT: Final = insert_new(tenant_key)
_RETIRE: Final = (
    update(tenant_key)
    .where(tenant_key.c.tenant == bindparam("of_tenant"))
    .where(tenant_key.c.use == LOOKUP_USE)
    .where(tenant_key.c.version < bindparam("before"))
    .where(tenant_key.c.retired_at == 0)
    .values(retired_at=bindparam("at"))
)


def tenants_with_keys(connection: Connection) -> frozenset[str]:
    """All tenants that the database ever had data of."""
    return frozenset(connection.scalars(_TENANTS))


class SqlTenantKeyRepository:
    """Opens a transaction of its own in each method: never call it inside a `write()` block."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def load(self, tenant: str, use: str) -> list[TenantKeyRow]:
        """Every version that is kept, retired ones too, newest last; empty when there is none.

        Raises:
            StoreUnavailableError: the database did not answer.
        """
        with self._transactions.read() as connection:
            return _load(connection, tenant, use)

    def insert_first(self, tenant: str, use: str, version: int, wrapped: bytes) -> list[TenantKeyRow]:
        """Insert unless (tenant, use, version) is there, commit, and return what is there, newest last.

        Raises:
            StoreUnavailableError: the database did not answer.
        """
        with self._transactions.write() as connection:
            _insert(connection, tenant, use, TenantKeyRow(version, wrapped))
            return _load(connection, tenant, use)


def lookup_rows(connection: Connection, tenant: str) -> tuple[TenantKeyRow, ...]:
    """The versions of a tenant's lookup key in the caller's snapshot, newest last."""
    return tuple(_load(connection, tenant, LOOKUP_USE))


def insert_lookup(connection: Connection, tenant: str, row: TenantKeyRow) -> bool:
    """Insert a version of the lookup key unless it is there; whether it was inserted."""
    return _insert(connection, tenant, LOOKUP_USE, row)


def retire_lookups(connection: Connection, tenant: str, before: int, at: int) -> int:
    """Retire the versions below `before` that are in force; returns how many. `at` in microseconds since
    1970 UTC."""
    parameters = {"of_tenant": tenant, "before": before, "at": at}
    return connection.execute(_RETIRE, parameters).rowcount


def purge_retired(connection: Connection, now: int, most: int) -> int:
    """Forget at most `most` lookup keys once no request is kept whose fingerprint they would recognise;
    returns how many. `now` in microseconds since 1970 UTC."""
    key = tenant_key.primary_key.columns
    old = (
        select(*key)
        .where(tenant_key.c.use == LOOKUP_USE)
        .where(tenant_key.c.retired_at > 0)
        .where(tenant_key.c.retired_at < now - _KEPT_MICROSECONDS)
        .limit(most)
    )
    return connection.execute(delete(tenant_key).where(tuple_(*key).in_(old))).rowcount


def _insert(connection: Connection, tenant: str, use: str, row: TenantKeyRow) -> bool:
    columns = {
        "tenant": tenant,
        "use": use,
        "version": row.version,
        "wrapped": row.wrapped,
        "retired_at": row.retired_at,
    }
    return connection.execute(_INSERT, columns).rowcount == 1


def _load(connection: Connection, tenant: str, use: str) -> list[TenantKeyRow]:
    rows = connection.execute(_LOAD, {"of_tenant": tenant, "of_use": use})
    return [TenantKeyRow(*row) for row in rows]
