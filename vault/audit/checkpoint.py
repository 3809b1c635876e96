"""Checkpoints: C2SP tlog-checkpoint v1.0.0 as a C2SP signed-note, Ed25519 (audit.md, "Checkpoint").

Decoding is strict, because a checkpoint that two readers understand differently proves nothing.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vault.audit.merkle import HASH_BYTES
from vault.domain.errors import ConfigurationError, IntegrityError
from vault.domain.protocols import Signer

ORIGIN: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
"""A schema-less URL that is a safe folder path too: no segment starts with a dot."""
ORIGIN_CHARACTERS: Final = 200
_RESERVED_SEGMENTS: Final = re.compile(r"(?:.*/)?(?:checkpoints|events)(?:/.*)?|.*/r[1-9][0-9]*")
"""Folders of the outside store, and the ends of successors' origins."""
_ED25519: Final = b"\x01"
_DASH: Final = "— "
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_VKEY: Final = re.compile(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_NOTE_CHARACTERS: Final = 64 * 1024
_SIGNATURES: Final = 100
_KEY_ID_BYTES: Final = 4
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint: `size` records, their 32-byte `root`, and the signed `note` verbatim."""

    origin: str
    size: int
    root: bytes
    note: str


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """What a `vkey` line says: the key's name (the origin), its id (4 bytes) and 32 raw public bytes."""

    name: str
    key_id: bytes
    public_key: bytes


class UnknownSignerError(IntegrityError):
    """No known key signed the checkpoint. `origin` is what it says of itself, so proves nothing."""

    def __init__(self, origin: str) -> None:
        super().__init__("the checkpoint is not signed by a known key of this log")
        self.origin = origin


def check_origin(origin: str) -> None:
    """
    Raises:
        ConfigurationError: not usable as an origin.
    """
    if (
        len(origin) > ORIGIN_CHARACTERS
        or not ORIGIN.fullmatch(origin)
        or _RESERVED_SEGMENTS.fullmatch(origin)
    ):
        raise ConfigurationError(
            "the audit origin must be a URL without schema, such as bank.example/datavault: at most "
            f"{ORIGIN_CHARACTERS} ASCII letters, digits, '.', '_', '~', '-' and '/', no part named "
            "'checkpoints' or 'events', none starting with a dot, the last not 'r' and a number"
        )


def key_id(name: str, public_key: bytes) -> bytes:
    """First 4 bytes of SHA-256(name | LF | 01 | public key) (signed-note, "Signatures")."""
    return sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:_KEY_ID_BYTES]


def vkey(origin: str, public_key: bytes) -> str:
    """The verifier key as text: `<origin>+<hex key id>+<base64 of 01 and the key>`."""
    return f"{origin}+{key_id(origin, public_key).hex()}+{_encode64(_ED25519 + public_key)}"


@lru_cache(maxsize=256)
def parse_vkey(text: str) -> VerifierKey:
    """
    Raises:
        ConfigurationError: not the verifier key of an Ed25519 key, or its id is not that of the key.
    """
    match = _VKEY.fullmatch(text)
    key = decode64(match[3]) if match else None
    if match is None or key is None or len(key) != 33 or key[:1] != _ED25519:
        raise ConfigurationError("a verifier key is written <origin>+<8 hex digits>+<base64 of 33 bytes>")
    found = VerifierKey(match[1], bytes.fromhex(match[2]), key[1:])
    if key_id(found.name, found.public_key) != found.key_id:
        raise ConfigurationError("the verifier key's id is not that of its key: was a character lost?")
    return found


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """The text that is signed: three lines, each ended by LF."""
    return f"{origin}\n{size}\n{_encode64(root)}\n"


def sign(origin: str, size: int, root: bytes, *signers: Signer) -> str:
    """The note, signed by each of `signers`, in this order.

    Raises:
        KeysUnavailableError: a signer does not answer.
        IntegrityError: what one gave is not a signature by its own public key.
    """
    text = checkpoint_text(origin, size, root)
    note, keys = f"{text}\n", []
    for signer in signers:
        signature, public_key = signer.sign(text.encode()), signer.public_key()
        note += f"{_DASH}{origin} {_encode64(key_id(origin, public_key) + signature)}\n"
        keys.append(vkey(origin, public_key))
    if signed_by(note, *keys)[1] != frozenset(keys):
        raise IntegrityError("the checkpoint is not signed by all its keys")
    return note


def parse_and_verify(note: str, *vkeys: str) -> Checkpoint:
    """The checkpoint of a note that at least one of the known keys signed. Others' signatures are ignored.

    Raises:
        UnknownSignerError: not signed by a known key whose name is the origin.
        IntegrityError: not a note, or a signature that claims to be by a known key is wrong.
        ConfigurationError: a vkey is not one.
    """
    return signed_by(note, *vkeys)[0]


def signed_by(note: str, *vkeys: str) -> tuple[Checkpoint, frozenset[str]]:
    """The checkpoint of a note, and which of the known keys signed it: one or more.

    Raises: as `parse_and_verify`.
    """
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or len(note) > _NOTE_CHARACTERS or _CONTROL.search(note):
        raise IntegrityError("the checkpoint is not a signed note")
    text += "\n"
    checkpoint = _parse_text(text, note)
    known = {(key.name, key.key_id): key for key in map(parse_vkey, vkeys) if key.name == checkpoint.origin}
    message = _utf8(text)
    verified = [_verify_line(line, message, known) for line in _signature_lines(signatures)]
    signed = frozenset(vkey(key.name, key.public_key) for key in verified if key is not None)
    if not signed:
        raise UnknownSignerError(checkpoint.origin)
    return checkpoint, signed


def decode64(text: str) -> bytes | None:
    """Base64, strictly: None where re-encoding gives other text (spare bits, line breaks)."""
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return decoded if _encode64(decoded) == text else None


def parse_decimal(text: str) -> int | None:
    """A 63-bit number without sign or leading zeros, else None."""
    if not _DECIMAL.fullmatch(text):
        return None
    number = int(text)
    return number if number < 1 << 63 else None


def _parse_text(text: str, note: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4:
        raise IntegrityError("a checkpoint has exactly three lines of text")
    origin, size, root = lines[0], parse_decimal(lines[1]), decode64(lines[2])
    if not origin or size is None or root is None or len(root) != HASH_BYTES:
        raise IntegrityError("the checkpoint's origin, size or root is not well formed")
    return Checkpoint(origin, size, root, note)


def _signature_lines(signatures: str) -> list[str]:
    lines = signatures.split("\n")
    if lines.pop() or not lines or len(lines) > _SIGNATURES:
        raise IntegrityError("the checkpoint's signature lines are not well formed")
    return lines


def _verify_line(
    line: str, message: bytes, known: dict[tuple[str, bytes], VerifierKey]
) -> VerifierKey | None:
    """The known key that signed; None for unknown keys, whose signatures must be ignored."""
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        decoded = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        decoded = b""
    if not line.startswith(_DASH) or not name or not space or len(decoded) <= _KEY_ID_BYTES:
        raise IntegrityError("the checkpoint's signature lines are not well formed")
    key = known.get((name, decoded[:_KEY_ID_BYTES]))
    if key is None:
        return None
    if decode64(encoded) is None or len(decoded) != _KEY_ID_BYTES + _SIGNATURE_BYTES:
        raise IntegrityError("the checkpoint's signature is not well formed")
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(decoded[_KEY_ID_BYTES:], message)
    except InvalidSignature:
        raise IntegrityError("the checkpoint's signature is wrong") from None
    return key


def _encode64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise IntegrityError("the checkpoint is not Unicode text") from None
