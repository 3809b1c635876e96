"""Applies a form to a value that was opened (policy-files.md, "Forms and their parameters").

Total for every form the loader admits: a value that is not of the declared type is an IntegrityError, and no
message ever holds a value. What is hidden is hidden character by character; a value too short to hide
anything of is hidden whole.
"""

import struct
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any, Final

from vault.domain.errors import IntegrityError, unchained
from vault.domain.types import Attribute, Form, FormSpec, ValueType
from vault.domain.values import Value

_HIDDEN: Final = "*"
_DAY_MICROSECONDS: Final = 86_400_000_000
_INTEGERS: Final = frozenset({ValueType.INT64, ValueType.TIMESTAMP})
_WRONG_TYPE: Final = "the stored value is not of the declared type"
_Parameters = Mapping[str, Any]
Show = Callable[[Value, Callable[[bytes], bytes]], Value | None]
"""The value as a form shows it, given the value and what makes pseudonyms; see `apply_form`."""


def apply_form(
    attribute: Attribute, spec: FormSpec, value: Value, pseudonym: Callable[[bytes], bytes]
) -> Value | None:
    """The value as `spec` shows it; None for `exists`.

    `value` is what `decode_value` gives for the attribute's type. `pseudonym` maps the value's stored bytes
    to 32 bytes, under the key of the caller (and purpose, where the scope says so).

    Raises:
        IntegrityError: the value is not of the declared type, or the form does not fit it.
    """
    return form_of(attribute, spec)(value, pseudonym)


def form_of(attribute: Attribute, spec: FormSpec) -> Show:
    """`apply_form` of one attribute and form, for whoever shows many values: what does not depend on the
    value is looked up once. Never raises; the function given raises as `apply_form`."""
    kind, wanted = attribute.type, _PYTHON_TYPES[attribute.type]
    show = _shown_as(kind, spec)

    def checked(value: Value, pseudonym: Callable[[bytes], bytes]) -> Value | None:
        if type(value) is not wanted:
            raise IntegrityError(_WRONG_TYPE)
        return show(value, pseudonym)

    return _nothing if spec.form is Form.EXISTS else checked


def _shown_as(kind: ValueType, spec: FormSpec) -> Show:
    """What `form_of` does with a value of the declared type."""
    if spec.form is Form.CLEAR:
        return lambda value, _: value
    if spec.form is Form.PSEUDONYMISE:
        return lambda value, pseudonym: pseudonym(_stored_bytes(kind, value))
    for parameter in spec.parameters:
        form, shape = SHAPES.get(parameter, (None, None))
        if form is spec.form and shape is not None:
            show, parameters = shape, spec.parameters
            return lambda value, _: show(kind, parameters, value)
    return partial(_refuse, spec.form)


def _nothing(_: Value, __: Callable[[bytes], bytes]) -> None:
    """`exists` shows nothing of the value."""


def _refuse(form: Form, _: Value, __: Callable[[bytes], bytes]) -> Value | None:
    raise IntegrityError(f"the form {form.value} of this attribute has no known parameters")


