"""The migrations as alembic knows them. `schema.py` asks it only where a database is not of this release."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData

from vault.domain.errors import ConfigurationError

_CONTRACT: Final = "contract"


@dataclass(frozen=True, slots=True)
class Pending:
    """A migration that the database does not have yet."""

    revision: str
    summary: str
    contracts: bool


def after(current: str, migrations: Path) -> tuple[Pending, ...] | None:
    """The migrations after a database's revision ('' is an empty one), oldest first; None where it is not
    among them."""
    scripts = list(ScriptDirectory.from_config(_config(migrations)).walk_revisions())
    if current and current not in {script.revision for script in scripts}:
        return None
    return tuple(_pending(one) for one in reversed(scripts) if one.revision > current)


def run(connection: Connection, metadatas: Sequence[MetaData], migrations: Path, target: str) -> None:
    """Run the migrations up to `target` in the connection's transaction.

    Raises:
        ConfigurationError: alembic finds no way there.
    """
    config = _config(migrations)
    config.attributes["connection"] = connection
    config.attributes["metadata"] = list(metadatas)
    try:
        command.upgrade(config, target)
    except CommandError as error:
        raise ConfigurationError(f"the schema cannot be upgraded: {error}") from None


def _pending(script: Script) -> Pending:
    summary = (script.doc or "").partition("\n")[0]
    return Pending(script.revision, summary, getattr(script.module, "kind", "") == _CONTRACT)


def _config(migrations: Path) -> Config:
    config = Config()
    # Config interpolates `%`
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    return config
