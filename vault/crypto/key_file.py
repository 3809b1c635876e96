"""The key file of the local provider: JSON, mode 0600, always replaced whole.

    {"format": 1, "keys": {"datavault-contact": {"kind": "aes256-gcm96", "min_decryption_version": 1,
                                                 "versions": ["<base64 of 32 bytes>", ...]}}}

Versions count from 1. Losing the file makes every value unreadable, so a change is on disk (fsync of file and
folder) before its keys are used, and two processes cannot change it at once.
"""

import base64
import binascii
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vault.crypto.names import SIGNING_KIND, WRAPPING_KIND
from vault.crypto.opaque import KEY_BYTES
from vault.domain.errors import ConfigurationError
from vault.domain.files import sync_folder

_FORMAT: Final = 1
_KINDS: Final = frozenset({WRAPPING_KIND, SIGNING_KIND})


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class LocalKey:
    """All versions of one key, oldest first: AES-256 keys or Ed25519 private keys, 32 raw bytes each."""

    kind: str
    versions: tuple[bytes, ...]
    min_decryption_version: int = 1

    def rotated(self, raw: bytes) -> "LocalKey":
        """With one more version."""
        return replace(self, versions=(*self.versions, raw))

    def retired(self, before: int) -> "LocalKey":
        """With versions below `before` opening no more. Never opens again what is retired."""
        return replace(self, min_decryption_version=max(before, self.min_decryption_version))


def read_keys(path: Path) -> dict[str, LocalKey]:
    """The keys of the file, by name; empty when there is no file.

    Raises:
        ConfigurationError: others than the owner may read it, or it is not a whole key file.
    """
    try:
        with path.open("rb") as file:
            _refuse_loose(path, os.fstat(file.fileno()).st_mode)
            document = json.load(file)
        if document["format"] != _FORMAT:
            raise ConfigurationError(f"{path}: a key file of another format; use the release that wrote it")
        return {name: _key(entry) for name, entry in document["keys"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(f"{path}: the key file cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        # the cause would show the text of the file
        raise ConfigurationError(f"{path}: not a key file, or damaged; restore it from its backup") from None


def write_keys(path: Path, keys: Mapping[str, LocalKey]) -> None:
    """Replace the file, durably.

    Raises:
        ConfigurationError: it cannot be written.
    """
    document = {
        "format": _FORMAT,
        "keys": {
            name: {
                "kind": key.kind,
                "min_decryption_version": key.min_decryption_version,
                "versions": [base64.b64encode(raw).decode("ascii") for raw in key.versions],
            }
            for name, key in sorted(keys.items())
        },
    }
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise ConfigurationError(f"{path}: the key file cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def changing(path: Path) -> Iterator[None]:
    """No other process changes the file meanwhile. Makes the folder (mode 0700) where it is missing.

    Raises:
        ConfigurationError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path}: the key file cannot be written: {error.strerror}") from None
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _key(entry: Mapping[str, object]) -> LocalKey:
    kind, versions, minimum = entry["kind"], entry["versions"], entry["min_decryption_version"]
    if kind not in _KINDS or not isinstance(versions, list) or not isinstance(minimum, int):
        raise ValueError("fields")
    raws = tuple(_raw(text) for text in versions)
    if not 1 <= minimum <= len(raws):
        raise ValueError("versions")
    return LocalKey(str(kind), raws, minimum)


def _raw(text: object) -> bytes:
    try:
        raw = base64.b64decode(str(text), validate=True)
    except binascii.Error:
        raise ValueError("base64") from None
    if len(raw) != KEY_BYTES:
        raise ValueError("length")
    return raw


def _refuse_loose(path: Path, mode: int) -> None:
    if os.name == "posix" and mode & 0o077:
        raise ConfigurationError(f"{path}: others may read the key file; run: chmod 600 {path}")


def _lock(descriptor: int) -> None:
    if os.name == "posix":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