def _stored_bytes(kind: ValueType, value: Value) -> bytes:
    """The bytes that domain/values.py stores for a decoded value; without its checks of today's limits,
    which an older value need not meet."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if kind is ValueType.BOOL:
        return b"\x01" if value else b"\x00"
    try:
        return struct.pack(">q" if kind in _INTEGERS else ">d", value)
    except struct.error:
        raise unchained(IntegrityError(_WRONG_TYPE)) from None


def _keep(text: str, first: int, last: int, fill: str) -> str:
    """`text` with all but the first and last characters replaced; whole when nothing would be hidden."""
    if len(text) <= first + last:
        return fill * len(text)
    head, tail = text[:first], text[len(text) - last :]
    # a combining mark without its letter would sit on the fill character and look like part of the mask
    while tail and unicodedata.combining(tail[0]):
        tail = tail[1:]
    return head + fill * (len(text) - len(head) - len(tail)) + tail


def _mask(_: ValueType, parameters: _Parameters, value: Value) -> str:
    return _keep(
        str(value), parameters.get("keep_first", 0), parameters.get("keep_last", 0), parameters["with"]
    )


def _mask_email(_: ValueType, __: _Parameters, value: Value) -> str:
    """`a***@e***.com`: one letter of each side at most, and only where it hides at least one more."""
    local, at, domain = str(value).partition("@")
    if not at or "@" in domain:
        return _HIDDEN * 3
    name, dot, top = domain.rpartition(".")
    shown = f"{_initial(name)}.{top}" if dot and name and top else _HIDDEN * 3
    return f"{_initial(local)}@{shown}"


def _initial(text: str) -> str:
    return (text[0] if len(text) > 1 else "") + _HIDDEN * 3


def _prefix(_: ValueType, parameters: _Parameters, value: Value) -> str:
    return _keep(str(value), parameters["prefix"], 0, _HIDDEN)


def _groups(_: ValueType, parameters: _Parameters, value: Value) -> str:
    groups: Mapping[str, tuple[str, ...]] = parameters["groups"]
    label = next((label for label, values in groups.items() if value in values), None)
    return str(parameters["other"]) if label is None else label


def _bands(_: ValueType, parameters: _Parameters, value: Value) -> str:
    """`<0`, `20000-40000` (the upper bound is outside), `>=80000`; bounds as the policy spells them."""
    bounds: tuple[str, ...] = parameters["bands"]
    place = bisect_right(_numbers(bounds), _exact(value)) - 1
    if place < 0:
        return f"<{bounds[0]}"
    return f">={bounds[place]}" if place == len(bounds) - 1 else f"{bounds[place]}-{bounds[place + 1]}"


@lru_cache(maxsize=1_024)
def _numbers(bounds: tuple[str, ...]) -> tuple[Decimal, ...]:
    return tuple(Decimal(bound) for bound in bounds)


def _width(_: ValueType, parameters: _Parameters, value: Value) -> str:
    """The band of the given width that starts at a multiple of it; the upper bound is outside."""
    text: str = parameters["width"]
    places = len(text.partition(".")[2])
    step = int(text.replace(".", ""))
    # a fraction: dividing a Decimal would round to the digits of its context
    scaled = Fraction(_exact(value)) * 10**places
    low = scaled // step * step
    return f"{_plain(low, places)}-{_plain(low + step, places)}"


def _plain(scaled: int, places: int) -> str:
    """`scaled` / 10**places as plain digits."""
    digits = str(abs(scaled)).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{text}" if scaled < 0 else text


def _exact(value: Value) -> Decimal:
    """The number as it is: Decimal takes integers, doubles and digits without rounding.

    Raises:
        IntegrityError: text that is no number, or a double that is not finite.
    """
    try:
        number = Decimal(value) if isinstance(value, str | int | float) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise IntegrityError(_WRONG_TYPE)
    return number


def _calendar(kind: ValueType, parameters: _Parameters, value: Value) -> str:
    """`1984`, `1980s` or `1984-05`."""
    year, month = _year_and_month(kind, value)
    if parameters["to"] == "month":
        return f"{_year(year)}-{month:02d}"
    return _year(year) if parameters["to"] == "year" else f"{_year(year // 10 * 10)}s"


def _year(year: int) -> str:
    return f"-{-year:04d}" if year < 0 else f"{year:04d}"


def _year_and_month(kind: ValueType, value: Value) -> tuple[int, int]:
    """Raises: IntegrityError: a date that is none."""
    if kind is ValueType.TIMESTAMP:
        return _civil(int(value) // _DAY_MICROSECONDS)
    year, _, rest = str(value).partition("-")
    month = rest[:2]
    if not (year.isascii() and year.isdecimal() and month.isascii() and month.isdecimal()):
        raise IntegrityError(_WRONG_TYPE)
    return int(year), int(month)


def _civil(days: int) -> tuple[int, int]:
    """Year and month of a day counted from 1970-01-01 (proleptic Gregorian calendar).

    Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days: datetime ends at the year
    9999, an int64 timestamp near 294,000.
    """
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return year_of_era + era * 400 + (month <= 2), month


SHAPES: Final[Mapping[str, tuple[Form, Callable[[ValueType, _Parameters, Value], str]]]] = {
    "style": (Form.MASK, _mask_email),
    "keep_first": (Form.MASK, _mask),
    "keep_last": (Form.MASK, _mask),
    "bands": (Form.GENERALISE, _bands),
    "width": (Form.GENERALISE, _width),
    "to": (Form.GENERALISE, _calendar),
    "prefix": (Form.GENERALISE, _prefix),
    "groups": (Form.GENERALISE, _groups),
}
_PYTHON_TYPES: Final[Mapping[ValueType, type]] = {
    ValueType.STRING: str,
    ValueType.INT64: int,
    ValueType.DECIMAL: str,
    ValueType.DOUBLE: float,
    ValueType.BOOL: bool,
    ValueType.DATE: str,
    ValueType.TIMESTAMP: int,
    ValueType.BYTES: bytes,
    ValueType.JSON: str,
}
