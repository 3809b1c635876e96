"""LP, the encoding that binds keys and ciphertexts to what they belong to (keys.md, "Ciphertext")."""

import struct
from functools import lru_cache

from vault.domain.errors import unchained

_LENGTH = struct.Struct(">I").pack
_INTEGER = struct.Struct(">Q").pack
_INTEGERS = struct.Struct(">IQIQ").pack


def lp(*parts: bytes) -> bytes:
    """LP of each part, concatenated: length as uint32 big-endian, then the bytes.

    No two different lists of parts have the same encoding.
    """
    return b"".join([_LENGTH(len(part)) + part for part in parts])


def integer(number: int) -> bytes:
    """8 bytes big-endian, for 0 <= number < 2**64.

    Raises:
        ValueError: out of range.
    """
    try:
        return _INTEGER(number)
    except struct.error:
        raise unchained(ValueError("not an unsigned 64-bit integer")) from None


def value_binding(tenant: str, subject: bytes, attribute: str, type_version: int, version: int) -> bytes:
    """LP of each of (tenant, subject id, attribute, type_version, value version).

    Equals `lp(...)` of the same parts: this runs for every attribute of every read, so what repeats is made
    once.

    Raises:
        UnicodeEncodeError: a lone surrogate in a name.
        struct.error: a version outside 0 .. 2**64 - 1.
    """
    return owner_binding(tenant, subject) + field_binding(attribute) + place_binding(type_version, version)


def owner_binding(tenant: str, subject: bytes) -> bytes:
    """The part of `value_binding` that all values of a subject share."""
    return _owner(tenant) + _LENGTH(len(subject)) + subject


@lru_cache(maxsize=1_024)
def _owner(tenant: str) -> bytes:
    return lp(tenant.encode())


@lru_cache(maxsize=4_096)
def field_binding(attribute: str) -> bytes:
    """The part of `value_binding` that an attribute has for every subject."""
    return lp(attribute.encode())


def place_binding(type_version: int, version: int) -> bytes:
    """The part of `value_binding` that says which value of the attribute it is."""
    return _INTEGERS(8, type_version, 8, version)
