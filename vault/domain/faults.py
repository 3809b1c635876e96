"""What a model says of a value that does not fit, in the words of this product instead of pydantic's."""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

_WORDS: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "path_type": "must be a path",
}
_LONGEST: Final = 256
_PREFIX: Final = re.compile(r"(?:Input|Value|String|List|Tuple|Dictionary) should ")
_SUFFIX: Final = re.compile(r" after validation, not [0-9]+|, unable to .*")


def plain_fault(detail: Mapping[str, Any]) -> str:
    """What is wrong, from one of pydantic's error details (`type` and `msg`); never the value."""
    known = _WORDS.get(str(detail["type"]))
    if known is not None:
        return known
    message = str(detail["msg"]).removeprefix("Value error, ")
    return _SUFFIX.sub("", _PREFIX.sub("must ", message, count=1))


def did_you_mean(word: str, known: Collection[str]) -> str:
    """` (did you mean 'x'?)` with the known word nearest to `word`, '' where none is near."""
    near = difflib.get_close_matches(word[:_LONGEST], sorted(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
