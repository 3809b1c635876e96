"""Words of the command line as values: moments, typed attribute values."""

import datetime
import json
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

_ASSIGNMENT: Final = re.compile(r"(?P<name>[a-z][a-z0-9-]*)(?::(?P<kind>[a-z0-9]*))?=(?P<text>.*)", re.DOTALL)
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhdy])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "y": 365 * 86_400}
_PLAIN_DECIMAL: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


if TYPE_CHECKING:
    _MomentType = click.ParamType[datetime.datetime]
else:
    _MomentType = click.ParamType  # generic since click 8.3 alone


class Moment(_MomentType):
    """ISO 8601 (a date is its first moment in UTC), or a duration: from now on, or until now."""

    name = "moment"

    def __init__(self, *, past: bool = False) -> None:
        self._sign = -1 if past else 1

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime.datetime:
        if isinstance(value, datetime.datetime):
            return value
        duration = _DURATION.fullmatch(value)
        try:
            if duration is not None:
                seconds = int(duration[1]) * _SECONDS[duration[2]]
                return datetime.datetime.now(datetime.UTC) + self._sign * datetime.timedelta(seconds=seconds)
            moment = datetime.datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(
                "a moment is 2027-06-30, 2027-06-30T12:00:00+01:00 or a duration such as 30d", param, ctx
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def assignments(words: Iterable[str]) -> dict[str, Any]:
    """Words as values of the client: `name=text`, `name:type=text`, `name:=json`, `name:type=@file`.

    A text that begins with @ is written with two of them.

    Raises:
        click.UsageError: names the attribute and what would be right, never the value.
    """
    values: dict[str, Any] = {}
    for place, word in enumerate(words, 1):
        match = _ASSIGNMENT.fullmatch(word)
        if match is None:
            raise click.UsageError(f"value {place}: write name=value, name:type=value or name:=json")
        name, text = match["name"], match["text"]
        kind = {None: "string", "": "json"}.get(match["kind"], match["kind"])
        if name in values:
            raise click.UsageError(f"{name}: is there twice")
        if kind not in _KINDS:
            raise click.UsageError(f"{name}: unknown type; one of " + ", ".join(_KINDS))
        try:
            values[name] = _KINDS[kind](_from_file(name, text) if text.startswith("@") else text)
        except (ValueError, InvalidOperation, OverflowError, RecursionError):
            raise click.UsageError(f"{name}: must be {_EXPECTED[kind]}") from None
    return values


def _from_file(name: str, text: str) -> str | bytes:
    if text.startswith("@@"):
        return text[1:]
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{name}: {text[1:]}: {error.strerror}") from None


def _text(given: str | bytes) -> str:
    return given.decode("utf-8") if isinstance(given, bytes) else given


def _bytes(given: str | bytes) -> bytes:
    if isinstance(given, bytes):
        return given
    raise ValueError("only from a file")


def _bool(given: str | bytes) -> bool:
    word = _text(given).lower()
    if word not in ("true", "false"):
        raise ValueError("neither true nor false")
    return word == "true"


def _decimal(given: str | bytes) -> Decimal:
    if not _PLAIN_DECIMAL.fullmatch(_text(given)):
        raise ValueError("not plain digits")
    return Decimal(_text(given))


def _moment(given: str | bytes) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(_text(given))
    if moment.tzinfo is None:
        raise ValueError("no offset")
    return moment


def _json(given: str | bytes) -> Any:
    from vault.client.values import Json

    json.loads(given)
    return Json(_text(given))


_KINDS: Final[Mapping[str, Callable[[str | bytes], Any]]] = {
    "string": _text,
    "int": lambda given: int(_text(given)),
    "decimal": _decimal,
    "double": lambda given: float(_text(given)),
    "bool": _bool,
    "date": lambda given: datetime.date.fromisoformat(_text(given)),
    "timestamp": _moment,
    "bytes": _bytes,
    "json": _json,
}
_EXPECTED: Final[Mapping[str, str]] = {
    "string": "UTF-8 text",
    "int": "an integer",
    "decimal": "a decimal as plain digits, e.g. 12.50",
    "double": "a number",
    "bool": "true or false",
    "date": "a date, e.g. 1984-05-30",
    "timestamp": "a moment with its offset from UTC, e.g. 2026-01-01T12:00:00Z",
    "bytes": "a file, e.g. name:bytes=@photo.jpg",
    "json": "a JSON document",
}
