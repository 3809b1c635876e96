"""Fills request messages; what does not fit is refused by the name of its field, never by its value."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from vault.client.errors import InvalidArgument
from vault.client.words import Spelling, W

M = TypeVar("M", bound=Message)
_MAY_BE_LEFT_OUT: Final = frozenset(
    {"max_form", "expected_version", "valid_from", "expires_at", "start_time", "end_time"}
)


def message(kind: type[M], /, **values: Any) -> M:
    """The message with these fields; None leaves out one that may be left out.

    Raises:
        InvalidArgument: names the field that protobuf does not take.
    """
    given = {name: value for name, value in values.items() if value is not None}
    for name in values.keys() - given.keys() - _MAY_BE_LEFT_OUT:
        raise InvalidArgument.of(name, "must be given")
    try:
        return kind(**given)
    except (TypeError, ValueError):
        # protobuf's own text quotes the value
        raise _refused(kind, given) from None


def names(field: str, values: Iterable[str]) -> list[str]:
    """The names as a list. A string is refused: it would be taken for a list of letters."""
    if isinstance(values, str | bytes):
        raise InvalidArgument.of(field, "must be a list of names, not one string")
    try:
        return list(values)
    except TypeError:
        raise InvalidArgument.of(field, "must be a list of names") from None


def mapping(field: str, values: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The mapping, an empty one for None."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InvalidArgument.of(field, "must map attributes to what they get")
    return values


def word(field: str, spelling: Spelling[W], value: W | str | None) -> int | None:
    """The number of a word; None for None."""
    if value is None:
        return None
    number = spelling.number(value)
    if number is None:
        raise InvalidArgument.of(field, f"must be one of {spelling.choices()}")
    return number


def new_request_id(request_id: str | None) -> str:
    """The caller's own request id, or a new random one (UUIDv4)."""
    return str(uuid.uuid4()) if request_id is None else request_id


def _refused(kind: type[Message], values: Mapping[str, Any]) -> InvalidArgument:
    for name, value in values.items():
        try:
            kind(**{name: value})
        except (TypeError, ValueError):
            return InvalidArgument.of(name, "is of the wrong type, out of range or no valid Unicode text")
    return InvalidArgument.of("request", "cannot be built")
