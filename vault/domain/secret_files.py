"""Files that hold a secret: read whole, and refused where others may read them."""

import os
from pathlib import Path
from typing import Final

from vault.domain.errors import ConfigurationError

_OTHERS: Final = 0o077
_OTHERS_OF_ROOTS: Final = 0o037
"""What a file of root's may not have for a service that is not root: it could not read it but for its group.
Kubernetes mounts secrets so, and systemd credentials; libpq draws the same line for `sslkey`."""
_MAX_BYTES: Final = 64 * 1024


def read_secret(path: Path, setting: str, *, private: bool = True) -> str:
    """The one word that the file holds, without the white space around it. `setting` names the file in
    errors; without `private` it may be readable by others.

    Raises:
        ConfigurationError: no such file, not one word of printable ASCII, or others may read it. The message
            gives the command that mends it, and nothing of the content.
    """
    try:
        with path.open("rb") as file:
            if private:
                _refuse(os.fstat(file.fileno()), path, setting)
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {error.strerror}") from None
    word = content.decode("ascii", "replace").strip()
    if not word:
        raise ConfigurationError(f"{setting}: {path} is empty")
    if len(content) > _MAX_BYTES or not (word.isascii() and word.isprintable()) or " " in word:
        raise ConfigurationError(f"{setting}: {path} must hold the secret alone, as one word of ASCII")
    return word


def refuse_loose(path: Path, setting: str) -> None:
    """For a file that another library reads.

    Raises:
        ConfigurationError: others may read it, or it cannot be looked at.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {error.strerror}") from None
    _refuse(status, path, setting)


def _refuse(status: os.stat_result, path: Path, setting: str) -> None:
    if os.name != "posix":
        return
    roots = status.st_uid == 0 and os.geteuid() != 0
    if status.st_mode & (_OTHERS_OF_ROOTS if roots else _OTHERS):
        raise ConfigurationError(f"{setting}: others may read {path}; run: chmod 600 {path}")
