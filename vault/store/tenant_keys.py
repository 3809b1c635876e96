"""The wrapped keys of each tenant: implements `TenantKeyRepository` (domain/protocols.py)."""

from typing import Final

from sqlalchemy import Connection, bindparam, select

from vault.domain.protocols import Transactions
from vault.store.statements import insert_new
from vault.store.tables import tenant_key

_LOAD: Final = (
    select(tenant_key.c.version, tenant_key.c.wrapped)
    .where(tenant_key.c.tenant == bindparam("of_tenant"))
    .where(tenant_key.c.use == bindparam("of_use"))
    .order_by(tenant_key.c.version)
)
_INSERT: Final = insert_new(tenant_key)


class SqlTenantKeyRepository:
    """Opens a transaction of its own in each method: never call it inside a `write()` block."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def load(self, tenant: str, use: str) -> list[tuple[int, bytes]]:
        """(version, wrapped) of each, newest last; empty when there is none.

        Raises:
            StoreUnavailableError: the database did not answer.
        """
        with self._transactions.read() as connection:
            return _load(connection, tenant, use)

    def insert_first(self, tenant: str, use: str, version: int, wrapped: bytes) -> list[tuple[int, bytes]]:
        """Insert unless (tenant, use, version) is there, commit, and return what is there, newest last.

        Raises:
            StoreUnavailableError: the database did not answer.
        """
        row = {"tenant": tenant, "use": use, "version": version, "wrapped": wrapped}
        with self._transactions.write() as connection:
            connection.execute(_INSERT, row)
            return _load(connection, tenant, use)


def _load(connection: Connection, tenant: str, use: str) -> list[tuple[int, bytes]]:
    rows = connection.execute(_LOAD, {"of_tenant": tenant, "of_use": use})
    return [(version, wrapped) for version, wrapped in rows]
