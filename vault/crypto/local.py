"""The key provider of the embedded default: the keys are in a file beside the database.

It mirrors Transit's derived keys, so what holds with one provider holds with the other: a wrapped key opens
only with the context it was wrapped under. It protects against a stolen database, not against whoever can
read the file; that is why it warns at start and refuses production.

Wrapped text: `local:v<N>:` and base64 of nonce 12 | ciphertext | tag 16, AES-256-GCM under
HKDF-SHA-256(version N of the key, info = context), associated data the key's name.
"""

import base64
import binascii
import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.crypto.key_file import LocalKey, changing, read_keys, write_keys
from vault.crypto.names import SIGNING_KIND, STANDARD_CLASSES, WRAPPING_KIND, all_keys
from vault.crypto.opaque import KEY_BYTES, derive
from vault.domain.errors import (
    ConfigurationError,
    DatavaultError,
    IntegrityError,
    InvalidArgumentError,
    KeysUnavailableError,
    KeyTooOldError,
)
from vault.domain.protocols import KeyHealth, KeyInfo, PublicKey, Randomness, UnwrapItem, WrapItem

_NONCE_BYTES: Final = 12
_SHORTEST: Final = 28
_WRAPPED: Final = re.compile(rb"local:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+={0,2})")
_log = structlog.get_logger("datavault.crypto")


class LocalKeyProvider:
    """Implements `vault.domain.protocols.KeyProvider`. Thread-safe.

    Makes the file, with the standard keys, only with `create`: keys made beside values that others sealed
    would hide that these are lost.

    Raises:
        ConfigurationError: `environment` is `production`; the file is missing; others may read it; it is
            damaged.
    """

    name = "local"

    def __init__(self, path: Path, *, environment: str, randomness: Randomness, create: bool = False) -> None:
        if environment == "production":
            raise ConfigurationError(
                "local keys are for development: in production set DATAVAULT_KEYS=transit and VAULT_ADDR"
            )
        self._path = path
        self._randomness = randomness
        self._lock = threading.Lock()
        self._seen = _mark(path)
        self._keys = read_keys(path)
        if not self._keys:
            if not create:
                raise _no_keys(path)
            self._make(STANDARD_CLASSES)
        _log.warning("local_keys_in_use", advice="for development only: use Transit in production")

    def ensure_keys(self, classes: Iterable[str]) -> None:
        """Make every key of the product and of these key classes that is not there yet.

        Raises:
            ConfigurationError: a class cannot be one, the file is gone, or it cannot be written.
        """
        if not read_keys(self._path):
            raise _no_keys(self._path)
        self._make(classes)

    def _make(self, classes: Iterable[str]) -> None:
        wanted = all_keys(classes)
        with self._lock, changing(self._path):
            self._keys = read_keys(self._path)
            missing = {name: kind for name, kind in wanted.items() if name not in self._keys}
            if missing:
                made = {name: LocalKey(kind, (self._fresh(),)) for name, kind in missing.items()}
                write_keys(self._path, self._keys | made)
                self._keys = self._keys | made

    def wrap(self, key: str, items: Sequence[WrapItem]) -> list[bytes]:
        """See KeyProvider."""
        found = self._key(key, WRAPPING_KIND)
        return [self._seal(key, found, item.plaintext, item.context) for item in items]

    def unwrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        """See KeyProvider."""
        found = self._key(key, WRAPPING_KIND)
        return [_open(key, found, item) for item in items]

    def rewrap(self, key: str, items: Sequence[UnwrapItem]) -> list[bytes | DatavaultError]:
        """See KeyProvider."""
        found = self._key(key, WRAPPING_KIND)
        opened = [_open(key, found, item) for item in items]
        return [
            raw if isinstance(raw, DatavaultError) else self._seal(key, found, raw, item.context)
            for raw, item in zip(opened, items, strict=True)
        ]

    def rotate(self, key: str) -> int:
        """See KeyProvider."""
        return len(self._change(key, lambda found: found.rotated(self._fresh())).versions)

    def retire(self, key: str, before: int) -> None:
        """See KeyProvider."""

        def retired(found: LocalKey) -> LocalKey:
            if not 1 <= before <= len(found.versions):
                known = f"the key {key} has versions 1 to {len(found.versions)}"
                raise InvalidArgumentError.of("before", known)
            return found.retired(before)

        self._change(key, retired)

    def wrapped_version(self, wrapped: bytes) -> int:
        """See KeyProvider."""
        match = _WRAPPED.fullmatch(wrapped)
        if match is None:
            raise IntegrityError("a wrapped key is malformed")
        return int(match[1])

    def sign(self, key: str, message: bytes, version: int = 0) -> bytes:
        """See KeyProvider."""
        return self._signing_key(key, version)[1].sign(message)

    def public_key(self, key: str, version: int = 0) -> PublicKey:
        """See KeyProvider."""
        version, private = self._signing_key(key, version)
        return PublicKey(version, private.public_key().public_bytes_raw())

    def info(self, key: str) -> KeyInfo:
        """See KeyProvider."""
        found = self._key(key)
        return KeyInfo(key, len(found.versions), found.min_decryption_version, found.kind)

    def health(self) -> KeyHealth:
        """See KeyProvider."""
        return KeyHealth(True, "local key file, for development only")

    def close(self) -> None:
        """See KeyProvider. It holds nothing that needs releasing."""

    def _change(self, name: str, change: Callable[[LocalKey], LocalKey]) -> LocalKey:
        try:
            with self._lock, changing(self._path):
                # another process may have changed the file: what is written must hold its keys too
                keys = read_keys(self._path)
                if name not in keys:
                    raise _unknown(name)
                changed = keys[name] = change(keys[name])
                write_keys(self._path, keys)
                self._keys = keys
                return changed
        except ConfigurationError:
            # its message names the path, which is for the operator at start and not for callers
            raise KeysUnavailableError("the key file cannot be read or written") from None

    def _signing_key(self, name: str, version: int) -> tuple[int, Ed25519PrivateKey]:
        found = self._key(name, SIGNING_KIND)
        version = version or len(found.versions)
        if not found.min_decryption_version <= version <= len(found.versions):
            raise KeysUnavailableError(f"the key {name} has no version {version}")
        return version, Ed25519PrivateKey.from_private_bytes(found.versions[version - 1])

    def _held(self) -> dict[str, LocalKey]:
        """The keys, with what other processes of the service have changed since. While the file cannot be
        read, those read last: it would be a reason not to start, and is none to stop."""
        found = _mark(self._path)
        if found != self._seen:
            with self._lock, contextlib.suppress(ConfigurationError):
                self._keys = read_keys(self._path) or self._keys
            self._seen = found
        return self._keys

    def _key(self, name: str, kind: str = "") -> LocalKey:
        found = self._held().get(name)
        if found is None:
            raise _unknown(name)
        if kind and found.kind != kind:
            raise KeysUnavailableError(f"the key {name} is of kind {found.kind}, not {kind}")
        return found

    def _seal(self, name: str, key: LocalKey, plaintext: bytes, context: bytes) -> bytes:
        nonce = self._randomness.token(_NONCE_BYTES)
        sealed = nonce + AESGCM(derive(key.versions[-1], context)).encrypt(nonce, plaintext, name.encode())
        return b"local:v%d:%b" % (len(key.versions), base64.b64encode(sealed))

    def _fresh(self) -> bytes:
        return self._randomness.token(KEY_BYTES)


