"""The version of the database's schema: reading it, raising it, refusing one that is not understood."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData

from vault.domain.errors import ConfigurationError, StartRefusedError, StoreUnavailableError
from vault.store.database import Database

_MIGRATIONS: Final = Path(__file__).with_name("migrations")


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """`current` is the database's revision ('' when it is empty), `head` the one this release needs;
    `known` says whether this release has `current` among its revisions."""

    current: str
    head: str
    known: bool

    @property
    def up_to_date(self) -> bool:
        return self.current == self.head


def status(database: Database) -> SchemaStatus:
    """Where the database's schema stands.

    Raises:
        StoreUnavailableError: missing, locked, damaged.
    """
    with database.read() as connection:
        return _status(connection, ScriptDirectory.from_config(_config()))


def upgrade(database: Database, metadatas: Sequence[MetaData]) -> SchemaStatus:
    """Make the database if it is missing, and raise it to this release's schema, all or nothing.

    `metadatas` are those of all rooms that own tables.

    Raises:
        StartRefusedError: a newer release wrote the database.
        StoreUnavailableError: locked, full, read-only; nothing changed.
    """
    database.create()
    config = _config()
    with database.write() as connection:
        found = _status(connection, ScriptDirectory.from_config(config))
        _refuse_unknown(database, found)
        config.attributes["connection"] = connection
        config.attributes["metadata"] = list(metadatas)
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigurationError(f"{database.path}: the schema cannot be upgraded: {error}") from None
    return status(database)


def require_current(database: Database) -> None:
    """Refuse to start on a database that cannot be served.

    Raises:
        StartRefusedError: missing, of an older or newer schema, read-only, locked, damaged.
    """
    if not database.path.exists():
        raise StartRefusedError(
            f"{database.path} is missing: restore it, or start the service once:"
            " `datavault serve` makes a new one"
        )
    try:
        found = status(database)
        # a file that can only be read shows it here, not at the first customer's call
        database.probe()
    except StoreUnavailableError as error:
        raise StartRefusedError(
            f"{database.path}: {error.message}: check the file, its rights and its disk"
        ) from None
    _refuse_unknown(database, found)
    if not found.up_to_date:
        raise StartRefusedError(
            f"{database.path} has schema {found.current or 'none'}, this release needs {found.head}:"
            " start the service once: `datavault serve` upgrades it"
        )


def _refuse_unknown(database: Database, found: SchemaStatus) -> None:
    if not found.known:
        raise StartRefusedError(
            f"{database.path} has schema {found.current}, which this release does not know"
            f" (it knows up to {found.head}): run the newer release, or restore an older backup"
        )


def _status(connection: Connection, scripts: ScriptDirectory) -> SchemaStatus:
    heads = MigrationContext.configure(connection).get_current_heads()
    current = ",".join(sorted(heads))
    known = {script.revision for script in scripts.walk_revisions()}
    return SchemaStatus(current, scripts.get_current_head() or "", set(heads) <= known)


def _config() -> Config:
    config = Config()
    # Config interpolates `%`
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
