"""From the text of a cell to a typed value, by tables. No reason ever holds the text itself."""

import base64
import binascii
import datetime
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from vault.cli.importing.mapping import AttributeSource, Convert, NumberFormat
from vault.cli.importing.rows import Cells
from vault.domain.types import Attribute, ValueType
from vault.domain.values import Value, ValueFormatError, encode_value

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


_NUMBERS: Final = frozenset({ValueType.INT64, ValueType.DECIMAL, ValueType.DOUBLE})
_PARSES: Final[Mapping[str, frozenset[ValueType]]] = {
    "date": frozenset({ValueType.DATE}),
    "timestamp": frozenset({ValueType.TIMESTAMP}),
    "boolean": frozenset({ValueType.BOOL}),
    "number": _NUMBERS,
    "bytes": frozenset({ValueType.BYTES}),
}


def parsing_kinds(convert: Convert) -> dict[str, frozenset[ValueType]]:
    """The parsing conversions that are set, with the types each makes."""
    return {kind: types for kind, types in _PARSES.items() if getattr(convert, kind)}


class Cell:
    """Gives the value of one attribute for the cells of a row."""

    def __init__(self, source: AttributeSource, attribute: Attribute, *, trim: bool) -> None:
        self.attribute = attribute
        self.columns = source.columns
        self.omits_invalid = source.invalid == "omit"
        self._template = source.template
        self._missing = frozenset(source.missing)
        self._trim = trim and source.trim
        self._values = source.convert.values
        self._case = _CASES[source.convert.case]
        self._parse = _parser(source.convert, attribute)

    def value(self, cells: Cells, row: int) -> Value | None:
        """The value, or None when it is missing.

        Raises:
            CellError: what is there does not become a value of the declared type.
        """
        text = self._text(cells, row)
        if text is None:
            return None
        text = self._case(self._values.get(text, text))
        try:
            value = self._parse(text)
            encode_value(self.attribute, value)
        except ValueFormatError as error:
            raise CellError(str(error)) from None
        return value

    def _text(self, cells: Cells, row: int) -> str | None:
        if self._template is None:
            return self._clean(cells.get(self.columns[0]))
        parts = {column: self._clean(cells.get(column)) for column in self.columns}
        return self._template.fill(parts, row)

    def _clean(self, text: str | None) -> str | None:
        if text is None:
            return None
        text = text.strip() if self._trim else text
        return None if not text or text in self._missing else text


def _parser(convert: Convert, attribute: Attribute) -> Parser:
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


def _title(text: str) -> str:
    """`str.title` makes O'brien's of o'brien's; here only the letter after a blank or a hyphen grows."""
    return re.sub(r"(?:^|(?<=[\s-]))\w", lambda match: match[0].upper(), text.lower())


_BYTES: Final[Mapping[str, Parser]] = {
    "base64": _base64,
    "hex": _hex,
    "text": lambda text: text.encode("utf-8", "surrogatepass"),
}
_CASES: Final[Mapping[str, Callable[[str], str]]] = {
    "": lambda text: text,
    "lower": str.lower,
    "upper": str.upper,
    "title": _title,
}
