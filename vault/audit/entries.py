"""The entries of a record with their text (record.py).

A module of its own: it is not compiled, because no compiled class may have a base class that is not
(docs/adr/0027).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vault.audit.record import AttributeEntry


class Entries(dict[str, "AttributeEntry"]):
    """The entries of a record with their `text`, for decisions that many records share. Not to be changed."""

    __slots__ = ("text",)

    def __init__(self, entries: "Mapping[str, AttributeEntry]", text: str) -> None:
        super().__init__(entries)
        self.text: Final = text
