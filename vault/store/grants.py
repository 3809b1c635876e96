"""Who may do what with which table on PostgreSQL: the least that the service and auditors need.

The owner of the tables changes the schema and is nobody's daily user. One table here gives the SQL, the page
for operators and the tests, which run every suite as the service's role.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from vault.domain.errors import ConfigurationError

SELECT, INSERT, DELETE, UPDATE = "SELECT", "INSERT", "DELETE", "UPDATE"


@dataclass(frozen=True, slots=True)
class Rights:
    """What a role may do with a table; `update` names the columns, `("*",)` all of them."""

    insert: bool = True
    delete: bool = False
    update: tuple[str, ...] = ()
    why: str = ""

    def privileges(self) -> str:
        """As GRANT takes them."""
        granted = [SELECT]
        if self.insert:
            granted.append(INSERT)
        if self.delete:
            granted.append(DELETE)
        if self.update == ("*",):
            granted.append(UPDATE)
        elif self.update:
            granted.append(f"{UPDATE} ({', '.join(self.update)})")
        return ", ".join(granted)


_ALL: Final = ("*",)
_APPEND_ONLY: Final = "never changed, never deleted"
SERVICE: Final[Mapping[str, Rights]] = {
    "subject": Rights(delete=True, update=_ALL, why="changed by writes and rights, deleted by an erasure"),
    "subject_lookup": Rights(delete=True, why="deleted by an erasure and by the rotation of lookup keys"),
    "subject_key": Rights(
        delete=True, update=("wrapped", "retained_since"), why="rewrapped, retained, destroyed by an erasure"
    ),
    "attribute_value": Rights(delete=True, update=_ALL, why="written over, deleted by an erasure"),
    "consent_event": Rights(delete=True, why="moved to sealed evidence by an erasure; never changed"),
    "consent_state": Rights(delete=True, update=_ALL, why="what is in force now"),
    "request": Rights(delete=True, why="kept for seven days"),
    "bundle": Rights(why=_APPEND_ONLY),
    "tenant_key": Rights(delete=True, update=("wrapped", "retired_at"), why="rewrapped, retired, forgotten"),
    "erasure_evidence": Rights(delete=True, update=("wrapped",), why="rewrapped, forgotten at its end"),
    "quota_use": Rights(delete=True, update=("subjects",), why="counted, forgotten after a day"),
    "log": Rights(update=("size", "integrated", "state"), why="the head row; its origin never changes"),
    "log_key": Rights(why=_APPEND_ONLY),
    "log_entry": Rights(why=_APPEND_ONLY),
    "log_tile": Rights(update=("hashes",), why="a partial tile grows"),
    "log_checkpoint": Rights(why=_APPEND_ONLY),
    "audit_index": Rights(why=_APPEND_ONLY),
    "outbox": Rights(delete=True, update=("delivered_at",), why="delivered, then forgotten"),
    "schema_info": Rights(insert=False, why="the schema is the owner's"),
    "alembic_version": Rights(insert=False, why="the schema is the owner's"),
}
AUDITOR: Final = (
    "log",
    "log_key",
    "log_entry",
    "log_tile",
    "log_checkpoint",
    "audit_index",
    "schema_info",
    "alembic_version",
)
"""What an auditor may read, and nothing else: `audit verify` needs no more."""
SEQUENCES: Final = ("outbox_id_seq",)
CLOSE_SCHEMA: Final = "REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
"""PostgreSQL before 15 let everyone create there, and upgrades keep it so: a function that the service put
there could run as the owner. It takes the owner of the schema, there a superuser."""


def statements(service: str = "", auditor: str = "") -> list[str]:
    """The SQL that gives these roles their rights and takes all others, to be run by the tables' owner.

    Raises:
        ConfigurationError: a name is none of a role, or both are the same.
    """
    if service == auditor:
        raise ConfigurationError(f"role {service!r}: service and auditor must be two roles")
    sql = [CLOSE_SCHEMA]
    if service:
        sql += [*_revoked(service), *service_grants(service)]
    if auditor:
        sql += [*_revoked(auditor), *auditor_grants(auditor)]
    return sql


def service_grants(role: str, tables: Collection[str] = SERVICE.keys()) -> Iterable[str]:
    """What gives the service its rights on these tables, and takes none."""
    yield _use_schema(role)
    for table, rights in SERVICE.items():
        if table in tables:
            yield f"GRANT {rights.privileges()} ON {table} TO {quoted(role)};"
    yield from (f"GRANT USAGE ON SEQUENCE {name} TO {quoted(role)};" for name in SEQUENCES)


def auditor_grants(role: str, tables: Collection[str] = AUDITOR) -> Iterable[str]:
    """The same for an auditor."""
    yield _use_schema(role)
    yield f"GRANT SELECT ON {', '.join(table for table in AUDITOR if table in tables)} TO {quoted(role)};"


def quoted(role: str) -> str:
    """A role's name as SQL takes it.

    Raises:
        ConfigurationError: it is none: PUBLIC is everyone.
    """
    if role.lower() in ("", "public", "none") or "\0" in role:
        raise ConfigurationError(f"role {role!r}: must be the name of a role, and not everyone")
    # a start on SQLite has no use for the dialect
    from sqlalchemy.dialects.postgresql.base import PGDialect

    return str(PGDialect().identifier_preparer.quote(role))  # type: ignore[no-untyped-call]


def _revoked(role: str) -> Iterable[str]:
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {quoted(role)};"
    yield f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {quoted(role)};"
    yield f"REVOKE CREATE ON SCHEMA public FROM {quoted(role)};"


def _use_schema(role: str) -> str:
    return f"GRANT USAGE ON SCHEMA public TO {quoted(role)};"
