"""Attribute values between Python and the wire.

| Python | wire | | Python | wire |
|---|---|---|---|---|
| str | string | | datetime.date | date |
| int | int64 | | datetime.datetime (aware) | timestamp |
| float | double | | decimal.Decimal | decimal |
| bool | bool | | dict, list, Json(text) | json |
| bytes | bytes | | | |

A JSON document comes back as a dict or list; one that is neither (a bare string or number) as `Json`, so
that what was read can be written again as it is.
"""

import datetime
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from vault.client.errors import Internal, InvalidArgument
from vault.v1.values_pb2 import Value


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON document as text, sent as it is; the server stores it in canonical form."""

    text: str = field(repr=False)


PyValue = (
    str
    | int
    | float
    | bool
    | bytes
    | datetime.date
    | datetime.datetime
    | Decimal
    | Json
    | dict[str, Any]
    | list[Any]
)

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
# google.protobuf.Timestamp: from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,37})(?:\.[0-9]{1,38})?")
_DIGITS_EACH_SIDE: Final = 38


class _UnfitError(Exception):
    """Says what would be right; the field is added where it is known."""


def to_value(field_path: str, value: object) -> Value:
    """The wire form of a Python value.

    Raises:
        InvalidArgument: a type the table above does not hold, or a value its wire type cannot carry. It names
            `field_path` and what would be right, never the value.
    """
    encode = next((encode for kind, encode in _ENCODERS if isinstance(value, kind)), None)
    if encode is None:
        raise InvalidArgument.of(
            field_path, f"no attribute can hold a {type(value).__name__}; see vault.client.values"
        )
    try:
        return encode(value)
    except _UnfitError as unfit:
        raise InvalidArgument.of(field_path, str(unfit)) from None
    except (TypeError, ValueError):
        raise InvalidArgument.of(field_path, f"no valid {type(value).__name__}") from None


def from_value(value: Value) -> PyValue:
    """The Python value of a wire value.

    Raises:
        Internal: the server sent a value of no kind, or one that is no value of its kind.
    """
    kind = value.WhichOneof("kind")
    if kind is None:
        raise Internal.unreadable("a value of a kind this client does not know")
    try:
        decoded: PyValue = _DECODERS.get(kind, _as_is)(getattr(value, kind))
    except (ValueError, ArithmeticError):
        raise Internal.unreadable(f"a {kind.removesuffix('_value')} that is none") from None
    return decoded


def to_timestamp(moment: datetime.datetime) -> Timestamp:
    """Exact to the microsecond. Raises _UnfitError for a naive one."""
    if moment.utcoffset() is None:
        raise _UnfitError("a datetime needs a time zone")
    microseconds = (moment - _EPOCH) // _MICROSECOND
    seconds, rest = divmod(microseconds, 1_000_000)
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise _UnfitError("must lie in the years 1 to 9999 of UTC")
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def from_timestamp(stamp: Timestamp) -> datetime.datetime:
    """In UTC; what is finer than a microsecond is cut off.

    Raises:
        OverflowError: outside of the years 1 to 9999.
    """
    return _EPOCH + datetime.timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1_000)


def optional_timestamp(field_path: str, moment: datetime.datetime | None) -> Timestamp | None:
    """The wire form of an optional moment. Raises InvalidArgument for what is no aware datetime."""
    if moment is None:
        return None
    if not isinstance(moment, datetime.datetime):
        raise InvalidArgument.of(field_path, "must be a datetime")
    try:
        return to_timestamp(moment)
    except _UnfitError as unfit:
        raise InvalidArgument.of(field_path, str(unfit)) from None


def read_timestamp(stamp: Timestamp) -> datetime.datetime:
    """As `from_timestamp`. Raises Internal for what no calendar holds."""
    try:
        return from_timestamp(stamp)
    except OverflowError:
        raise Internal.unreadable("a timestamp that is none") from None


def _int64(number: int) -> Value:
    if not -(2**63) <= number < 2**63:
        raise _UnfitError("must fit 64 bits; larger numbers need Decimal")
    return Value(int64_value=number)


def _double(number: float) -> Value:
    if not math.isfinite(number):
        raise _UnfitError("must be a finite number")
    return Value(double_value=number)


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise _UnfitError("must be text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _UnfitError("must be valid Unicode text") from None
    return text


def _decimal(number: Decimal) -> Value:
    # the exponent is looked at first: Decimal("1E+999999") as plain digits is a megabyte
    if not number.is_finite() or abs(number.adjusted()) > 2 * _DIGITS_EACH_SIDE:
        raise _UnfitError("must be finite, with at most 38 digits on each side of the point")
    plain = format(number, "f")
    if not _DECIMAL.fullmatch(plain):
        raise _UnfitError("must be finite, with at most 38 digits on each side of the point")
    return Value(decimal_value=plain)


def _json(document: object) -> Value:
    try:
        text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        if not _string_keys(document):
            raise _UnfitError("every key of a JSON object must be a string")
    except (TypeError, ValueError, RecursionError):
        raise _UnfitError("must hold only what JSON can") from None
    return Value(json_value=_text(text))


def _string_keys(document: object) -> bool:
    # json.dumps turns {1: ..} into {"1": ..} without a word
    if isinstance(document, dict):
        return all(isinstance(key, str) and _string_keys(value) for key, value in document.items())
    return all(map(_string_keys, document)) if isinstance(document, list | tuple) else True


def _read_decimal(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise ValueError
    return Decimal(text)


def _read_json(text: str) -> PyValue:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return Json(text)
    return document if isinstance(document, dict | list) else Json(text)


def _as_is(value: Any) -> Any:
    return value


# bool is an int and datetime is a date in Python: the narrower type comes first
_ENCODERS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], Value]], ...]] = (
    (bool, lambda value: Value(bool_value=value)),
    (int, _int64),
    (float, _double),
    (str, lambda value: Value(string_value=_text(value))),
    (bytes, lambda value: Value(bytes_value=value)),
    (datetime.datetime, lambda value: Value(timestamp_value=to_timestamp(value))),
    (datetime.date, lambda value: Value(date_value=value.isoformat())),
    (Decimal, _decimal),
    (Json, lambda value: Value(json_value=_text(value.text))),
    ((dict, list), _json),
)
_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "decimal_value": _read_decimal,
    "date_value": datetime.date.fromisoformat,
    "timestamp_value": from_timestamp,
    "json_value": _read_json,
}