def _mark(path: Path) -> tuple[int, int, int]:
    """Differs when the file was replaced or written to."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _open(name: str, key: LocalKey, item: UnwrapItem) -> bytes | DatavaultError:
    match = _WRAPPED.fullmatch(item.wrapped)
    if match is None:
        return IntegrityError("a wrapped key is malformed")
    version = int(match[1])
    if version > len(key.versions):
        return IntegrityError("a wrapped key names a version that does not exist")
    if version < key.min_decryption_version:
        return KeyTooOldError("a wrapped key is of a version too old to be used")
    try:
        sealed = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return IntegrityError("a wrapped key is malformed")
    # base64 ignores spare bits: the same key in two spellings would be two cache entries
    if len(sealed) < _SHORTEST or base64.b64encode(sealed) != match[2]:
        return IntegrityError("a wrapped key is malformed")
    aead = AESGCM(derive(key.versions[version - 1], item.context))
    try:
        return aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
    except InvalidTag:
        return IntegrityError("a wrapped key was changed, or belongs to another place")


def _no_keys(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path}: there are no local keys: restore the file from its backup; for a new home "
        "`datavault keys init` or the first `datavault serve` makes it"
    )


def _unknown(key: str) -> KeysUnavailableError:
    return KeysUnavailableError(f"the key {key} does not exist: `datavault serve` makes it")
