"""Canonical JSON: the exact bytes of audit records and JSON values (audit.md, "Record").

The bytes are those of `json.dumps(o, sort_keys=True, separators=(",", ":"), ensure_ascii=True)`; this is
not RFC 8785. orjson writes the same bytes faster wherever the text is plain ASCII.
"""

import json
from typing import Any

import orjson

_DELETE = b"\x7f"


def canonical_json(document: object) -> bytes:
    """Encode `document` (str keys; str, int, float, bool, None, list, dict values).

    Raises:
        ValueError: NaN or infinity, a lone surrogate, a non-string key, or a type JSON does not have.
    """
    if _has_floats(document):
        return _slow(document)
    try:
        encoded = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONEncodeError, TypeError):
        return _slow(document)
    if encoded.isascii() and _DELETE not in encoded:
        return encoded
    return _slow(document)


def parse_json(text: str | bytes) -> Any:
    """Parse strictly.

    Raises:
        ValueError: not JSON, duplicate keys, NaN or infinity, lone surrogates.
    """
    document = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    _refuse_surrogates(json.dumps(document, ensure_ascii=False))
    return document


def _slow(document: object) -> bytes:
    try:
        _refuse_surrogates(json.dumps(document, ensure_ascii=False, allow_nan=False))
        return json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        ).encode("ascii")
    except TypeError as error:
        raise ValueError(str(error)) from None


def _has_floats(document: object) -> bool:
    # json.dumps and orjson write some floats differently (1e16 against 1e+16)
    if isinstance(document, dict):
        return any(_has_floats(value) for value in document.values())
    if isinstance(document, list | tuple):
        return any(_has_floats(value) for value in document)
    return isinstance(document, float)


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("lone surrogate in text") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key in JSON object")
    return result


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
