"""The version of the database's schema: reading it, raising it, refusing one that is not understood.

Migrations expand or contract (docs/adr/0016-expand-and-contract.md). An *expanding* one adds what older
releases do not need to know: they go on serving, and may start on it. A *contracting* one takes away what
they still use: no server may run beside it, and it raises `serves_from` in `schema_info`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, MetaData, inspect, text

from vault.domain.errors import ConfigurationError, StartRefusedError, StoreUnavailableError
from vault.store import grantees
from vault.store.database import Database

if TYPE_CHECKING:
    from vault.store.revisions import Pending

MIGRATIONS: Final = Path(__file__).with_name("migrations")
UPGRADE_COMMAND: Final = "datavault db upgrade"
_VERSIONS: Final = text("SELECT version_num FROM alembic_version")
_SERVES_FROM: Final = text("SELECT value FROM schema_info WHERE name = 'serves_from'")
_UPGRADE_LOCK: Final = 0x64767601
# named with its schema and type: what somebody put into `public` must not fit better, and run as the owner
_CLAIM: Final = text("SELECT pg_catalog.pg_try_advisory_xact_lock(CAST(:key AS bigint))")
_PREPARE_POSTGRESQL: Final = (
    # rewriting a large table takes its time, but nobody shall wait long for a lock that it wants
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL lock_timeout = '3s'",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
)


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """`current` is the database's revision ('' when it is empty), `head` the one this release needs; `known`
    says whether this release has `current` among its revisions; `serves_from` is the oldest revision of a
    release that may serve it ('' where the database does not say)."""

    current: str
    head: str
    known: bool
    serves_from: str = ""
    pending: "tuple[Pending, ...]" = ()

    @property
    def up_to_date(self) -> bool:
        return self.current == self.head

    @property
    def servable(self) -> bool:
        """Whether this release may serve it: its own schema, or a newer one that says so."""
        return self.up_to_date or (not self.known and "" < self.serves_from <= self.head)


def status(database: Database, migrations: Path = MIGRATIONS) -> SchemaStatus:
    """Where the database's schema stands.

    Raises:
        StoreUnavailableError: missing, locked, damaged.
    """
    with database.read() as connection:
        return _status(connection, migrations)


def upgrade(
    database: Database,
    metadatas: Sequence[MetaData],
    *,
    contract: bool = True,
    migrations: Path = MIGRATIONS,
) -> SchemaStatus:
    """Make the database if it is missing, and raise it to this release's schema, all or nothing; without
    `contract` only up to the first migration that contracts.

    `metadatas` are those of all rooms that own tables.

    Raises:
        StartRefusedError: a newer release wrote the database, or another upgrade is under way.
        StoreUnavailableError: locked, full, read-only; nothing changed.
    """
    database.create()
    with database.write() as connection:
        _claim_upgrade(connection)
        found = _status(connection, migrations)
        _refuse_unknown(database, found)
        target = _target(found, contract=contract)
        if target != found.current:
            try:
                _raise(connection, metadatas, migrations, target)
            except ConfigurationError as error:
                raise ConfigurationError(f"{database.name}: {error.message}") from None
    return status(database, migrations)


def require_current(database: Database, migrations: Path = MIGRATIONS) -> None:
    """Refuse to start on a database that cannot be served.

    Raises:
        StartRefusedError: missing, of an older schema, of a newer one that this release may not serve,
            read-only, locked, damaged.
    """
    if not database.exists():
        raise StartRefusedError(
            f"{database.name} is missing: restore it, or start the service once:"
            " `datavault serve` makes a new one"
        )
    try:
        found = status(database, migrations)
        # a file that can only be read shows it here, not at the first customer's call
        database.probe()
    except StoreUnavailableError as error:
        raise StartRefusedError(f"{database.name}: {error.message}: {_what_to_check(database)}") from None
    if not found.servable:
        _refuse_unknown(database, found)
        raise StartRefusedError(
            f"{database.name} has schema {found.current or 'none'}, this release needs {found.head}:"
            f" {_how_to_upgrade(database)}"
        )


def _target(found: SchemaStatus, *, contract: bool) -> str:
    target = found.current
    for one in found.pending:
        if one.contracts and not contract:
            break
        target = one.revision
    return target


def _raise(connection: Connection, metadatas: Sequence[MetaData], migrations: Path, target: str) -> None:
    """Those who had rights get them on new tables too."""
    from vault.store import revisions

    if connection.dialect.name != "postgresql":
        revisions.run(connection, metadatas, migrations, target)
        return
    roles = grantees.remembered(connection)
    revisions.run(connection, metadatas, migrations, target)
    grantees.give_again(connection, roles)


def _claim_upgrade(connection: Connection) -> None:
    """
    Raises:
        StartRefusedError: another upgrade is under way.
    """
    if connection.dialect.name != "postgresql":
        return
    for statement in _PREPARE_POSTGRESQL:
        connection.exec_driver_sql(statement)
    taken = connection.execute(_CLAIM, {"key": _UPGRADE_LOCK})
    if not taken.scalar_one():
        raise StartRefusedError("another upgrade of this database is under way: wait for its end")


def _what_to_check(database: Database) -> str:
    if database.serves_alone:
        return "check the file, its rights and its disk"
    return "run `datavault db check`"


def _how_to_upgrade(database: Database) -> str:
    if database.serves_alone:
        return "start the service once: `datavault serve` upgrades it"
    return f"run `{UPGRADE_COMMAND}` as the owner of the tables"


def _refuse_unknown(database: Database, found: SchemaStatus) -> None:
    if not found.known:
        raise StartRefusedError(
            f"{database.name} has schema {found.current}, which this release does not know"
            f" (it knows up to {found.head}): run the newer release, or restore an older backup"
        )


def _status(connection: Connection, migrations: Path) -> SchemaStatus:
    current, head, serves_from = _current(connection), newest(migrations), ""
    if current and inspect(connection).has_table("schema_info"):
        serves_from = str(connection.execute(_SERVES_FROM).scalar_one_or_none() or "")
    if current == head:
        return SchemaStatus(current, head, known=True, serves_from=serves_from)
    # alembic is a tenth of the imports of a start, and most starts find nothing to raise
    from vault.store import revisions

    pending = revisions.after(current, migrations)
    return SchemaStatus(current, head, pending is not None, serves_from, pending or ())


def _current(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return ",".join(sorted(connection.execute(_VERSIONS).scalars()))


def newest(migrations: Path = MIGRATIONS) -> str:
    """The revision that a release needs: files of migrations are named by theirs (`r0003_what.py`)."""
    names = (path.name for path in (migrations / "versions").glob("r*.py"))
    return max(name[1:].partition("_")[0] for name in names)
