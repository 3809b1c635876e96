"""Parsers: from text to the value of a declared type, by tables. No reason ever holds the text itself."""

import base64
import binascii
import datetime
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from vault.cli.importing.mapping import Convert, NumberFormat
from vault.domain.types import Attribute, ValueType
from vault.domain.values import Value

Parser = Callable[[str], Value]
_ADJACENT: Final = re.compile(r"%[a-zA-Z]%[a-zA-Z]")
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_FIRST: Final = (datetime.datetime.min.replace(tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND
_LAST: Final = (datetime.datetime.max.replace(tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND
_PLAIN_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_MOST_DIGITS: Final = 60


class CellError(ValueError):
    """A cell does not become a value: what would be right, never what is there."""


def parser_of(convert: Convert, attribute: Attribute) -> Parser:
    """What reads the text of a cell. The parser raises CellError."""
    if convert.boolean is not None:
        return _boolean(convert.boolean)
    kind = attribute.type
    number = convert.number or NumberFormat()
    parsers: Mapping[ValueType, Callable[[], Parser]] = {
        ValueType.STRING: lambda: str,
        ValueType.JSON: lambda: str,
        ValueType.BOOL: lambda: _boolean({"true": True, "false": False}),
        ValueType.INT64: lambda: _integer(number),
        ValueType.DECIMAL: lambda: _decimal(number, attribute.scale),
        ValueType.DOUBLE: lambda: _double(number),
        ValueType.DATE: lambda: _date(convert.date or ("%Y-%m-%d",)),
        ValueType.TIMESTAMP: lambda: _timestamp(convert.timestamp or ("iso",)),
        ValueType.BYTES: lambda: _BYTES[convert.bytes or "base64"],
    }
    return parsers[kind]()


def _boolean(words: Mapping[str, bool]) -> Parser:
    expected = "must be one of " + ", ".join(words)

    def parse(text: str) -> Value:
        if text not in words:
            raise CellError(expected)
        return words[text]

    return parse


def _integer(layout: NumberFormat) -> Parser:
    plain = _plain(layout)

    def parse(text: str) -> Value:
        number = plain(text)
        if number != number.to_integral_value():
            raise CellError("must be a whole number")
        return int(number)

    return parse


def _decimal(layout: NumberFormat, scale: int) -> Parser:
    plain = _plain(layout)

    def parse(text: str) -> Value:
        digits = format(plain(text), "f")
        whole, _, fraction = digits.partition(".")
        # 12.500 fits a scale of 2, 12.505 does not: nothing is rounded on the way in.
        fraction = fraction[:scale] + fraction[scale:].rstrip("0")
        return f"{whole}.{fraction}" if fraction else whole

    return parse


def _double(layout: NumberFormat) -> Parser:
    plain = _plain(layout)
    return lambda text: float(plain(text))


def _plain(layout: NumberFormat) -> Callable[[str], Decimal]:
    """Reads a number as the file writes it."""
    group = re.escape(layout.group)
    grouped = re.compile(rf"[+-]?[0-9]{{1,3}}(?:{group}[0-9]{{3}})+(?:{re.escape(layout.point)}[0-9]+)?")
    expected = "must be a number" + (
        f" with {layout.point!r} before its fraction" if layout.point != "." else ""
    )

    def parse(text: str) -> Decimal:
        if layout.group and grouped.fullmatch(text):
            text = text.replace(layout.group, "")
        if layout.point != ".":
            # A point is no thousands separator unless the map says so.
            text = "?" if "." in text else text.replace(layout.point, ".")
        if not _PLAIN_NUMBER.fullmatch(text) or len(text) > _MOST_DIGITS:
            raise CellError(expected)
        digits = text.lstrip("+-")
        if not layout.leading_zeros and len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
            raise CellError(
                "has leading zeros: a code (declare a string), or say `number: {leading_zeros: true}`"
            )
        try:
            return Decimal(text)
        except InvalidOperation:
            raise CellError(expected) from None

    return parse


def _date(formats: tuple[str, ...]) -> Parser:
    expected = "must be a calendar date as " + " or ".join(formats)
    return lambda text: _moment(text, formats, expected).date().isoformat()


def _timestamp(formats: tuple[str, ...]) -> Parser:
    expected = "must be a moment as " + " or ".join(
        "ISO 8601 with its offset from UTC" if each == "iso" else each for each in formats
    )

    def parse(text: str) -> Value:
        if set(formats) & set(_UNIX):
            return _unix(text, formats, expected)
        moment = _moment(text, formats, expected)
        return (moment - _EPOCH) // _MICROSECOND

    return parse


_UNIX: Final[Mapping[str, int]] = {"unix": 1_000_000, "unix-ms": 1_000, "unix-us": 1}


def _unix(text: str, formats: tuple[str, ...], expected: str) -> int:
    scale = next(_UNIX[each] for each in formats if each in _UNIX)
    if not _PLAIN_NUMBER.fullmatch(text) or len(text) > _MOST_DIGITS:
        raise CellError(expected)
    microseconds = int(Decimal(text) * scale)
    if not _FIRST <= microseconds <= _LAST:
        raise CellError(expected)
    return microseconds


def _moment(text: str, formats: tuple[str, ...], expected: str) -> datetime.datetime:
    for form in formats:
        moment = _parsed(text, form)
        if moment is not None:
            return moment
    raise CellError(expected)


def _parsed(text: str, form: str) -> datetime.datetime | None:
    """The moment in `text`, or None. Without an offset in the format it is UTC."""
    try:
        if form == "iso":
            moment = datetime.datetime.fromisoformat(text)
            return None if moment.tzinfo is None else moment
        moment = datetime.datetime.strptime(text, form)  # noqa: DTZ007 - the zone is looked at below
    except (ValueError, OverflowError):
        return None
    if _ADJACENT.search(form) and moment.strftime(form).casefold() != text.casefold():
        # strptime takes 1937123 for %Y%m%d: without separators every digit must be there
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _base64(text: str) -> Value:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CellError("must be base64") from None


def _hex(text: str) -> Value:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise CellError("must be hexadecimal digits") from None


_BYTES: Final[Mapping[str, Parser]] = {
    "base64": _base64,
    "hex": _hex,
    "text": lambda text: text.encode("utf-8", "surrogatepass"),
}
