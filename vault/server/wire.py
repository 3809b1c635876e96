"""Answers of reads as their bytes on the wire, from fragments that were encoded once.

A ReadAttributesResponse built as a message and then serialised costs twice what all else costs that is done
with the values of a read. The bytes are those that the generated classes give (protobuf's canonical order: by
field number, defaults left out); a property test holds them to it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from vault.domain.errors import IntegrityError
from vault.domain.types import Form, Reason, ValueType
from vault.domain.values import Value
from vault.reads import Part
from vault.server.convert import DENIAL_DETAILS, FORM_NUMBERS, REASON_NUMBERS, timestamp
from vault.v1 import data_service_pb2, values_pb2

_VARINTS: Final = tuple(bytes([number]) for number in range(0x80))
# the tags of the messages, (field number << 3) | wire type
_ATTRIBUTES, _RECORD, _BUNDLE_HASH = b"\x0a", b"\x12", b"\x1a"
_NAME, _VALUE, _VERSION = b"\x0a", b"\x1a", b"\x20"
_RECORD_ID, _POSITION = b"\x0a", b"\x10"
_STRING_VALUE, _BYTES_VALUE = b"\x0a", b"\x42"
_RESULTS, _INDEX, _ANSWER = b"\x0a", b"\x08", b"\x12"
_FRAME_BYTES: Final = 144
"""Record id, position, bundle hash and what stands around an answer in a batch: less than this."""


class ResponseWriter:
    """Writes ReadAttributesResponse (the AnswerWriter of the disclosure pipeline)."""

    def given(self, name: str, form: Form, kind: ValueType) -> Part:
        """An AttributeResult with a value of the declared type where it is clear, else text or bytes."""
        lead = data_service_pb2.AttributeResult(name=name, form=FORM_NUMBERS[form]).SerializeToString()
        encode = _encoder(kind) if form is Form.CLEAR else _shown

        def part(value: Value | None, version: int) -> bytes:
            body = lead if value is None else lead + _sized(_VALUE, encode(value))
            return _sized(_ATTRIBUTES, body + _VERSION + varint(version) if version else body)

        return part

    def denied(self, name: str, reason: Reason) -> bytes:
        """An AttributeResult with a denial."""
        return _sized(_ATTRIBUTES, _sized(_NAME, name.encode()) + _denial(reason))

    def size(self, parts: Sequence[bytes]) -> int:
        """Bytes on the wire at most, also as a result of a batch."""
        return sum(map(len, parts)) + _FRAME_BYTES

    def finish(self, parts: Sequence[bytes], record_id: str, position: int, bundle_hash: str) -> bytes:
        """The ReadAttributesResponse."""
        record = _sized(_RECORD_ID, record_id.encode())
        if position:
            record += _POSITION + varint(position)
        return b"".join((*parts, _sized(_RECORD, record), _hash(bundle_hash)))


def batch_result(index: int, answer: bytes) -> bytes:
    """A result of a BatchReadAttributesResponse, which is nothing but its results."""
    body = _sized(_ANSWER, answer)
    return _sized(_RESULTS, _INDEX + varint(index) + body if index else body)


def batch_error(index: int, error: values_pb2.ItemError) -> bytes:
    """A result that failed."""
    result = data_service_pb2.BatchReadResult(index=index, error=error)
    return _sized(_RESULTS, result.SerializeToString())


def varint(number: int) -> bytes:
    """An int64 as protobuf writes it (Encoding, "Base 128 Varints"); negative ones in ten bytes."""
    if 0 <= number < 0x80:
        return _VARINTS[number]
    rest = number & 0xFFFF_FFFF_FFFF_FFFF
    encoded = bytearray()
    while rest >= 0x80:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _sized(tag: bytes, body: bytes) -> bytes:
    """A length-delimited field."""
    size = len(body)
    return tag + (_VARINTS[size] if size < 0x80 else varint(size)) + body


@lru_cache(maxsize=len(Reason))
def _denial(reason: Reason) -> bytes:
    """The denial of an AttributeResult."""
    result = data_service_pb2.AttributeResult()
    result.denial.reason = REASON_NUMBERS[reason]
    result.denial.detail = DENIAL_DETAILS[reason]
    return result.SerializeToString()


@lru_cache(maxsize=16)
def _hash(bundle_hash: str) -> bytes:
    return _sized(_BUNDLE_HASH, bundle_hash.encode())


def _shown(value: Value) -> bytes:
    """The Value of a form that is not clear."""
    if isinstance(value, str):
        return _sized(_STRING_VALUE, value.encode())
    if isinstance(value, bytes):
        return _sized(_BYTES_VALUE, value)
    raise IntegrityError("a form gave neither text nor bytes")


def _encoder(kind: ValueType) -> Callable[[Any], bytes]:
    """What writes the Value of a clear attribute. A member of a oneof is written also where it is its
    default."""
    tag = _TEXTS.get(kind)
    if tag is not None:
        return lambda value: _sized(tag, value.encode())
    if kind is ValueType.TIMESTAMP:
        return lambda value: values_pb2.Value(timestamp_value=timestamp(value)).SerializeToString()
    # by the generated class: an answer has few of these
    return lambda value: values_pb2.Value(**{f"{kind.value}_value": value}).SerializeToString()


_TEXTS: Final[Mapping[ValueType, bytes]] = {
    ValueType.STRING: _STRING_VALUE,
    ValueType.DECIMAL: b"\x1a",
    ValueType.DATE: b"\x32",
    ValueType.JSON: b"\x4a",
}
