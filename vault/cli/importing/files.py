"""Files that only their owner can read, and digests of files."""

import hashlib
import os
from pathlib import Path

from vault.cli.importing.rows import ReadError
from vault.cli.importing.textlines import open_binary
from vault.domain.errors import ConfigurationError


def open_private(path: Path, flags: int) -> int:
    """Open for writing with mode 0600, also where the file was there with a wider one.

    Raises:
        ConfigurationError: the folder or file cannot be written, or the path is a symbolic link.
    """
    try:
        descriptor = os.open(
            path,
            os.O_RDWR | os.O_CREAT | flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0),
            0o600,
        )
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be written: {error.strerror} (--journal and --rejects name other places)"
        ) from None
    return descriptor


def sync_folder(path: Path) -> None:
    """Make the names in the folder of `path` durable."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Digest of a file in hex.

    Raises:
        ReadError: it cannot be read.
    """
    with open_binary(path) as stream:
        try:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ReadError(f"{path}: cannot be read: {error.strerror}") from None
