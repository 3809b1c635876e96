"""The database that the settings name, apart from all else that `assembly` wires: a process that only reads
starts in half the time."""

from vault.config import Settings
from vault.domain.secret_files import read_secret
from vault.store.database import Database
from vault.store.opening import Objection, open_database


def database_of(settings: Settings, objection: Objection | None = None) -> Database:
    """The database that the settings name; nothing is connected yet. `objection` as PostgresDatabase has it.

    Raises:
        ConfigurationError: a setting is wrong, or others may read the password's file.
    """
    path = settings.database_password_file

    def password() -> str | None:
        return read_secret(path, "DATAVAULT_DATABASE_PASSWORD_FILE") if path else None

    password()
    return open_database(
        settings.database,
        password=password,
        production=settings.environment == "production",
        connections=settings.database_connections,
        objection=objection,
    )
