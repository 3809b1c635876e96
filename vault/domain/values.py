"""Typed attribute values and their stored bytes (keys.md, "Values by declared type").

In Python a value is: string, decimal, date, json -> str; int64, timestamp (microseconds since 1970 UTC) ->
int; double -> float; bool -> bool; bytes -> bytes.
"""

import datetime
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from vault.domain.canonical import canonical_json, parse_json
from vault.domain.errors import ValueFormatError, unchained
from vault.domain.types import Attribute, ValueType

Value = str | int | float | bool | bytes

_INT64: Final = struct.Struct(">q")
_DOUBLE: Final = struct.Struct(">d")
_DECIMAL: Final = re.compile(r"(-?)(0|[1-9][0-9]{0,37})(?:\.([0-9]{1,38}))?")


@dataclass(frozen=True, slots=True, repr=False)
class TypedValue:
    """A value as a caller sent it, with the type the caller says it has. repr shows nothing."""

    type: ValueType
    value: Value


def encode_value(attribute: Attribute, value: Value) -> bytes:
    """The stored bytes of a value, after checking it against the attribute's declaration.

    Raises:
        ValueFormatError: wrong type, not in canonical form, out of bounds, not matching, too large.
    """
    encoded = _ENCODERS[attribute.type](attribute, value)
    if attribute.max_bytes and len(encoded) > attribute.max_bytes:
        raise ValueFormatError(f"at most {attribute.max_bytes} bytes")
    _check_constraints(attribute, value)
    return encoded


def decode_value(kind: ValueType, data: bytes) -> Value:
    """The value that `encode_value` stored as `data`.

    Raises:
        ValueFormatError: `data` are not the bytes of any value of this type.
    """
    try:
        return _DECODERS[kind](data)
    except (struct.error, UnicodeDecodeError, IndexError):
        raise unchained(ValueFormatError(f"not the stored bytes of a {kind.value}")) from None


def _encode_string(_: Attribute, value: Value) -> bytes:
    if not isinstance(value, str):
        raise ValueFormatError("must be a string")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise unchained(ValueFormatError("must be valid Unicode text")) from None


def _encode_int64(_: Attribute, value: Value) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueFormatError("must be a 64-bit integer")
    try:
        return _INT64.pack(value)
    except struct.error:
        raise unchained(ValueFormatError("must be a 64-bit integer")) from None


def _encode_decimal(attribute: Attribute, value: Value) -> bytes:
    expected = f"must be a decimal as plain digits with at most {attribute.scale} after the point"
    match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueFormatError(expected)
    sign, whole, fraction = match[1], match[2], (match[3] or "")
    if len(fraction) > attribute.scale:
        raise ValueFormatError(expected)
    digits = whole + ("." + fraction.ljust(attribute.scale, "0") if attribute.scale else "")
    if not digits.strip("0."):
        sign = ""
    return (sign + digits).encode("ascii")


def _encode_double(_: Attribute, value: Value) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueFormatError("must be a number")
    try:
        number = float(value)
    except OverflowError:
        raise unchained(ValueFormatError("must fit a double")) from None
    if not math.isfinite(number):
        raise ValueFormatError("must be a finite number")
    return _DOUBLE.pack(number + 0.0 if number else 0.0)


def _encode_bool(_: Attribute, value: Value) -> bytes:
    if not isinstance(value, bool):
        raise ValueFormatError("must be true or false")
    return b"\x01" if value else b"\x00"


def _encode_date(_: Attribute, value: Value) -> bytes:
    expected = "must be a calendar date as YYYY-MM-DD"
    if not isinstance(value, str) or len(value) != 10 or not value.isascii():
        raise ValueFormatError(expected)
    try:
        if datetime.date.fromisoformat(value).isoformat() != value:
            raise ValueFormatError(expected)
    except ValueError:
        raise unchained(ValueFormatError(expected)) from None
    return value.encode("ascii")


def _encode_bytes(_: Attribute, value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueFormatError("must be bytes")
    return value


def _encode_json(_: Attribute, value: Value) -> bytes:
    if not isinstance(value, str):
        raise ValueFormatError("must be JSON text")
    try:
        return canonical_json(parse_json(value))
    except (ValueError, RecursionError):
        raise unchained(
            ValueFormatError("must be JSON without duplicate keys, NaN, infinities or lone surrogates")
        ) from None


def _decode_bool(data: bytes) -> bool:
    if data not in (b"\x00", b"\x01"):
        raise ValueFormatError("not the stored bytes of a bool")
    return data == b"\x01"


def _decode_text(data: bytes) -> str:
    return data.decode("utf-8")


def _decode_int64(data: bytes) -> int:
    number: int = _INT64.unpack(data)[0]
    return number


def _decode_double(data: bytes) -> float:
    number: float = _DOUBLE.unpack(data)[0]
    return number


_ENCODERS: Final[dict[ValueType, Callable[[Attribute, Value], bytes]]] = {
    ValueType.STRING: _encode_string,
    ValueType.INT64: _encode_int64,
    ValueType.DECIMAL: _encode_decimal,
    ValueType.DOUBLE: _encode_double,
    ValueType.BOOL: _encode_bool,
    ValueType.DATE: _encode_date,
    ValueType.TIMESTAMP: _encode_int64,
    ValueType.BYTES: _encode_bytes,
    ValueType.JSON: _encode_json,
}
_DECODERS: Final[dict[ValueType, Callable[[bytes], Value]]] = {
    ValueType.STRING: _decode_text,
    ValueType.INT64: _decode_int64,
    ValueType.DECIMAL: _decode_text,
    ValueType.DOUBLE: _decode_double,
    ValueType.BOOL: _decode_bool,
    ValueType.DATE: _decode_text,
    ValueType.TIMESTAMP: _decode_int64,
    ValueType.BYTES: bytes,
    ValueType.JSON: _decode_text,
}


def _check_constraints(attribute: Attribute, value: Value) -> None:
    if attribute.allowed and str(value) not in attribute.allowed:
        raise ValueFormatError("must be one of " + ", ".join(attribute.allowed))
    if attribute.pattern and not (isinstance(value, str) and re.fullmatch(attribute.pattern, value)):
        raise ValueFormatError(f"must match {attribute.pattern}")
    order = _ORDERS.get(attribute.type)
    if order is None:
        return
    if attribute.minimum and order(value) < order(attribute.minimum):
        raise ValueFormatError(f"must be at least {attribute.minimum}")
    if attribute.maximum and order(value) > order(attribute.maximum):
        raise ValueFormatError(f"must be at most {attribute.maximum}")


def _number(value: Value) -> Decimal:
    return Decimal(value if isinstance(value, int | float | str) else 0)


def _day(value: Value) -> Decimal:
    return Decimal(datetime.date.fromisoformat(str(value)).toordinal())


_ORDERS: Final[dict[ValueType, Callable[[Value], Decimal]]] = {
    ValueType.INT64: _number,
    ValueType.DECIMAL: _number,
    ValueType.DOUBLE: _number,
    ValueType.TIMESTAMP: _number,
    ValueType.DATE: _day,
}
