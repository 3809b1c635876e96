"""Whether the user of the database may do what its work takes, and could not rewrite the log (`db check`).

What it may do counts by membership too, and not by inheritance alone: a member can SET ROLE.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from sqlalchemy import Connection, text

from vault.findings import Finding, Health
from vault.store import grants

_PAGE: Final = "docs/operations/postgresql.md"
_GRANT: Final = "run `datavault db grant --{} {} --apply` as the owner of the tables"
_OWN_ROLE: Final = f"make a role of its own for the service: {_PAGE}"
_LOG: Final = "log_entry"

_WHO: Final = text("SELECT rolname, rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER")
_LACKS: Final = text("""
SELECT each.privilege || ' on ' || each.name
  FROM ROWS FROM (pg_catalog.unnest(CAST(:tables AS text[])), pg_catalog.unnest(CAST(:privileges AS text[])))
    AS each(name, privilege)
 WHERE NOT CASE each.privilege
  WHEN 'UPDATE' THEN pg_catalog.has_any_column_privilege(each.name, 'UPDATE')
  ELSE pg_catalog.has_table_privilege(each.name, each.privilege) END
 ORDER BY 1
""")
# what was granted to it, to a role it is a member of, or to everyone; on a table or on columns of it
_GRANTED: Final = text("""
SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(a.grantee AS regrole) AS text) END,
       a.privilege_type, c.relname
  FROM pg_catalog.pg_class AS c
  JOIN ROWS FROM (pg_catalog.unnest(CAST(:tables AS text[])), pg_catalog.unnest(CAST(:privileges AS text[])))
    AS each(name, privilege) ON each.name = c.relname
 CROSS JOIN LATERAL (
       SELECT c.relacl UNION ALL SELECT t.attacl FROM pg_catalog.pg_attribute AS t WHERE t.attrelid = c.oid
     ) AS held(acl)
 CROSS JOIN LATERAL pg_catalog.aclexplode(held.acl) AS a
 WHERE c.relnamespace = CAST('public' AS regnamespace) AND a.privilege_type = each.privilege
   AND a.grantee <> c.relowner
   AND CASE a.grantee WHEN 0 THEN true ELSE pg_catalog.pg_has_role(a.grantee, 'MEMBER') END
 ORDER BY 1, 2, 3
""")
_ROLES: Final = text("""
SELECT CAST(CAST(r.oid AS regrole) AS text) AS role, r.rolname = CURRENT_USER AS itself,
       r.rolsuper AS superuser, r.rolcreaterole AS createrole, r.rolname = 'pg_write_all_data' AS writer,
       EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relowner = r.oid
                AND c.relnamespace = CAST('public' AS regnamespace)) AS owner,
       EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE p.proowner = r.oid
                AND p.pronamespace = CAST('public' AS regnamespace)) AS planted,
       pg_catalog.has_schema_privilege(r.oid, 'public', 'CREATE') AS creates
  FROM pg_catalog.pg_roles AS r
 WHERE pg_catalog.pg_has_role(r.oid, 'MEMBER') AND r.rolname <> 'pg_database_owner'
 ORDER BY itself DESC, role
""")
_OPEN: Final = text("SELECT pg_catalog.has_schema_privilege('public', 'public', 'CREATE')")

_POWERS: Final = (
    ("superuser", "is a superuser", "ALTER ROLE {} NOSUPERUSER"),
    ("owner", "owns the tables", _OWN_ROLE),
    ("createrole", "may make roles and become them", "ALTER ROLE {} NOCREATEROLE"),
    ("writer", "writes every table", ""),
    ("creates", "may create in schema public", "REVOKE CREATE ON SCHEMA public FROM {}"),
    ("planted", "has functions in schema public", "look at them with \\df public.*, and drop them"),
)
"""Column of _ROLES, what it says, and what to do where the role is the user itself."""
_OWNERS: Final = frozenset({"creates", "planted"})
"""What comes with owning the tables."""
_Pairs = Sequence[tuple[str, str]]
"""Table and privilege."""

_NEEDED: Final[_Pairs] = [
    (table, privilege)
    for table, rights in grants.SERVICE.items()
    for privilege, needed in (
        (grants.SELECT, True),
        (grants.INSERT, rights.insert),
        (grants.DELETE, rights.delete),
        (grants.UPDATE, bool(rights.update)),
    )
    if needed
]
_FORBIDDEN: Final[_Pairs] = [
    (table, privilege)
    for table in grants.SERVICE
    # a trigger changes what is inserted
    for privilege in (grants.UPDATE, grants.DELETE, "TRUNCATE", "TRIGGER")
    if (table, privilege) not in _NEEDED
]


def rights_findings(connection: Connection, *, production: bool) -> Iterator[Finding]:
    """Of the service's user; of an auditor's where it adds nothing anywhere and reads the log."""
    name, superuser = connection.execute(_WHO).one()
    kind = "auditor" if _is_auditor(connection) else "service"
    needed = _NEEDED if kind == "service" else [(table, grants.SELECT) for table in grants.AUDITOR]
    lacking = _lacking(connection, needed)
    if lacking:
        shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        yield Finding("rights", Health.BAD, f"{name} lacks {shown}", _GRANT.format(kind, name))
    # all else follows from being a superuser
    dangers = [(_POWERS[0][1], _OWN_ROLE)] if superuser else list(_dangers(connection, name))
    for what, remedy in dangers:
        # an owner or a superuser is how one tries it out; the others are nobody's wish
        tried = what in (_POWERS[0][1], _POWERS[1][1]) and not production
        health = Health.WARNING if tried else Health.BAD
        yield Finding("rights", health, f"{name} {what}: it could rewrite the log", remedy)
    if not lacking and not dangers:
        has = "has what it needs" if kind == "service" else "reads the log"
        yield Finding("rights", Health.GOOD, f"{name} {has}, and cannot change records")


def _is_auditor(connection: Connection) -> bool:
    inserts = [pair for pair in _NEEDED if pair[1] == grants.INSERT]
    reads = not _lacking(connection, [(_LOG, grants.SELECT)])
    return reads and len(_lacking(connection, inserts)) == len(inserts)


def _dangers(connection: Connection, name: str) -> Iterator[tuple[str, str]]:
    """What it may do that the service must not, and how it is taken away."""
    everyone = connection.execute(_OPEN).scalar_one()
    if everyone:
        yield (
            "may create in schema public, as everyone",
            f"as the owner of the schema (before PostgreSQL 15 a superuser): {grants.CLOSE_SCHEMA}",
        )
    for row in connection.execute(_ROLES).mappings():
        for power, words, remedy in _POWERS:
            implied = (power in _OWNERS and row["owner"]) or (power == "creates" and everyone)
            if row[power] and not implied:
                yield (
                    (words, remedy.format(row["role"]))
                    if row["itself"]
                    else (
                        f"may become {row['role']}, which {words}",
                        f"REVOKE {row['role']} FROM {grants.quoted(name)}",
                    )
                )
    found = connection.execute(_GRANTED, _columns(_FORBIDDEN)).all()
    for (grantee, privilege), rows in groupby(found, key=lambda row: (row[0], row[1])):
        tables = ", ".join(row[2] for row in rows)
        yield f"may {privilege} {tables}", f"REVOKE {privilege} ON {tables} FROM {grantee}"


def _lacking(connection: Connection, pairs: _Pairs) -> list[str]:
    return list(connection.execute(_LACKS, _columns(pairs)).scalars())


def _columns(pairs: _Pairs) -> dict[str, list[str]]:
    return {"tables": [table for table, _ in pairs], "privileges": [privilege for _, privilege in pairs]}
