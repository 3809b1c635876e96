"""Rewriting PostgreSQL's tables, so that none of their pages holds what was deleted.

Who may not is only warned by PostgreSQL ("permission denied to vacuum ..., skipping it"), and the statement
succeeds: so it is asked before, and looked at after.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, text

from vault.domain.errors import ConfigurationError, StoreUnavailableError

# as VACUUM decides: owner of the table or the database (a superuser counts as both), or MAINTAIN since 17
_NOT_ALLOWED: Final = text("""
SELECT t.name
  FROM pg_catalog.unnest(CAST(:tables AS text[])) AS t(name)
  JOIN pg_catalog.pg_class AS c ON c.oid = CAST(t.name AS regclass)
  JOIN pg_catalog.pg_database AS d ON d.datname = pg_catalog.current_database()
 WHERE NOT (
       pg_catalog.pg_has_role(c.relowner, 'USAGE')
    OR pg_catalog.pg_has_role(d.datdba, 'USAGE')
    OR CASE WHEN CAST(pg_catalog.current_setting('server_version_num') AS integer) >= 170000
            THEN pg_catalog.has_table_privilege(c.oid, 'MAINTAIN') ELSE false END)
 ORDER BY t.name
""")
_FILE: Final = text("SELECT pg_catalog.pg_relation_filenode(CAST(:table AS regclass))")


def require_allowed(connection: Connection, tables: Sequence[str]) -> None:
    """
    Raises:
        ConfigurationError: the user may not rewrite all of `tables`.
    """
    refused = connection.execute(_NOT_ALLOWED, {"tables": list(tables)}).scalars().all()
    if refused:
        raise ConfigurationError(
            f"this user may not rewrite {', '.join(refused)}; nothing was rewritten: "
            "run it as the tables' owner (the user of DATAVAULT_DATABASE_URL)"
        )


def rewrite(connection: Connection, table: str) -> None:
    """Rewrite one table and its indexes; it is locked meanwhile. Not in a transaction.

    Raises:
        StoreUnavailableError: PostgreSQL left it as it was.
    """
    connection.exec_driver_sql("SET statement_timeout = 0")
    before = connection.execute(_FILE, {"table": table}).scalar_one()
    connection.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {table}")
    if connection.execute(_FILE, {"table": table}).scalar_one() == before:
        raise StoreUnavailableError(f"{table} was not rewritten: run it as the tables' owner")
