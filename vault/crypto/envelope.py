"""The ciphertext format of attribute values (keys.md, "Ciphertext").

    magic "DV" 2 | format 1 | algorithm 1 | dek id 32 | nonce 12 | ciphertext | tag 16

AES-256-GCM (NIST SP 800-38D), nonce random. The associated data is the header (magic to nonce) and LP of
each of (tenant, subject id, attribute, type_version, value version), so a value that is moved to another
place does not open. AES-GCM does not commit to its key; the dek id, derived from the key, does.
"""

import struct
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.crypto.encoding import field_binding, lp, owner_binding, place_binding, value_binding
from vault.crypto.opaque import KEY_BYTES, Opaque, derive
from vault.domain.errors import IntegrityError, InvalidArgumentError, unchained
from vault.domain.protocols import Randomness
from vault.domain.types import KeyScope, ValueScope

CUSTOMER_NUMBER: Final = "$customer-number"
"""Reserved attribute: the bank's own customer number. Names in policy files never start with `$`."""
EVIDENCE: Final = "$evidence"
"""Reserved attribute: the sealed record of an erased subject's consent events."""

_START: Final = b"DV\x01\x01"
_ID_INFO: Final = b"datavault dek id v1"
_ID_END: Final = 36
_HEADER_END: Final = 48
_SHORTEST: Final = 64
_CHANGED: Final = "a ciphertext was changed, or belongs to another place"


class DataKey(Opaque):
    """One data encryption key. `id` is its 32-byte commitment.

    Raises:
        IntegrityError: the key is not 32 bytes.
    """

    __slots__ = ("_aead", "_prefix", "id")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise IntegrityError("a data key is not 32 bytes long")
        self._aead = AESGCM(raw)
        self.id: Final = derive(raw, _ID_INFO)
        self._prefix: Final = _START + self.id

    def seal(self, scope: ValueScope, plaintext: bytes, randomness: Randomness) -> bytes:
        """Encrypt `plaintext` as an envelope that opens at `scope` only.

        Raises:
            InvalidArgumentError: a name of the scope is not UTF-8 or a version is not unsigned 64-bit.
        """
        nonce = randomness.token(_HEADER_END - _ID_END)
        header = self._prefix + nonce
        try:
            data = header + value_binding(*scope)
        except (UnicodeEncodeError, struct.error):
            raise unchained(
                InvalidArgumentError.of("scope", "names are UTF-8, versions unsigned 64-bit")
            ) from None
        return header + self._aead.encrypt(nonce, plaintext, data)

    def open(self, scope: ValueScope, envelope: bytes) -> bytes:
        """The plaintext.

        Raises:
            IntegrityError: the envelope is malformed, sealed under another key or for another scope, or
                changed.
        """
        try:
            owner, field = owner_binding(scope.tenant, scope.subject), field_binding(scope.attribute)
        except UnicodeEncodeError:
            raise unchained(IntegrityError(_CHANGED)) from None
        return self.open_at(owner + field, scope.type_version, scope.version, envelope)

    def open_at(self, field: bytes, type_version: int, version: int, envelope: bytes) -> bytes:
        """As `open`, for whoever opens many values: `field` is `owner_binding` and `field_binding` of the
        scope.

        Raises:
            IntegrityError: as `open`.
        """
        header = envelope[:_HEADER_END]
        if header[:_ID_END] != self._prefix or len(envelope) < _SHORTEST:
            raise IntegrityError(_fault(envelope))
        try:
            data = header + field + place_binding(type_version, version)
            return self._aead.decrypt(header[_ID_END:], envelope[_HEADER_END:], data)
        except (InvalidTag, struct.error):
            raise unchained(IntegrityError(_CHANGED)) from None


def dek_id_of(envelope: bytes) -> bytes:
    """The 32-byte id of the key that sealed `envelope`.

    Raises:
        IntegrityError: too short, or not of this format and algorithm.
    """
    if len(envelope) < _SHORTEST or not envelope.startswith(_START):
        raise IntegrityError(_fault(envelope))
    return envelope[len(_START) : _ID_END]


def key_context(scope: KeyScope) -> bytes:
    """What a wrapped DEK is bound to: LP of each of (tenant, subject id, key class).

    Raises:
        InvalidArgumentError: a name of the scope is not UTF-8.
    """
    try:
        before, after = _around(scope.tenant, scope.key_class)
    except UnicodeEncodeError:
        raise unchained(InvalidArgumentError.of("scope", "names are UTF-8")) from None
    return b"".join((before, lp(scope.subject), after))


@lru_cache(maxsize=1_024)
def _around(tenant: str, key_class: str) -> tuple[bytes, bytes]:
    """What stands before and after the subject id: a bulk asks for thousands of one tenant and class."""
    return lp(tenant.encode()), lp(key_class.encode())


def _fault(envelope: bytes) -> str:
    if len(envelope) < _SHORTEST:
        return "a ciphertext is too short"
    if envelope[:2] != _START[:2]:
        return "a ciphertext does not begin as one"
    if envelope[2:4] != _START[2:4]:
        return "a ciphertext has an unknown format or algorithm"
    return "a ciphertext was sealed under another key"
