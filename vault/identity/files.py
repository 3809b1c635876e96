"""Files of the embedded authority: atomic, durable, and private where they hold a key."""

import os
import tempfile
from pathlib import Path
from typing import Final

from vault.domain.errors import ConfigurationError
from vault.domain.files import sync_folder

PRIVATE_FOLDER: Final = 0o700
PRIVATE_FILE: Final = 0o600
PUBLIC_FILE: Final = 0o644
FILE_BYTES: Final = 64 * 1024
_OTHERS: Final = 0o077


def make_private_folder(folder: Path) -> None:
    """Create `folder` with mode 0700 unless it is there, and refuse one that others can enter.

    Raises:
        ConfigurationError: cannot be created, no folder, or open to group or others.
    """
    make_folder(folder)
    require_private(folder, PRIVATE_FOLDER)


def make_folder(folder: Path) -> None:
    """Create `folder` with mode 0700, unless it is there with any mode.

    Raises:
        ConfigurationError: cannot be created, or is no folder.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error


def require_private(path: Path, mode: int) -> None:
    """Refuse a key file or its folder that group or others can reach.

    Raises:
        ConfigurationError: with the chmod command that mends it.
    """
    try:
        found = path.stat().st_mode & 0o777
    except OSError as error:
        raise _unusable(path, error) from error
    if os.name == "posix" and found & _OTHERS:
        raise ConfigurationError(
            f"{path} has mode {found:04o}, so others may have read the key. If they cannot have, run: "
            f"chmod {mode:o} {path}"
        )


def read_file(path: Path) -> bytes | None:
    """The content of `path`, None when there is no such file.

    Raises:
        ConfigurationError: unreadable or larger than 64 KiB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error
    if len(content) > FILE_BYTES:
        raise ConfigurationError(f"{path} is larger than {FILE_BYTES} bytes: it is no key or certificate")
    return content


def create_file(path: Path, content: bytes, mode: int) -> None:
    """Write `path` whole and durably unless it exists: of two processes the first one wins.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    try:
        temporary = _write_temporary(path, content, mode)
        try:
            # link, unlike rename, never replaces what another process put there meanwhile
            os.link(temporary, path)
        except FileExistsError:
            return
        finally:
            temporary.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise _unusable(path, error) from error


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Write `path` whole and durably, in place of what is there.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    try:
        temporary = _write_temporary(path, content, mode)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise _unusable(path, error) from error


def _write_temporary(path: Path, content: bytes, mode: int) -> Path:
    # mkstemp creates with mode 0600, so a key is never readable by others, not even for a moment
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be used: {error.strerror or type(error).__name__}")
