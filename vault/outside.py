"""The outside store that the settings name (consent.md, "Outside store")."""

from pathlib import Path

from vault.audit.outside import OutsideStore
from vault.audit.outside_folder import FolderStore
from vault.config import Settings
from vault.domain.errors import ConfigurationError


def open_outside(settings: Settings) -> OutsideStore:
    """The folder or bucket; nothing is made or connected yet.

    Raises:
        ConfigurationError: a setting, or a variable of the object store's provider, is missing or wrong; or
            object stores are not installed.
    """
    place = settings.outside
    if isinstance(place, Path):
        return FolderStore(place)
    try:
        from vault.audit.outside_buckets import open_bucket
        from vault.audit.outside_objects import ObjectStore
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise ConfigurationError(
            f"DATAVAULT_OUTSIDE_STORE: {place.scheme}:// needs the extra objects: pip install "
            "'.[server,objects]' in the source folder"
        ) from None
    return ObjectStore(open_bucket(place, _certificate(settings.outside_store_cacert)))


def _certificate(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise ConfigurationError(
            f"DATAVAULT_OUTSIDE_STORE_CACERT: {path} cannot be read: {error.strerror}"
        ) from None
