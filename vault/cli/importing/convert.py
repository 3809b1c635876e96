"""From the text of a cell to the typed value of an attribute (docs/operations/import.md, "Conversions")."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from vault.cli.importing.mapping import AttributeSource, Convert
from vault.cli.importing.parsers import CellError, parser_of
from vault.cli.importing.rows import Cells
from vault.domain.errors import ValueFormatError
from vault.domain.types import Attribute, ValueType
from vault.domain.values import Value, encode_value

__all__ = ["Cell", "CellError", "parsing_kinds"]

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
        self._parse = parser_of(source.convert, attribute)

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


def _title(text: str) -> str:
    """`str.title` makes O'brien's of o'brien's; here only the letter after a blank or a hyphen grows."""
    return re.sub(r"(?:^|(?<=[\s-]))\w", lambda match: match[0].upper(), text.lower())


_CASES: Final[Mapping[str, Callable[[str], str]]] = {
    "": lambda text: text,
    "lower": str.lower,
    "upper": str.upper,
    "title": _title,
}
