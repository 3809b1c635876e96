"""The roles that rights are given to, as PostgreSQL knows them."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, text

from vault.domain.errors import ConfigurationError
from vault.store import grants

_ROLE: Final = text("""
SELECT r.rolsuper,
       r.rolname = CURRENT_USER OR EXISTS (
         SELECT FROM pg_catalog.pg_class AS c
          WHERE c.relnamespace = CAST('public' AS regnamespace) AND c.relowner = r.oid)
  FROM pg_catalog.pg_roles AS r WHERE r.rolname = :role
""")
# not the owner's own rights, and not those of PUBLIC (grantee 0)
_HELD: Final = text("""
SELECT r.rolname, c.relname, pg_catalog.array_agg(CAST(a.privilege_type AS text))
  FROM pg_catalog.pg_class AS c
 CROSS JOIN pg_catalog.aclexplode(c.relacl) AS a
  JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
 WHERE c.relnamespace = CAST('public' AS regnamespace) AND c.relkind IN ('r', 'p') AND a.grantee <> c.relowner
 GROUP BY r.rolname, c.relname ORDER BY r.rolname
""")
_TABLES: Final = text("SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = 'public'")
_LOG: Final = "log_entry"
_ADDS: Final = frozenset({grants.SELECT, grants.INSERT})
_Held = Mapping[str, frozenset[str]]
"""Privileges by table."""


def require_grantable(connection: Connection, role: str) -> None:
    """
    Raises:
        ConfigurationError: there is no such role, or taking its other rights would lock the owner out.
    """
    found = connection.execute(_ROLE, {"role": role}).one_or_none()
    if found is None:
        raise ConfigurationError(f"there is no role {role}: make it first (CREATE ROLE)")
    superuser, owner = found
    if superuser or owner:
        what = "is a superuser" if superuser else "owns the tables or runs this command"
        raise ConfigurationError(f"role {role} {what}: service and auditors must have roles of their own")


def remembered(connection: Connection) -> Mapping[str, bool]:
    """The roles that have rights of the service's shape (True) or of an auditor's (False) now, and no others:
    whoever backs the database up, say, keeps what he has."""
    held: dict[str, dict[str, frozenset[str]]] = {}
    for role, table, privileges in connection.execute(_HELD):
        held.setdefault(role, {})[table] = frozenset(privileges)
    tables = _tables(connection)
    services = {role: True for role, has in held.items() if _is_service(has, tables)}
    return services | {role: False for role, has in held.items() if _is_auditor(has)}


def give_again(connection: Connection, roles: Mapping[str, bool]) -> None:
    """Give `remembered` roles their rights on tables that were added since; takes none from anybody."""
    tables = _tables(connection)
    for role, service in roles.items():
        given = grants.service_grants(role, tables) if service else grants.auditor_grants(role, tables)
        for statement in given:
            connection.exec_driver_sql(statement)


def _tables(connection: Connection) -> frozenset[str]:
    return frozenset(connection.execute(_TABLES).scalars())


def _is_service(has: _Held, tables: frozenset[str]) -> bool:
    """It adds to every table that the service adds to, and to the log it only adds."""
    added = [table for table, rights in grants.SERVICE.items() if rights.insert and table in tables]
    adds = all(has.get(table, frozenset()) >= _ADDS for table in added)
    return adds and has.get(_LOG) == _ADDS


def _is_auditor(has: _Held) -> bool:
    """It reads the log, and nothing but what auditors read."""
    return _LOG in has and all(
        table in grants.AUDITOR and privileges == {grants.SELECT} for table, privileges in has.items()
    )
