"""What `audit_index` holds of an entry: shared by the integrator, which fills it, and verification."""

from typing import Any, Final

import orjson

INDEX_COLUMNS: Final = "time, tenant, caller, subject, purpose, action, outcome"

IndexRow = tuple[int, str, str, str, str, str, str]
_TYPES: Final = (int, str, str, str, str, str, str)


def index_row(document: dict[str, Any]) -> IndexRow:
    """The columns of one record's JSON object, in the order of INDEX_COLUMNS. KeyError where one lacks."""
    return (
        document["time"],
        document["tenant"],
        document["caller"],
        document["subject"],
        document.get("purpose", ""),
        document["action"],
        document["outcome"],
    )


def index_row_of_entry(entry: bytes) -> IndexRow | None:
    """The same from an entry's bytes; None where they are not those of a record."""
    try:
        row = index_row(orjson.loads(entry))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    return row if tuple(map(type, row)) == _TYPES else None
