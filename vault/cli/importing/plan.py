"""A map compiled against the policies: from a row to what is sent, or to all that is wrong with it."""

import hashlib
from collections.abc import Mapping
from typing import Final

from vault.cli.importing.convert import Cell, CellError
from vault.cli.importing.mapping import ImportMap, Jurisdictions, Source
from vault.cli.importing.outcome import Fault, Ready, Record, Rejected
from vault.cli.importing.rows import Cells, Row
from vault.domain.limits import LIMITS
from vault.domain.types import Attribute
from vault.domain.values import Value

_DIGEST_BYTES: Final = 12


class Plan:
    """Converts the rows of one reading of one file, in order: it remembers the customers it has seen.

    `omitted` counts values left out because the map says `invalid: omit`, by (column, reason).
    """

    def __init__(
        self, import_map: ImportMap, attributes: Mapping[str, Attribute], *, last_wins: bool = False
    ) -> None:
        trim = import_map.file.trim
        self._cells = {
            name: Cell(source, attributes[name], trim=trim) for name, source in import_map.attributes.items()
        }
        self._customer = _CustomerNumber(import_map.customer_number, trim=trim, last_wins=last_wins)
        self._jurisdictions = import_map.jurisdictions
        self._known = import_map.columns | frozenset(import_map.ignore)
        self.omitted: dict[tuple[str, str], int] = {}

    def convert(self, row: Row) -> Ready[Record] | Rejected:
        """Every fault of the row, or what to send."""
        if row.problem:
            return Rejected(row, (Fault("", row.problem),))
        faults: list[Fault] = [
            Fault(column, "is neither mapped nor ignored")
            for column in row.cells
            if column not in self._known
        ]
        values = self._values(row, faults)
        jurisdictions = _jurisdictions(self._jurisdictions, row.cells, faults)
        number = self._customer.number(row, faults)
        if not faults and not values:
            faults.append(Fault("", "holds no value: every mapped column is missing"))
        if faults:
            return Rejected(row, tuple(faults))
        self._customer.remember(number, row)
        return Ready(row, Record(number, values, jurisdictions))

    def _values(self, row: Row, faults: list[Fault]) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for name, cell in self._cells.items():
            try:
                value = cell.value(row.cells, row.number)
            except CellError as error:
                fault = Fault(" + ".join(cell.columns), str(error))
                if cell.omits_invalid:
                    key = (fault.column, fault.reason)
                    self.omitted[key] = self.omitted.get(key, 0) + 1
                else:
                    faults.append(fault)
                continue
            if value is not None:
                values[name] = value
        return values


class _CustomerNumber:
    """Customer numbers, each once per file.

    A digest stands for each number seen, because millions of them would not fit otherwise: about
    120 bytes a row.
    """

    def __init__(self, source: Source, *, trim: bool, last_wins: bool) -> None:
        self._source = source
        self._trim = trim
        self._once = not last_wins and not (source.template and source.template.counts_rows)
        self._seen: dict[bytes, int] = {}

    def number(self, row: Row, faults: list[Fault]) -> str:
        column = " + ".join(self._source.columns)
        text = self._text(row)
        if not text:
            faults.append(Fault(column, "the customer number is missing"))
            return ""
        if len(text.encode("utf-8", "surrogatepass")) > LIMITS.customer_number_bytes:
            faults.append(
                Fault(column, f"a customer number has at most {LIMITS.customer_number_bytes} bytes")
            )
        elif self._once and (line := self._seen.get(_digest(text))) is not None:
            faults.append(Fault(column, f"the same customer number as in line {line}"))
        return text

    def remember(self, number: str, row: Row) -> None:
        if self._once:
            self._seen[_digest(number)] = row.line

    def _text(self, row: Row) -> str | None:
        if self._source.template is None:
            return self._clean(row.cells.get(self._source.column))
        parts = {column: self._clean(row.cells.get(column)) for column in self._source.columns}
        if None in parts.values():
            # Half a customer number is another customer's.
            return None
        return self._source.template.fill(parts, row.number)

    def _clean(self, text: str | None) -> str | None:
        return ((text.strip() if self._trim else text) or None) if text is not None else None


def _jurisdictions(source: Jurisdictions, cells: Cells, faults: list[Fault]) -> tuple[str, ...]:
    if source.always:
        return source.always
    words = [word.strip() for word in (cells.get(source.column) or "").split(source.separator)]
    found = tuple(dict.fromkeys(source.values.get(word, word) for word in words if word))
    if not found:
        faults.append(Fault(source.column, "the jurisdiction is missing"))
    elif not all(word.isascii() and word.replace("-", "").isalnum() and word.isupper() for word in found):
        faults.append(Fault(source.column, "must be jurisdictions such as EU, GB or US-CA"))
    return found


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
