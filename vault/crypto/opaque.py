"""What every object that holds key bytes has in common, and the one key derivation used (RFC 5869)."""

from typing import NoReturn, SupportsIndex

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


class Opaque:
    """Shows nothing in repr, refuses pickle and copy, compares by identity.

    Python cannot promise to wipe memory; what can be kept is that key bytes never reach a log, a cache or
    another process by way of the language's own conveniences.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a key: it is neither pickled nor copied")


def derive(key: bytes, info: bytes) -> bytes:
    """32 bytes by HKDF-SHA-256 without salt (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)
