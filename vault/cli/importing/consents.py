"""The file of `--consents`: one consent event per row, in columns (or JSON keys) with fixed names."""

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from vault.cli.importing.mapping import FileFormat
from vault.cli.importing.outcome import ConsentRecord, Fault, Ready, Rejected
from vault.cli.importing.readers import format_of, open_table
from vault.cli.importing.rows import ReadError, Row, Table
from vault.domain.limits import LIMITS
from vault.domain.types import ConsentState, Lane
from vault.policy.problems import suggest

_REQUIRED: Final = ("customer_number", "purpose", "state")
_DEFAULT_CHANNEL: Final = "import"
_STATES: Final = tuple(state.value for state in ConsentState if state.lane is not Lane.OBJECTION)


class _UnfitError(ValueError):
    """What would be right."""


def open_consents(path: Path) -> Table:
    """Open a consents file: CSV with commas, JSON lines or Parquet, by its name, in UTF-8.

    Raises:
        ReadError: not readable, or a column is missing or unknown.
    """
    table = open_table(path, FileFormat(format=format_of(path)))  # type: ignore[arg-type]
    known = {*_REQUIRED, *_DETAILS}
    for column in table.columns:
        if column not in known:
            near = suggest(column, known)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise ReadError(f"{path.name}: unknown column {column!r}{hint}")
    missing = [column for column in _REQUIRED if column not in table.columns]
    if missing:
        raise ReadError(f"{path.name}: column {missing[0]!r} is missing")
    return table


class ConsentPlan:
    """Converts rows of a consents file; `purposes` are those of the policies."""

    def __init__(self, purposes: Mapping[str, object]) -> None:
        self._purposes = purposes

    def convert(self, row: Row) -> Ready[ConsentRecord] | Rejected:
        """Every fault of the row, or the event to record."""
        if row.problem:
            return Rejected(row, (Fault("", row.problem),))
        cells = {column: (text or "").strip() for column, text in row.cells.items()}
        faults = [Fault(column, "is missing") for column in _REQUIRED if not cells.get(column)]
        faults += [Fault(column, "is not a column of consents") for column in cells if column not in _COLUMNS]
        if not faults:
            faults += self._wrong_words(cells)
        details: dict[str, Any] = {"channel": _DEFAULT_CHANNEL}
        for column, parse in _DETAILS.items():
            try:
                if cells.get(column):
                    details[column] = parse(cells[column])
            except _UnfitError as error:
                faults.append(Fault(column, str(error)))
        if faults:
            return Rejected(row, tuple(faults))
        return Ready(row, ConsentRecord(cells["customer_number"], cells["purpose"], cells["state"], details))

    def _wrong_words(self, cells: Mapping[str, str]) -> list[Fault]:
        faults = []
        if len(cells["customer_number"].encode("utf-8", "surrogatepass")) > LIMITS.customer_number_bytes:
            faults.append(
                Fault(
                    "customer_number", f"a customer number has at most {LIMITS.customer_number_bytes} bytes"
                )
            )
        if cells["purpose"] not in self._purposes:
            faults.append(Fault("purpose", "is not a purpose of purposes.yaml"))
        if cells["state"] not in _STATES:
            faults.append(Fault("state", "must be one of " + ", ".join(_STATES)))
        return faults


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
        raise _UnfitError("must be a version number")
    return int(text)


def _moment(text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _UnfitError("must be a moment as ISO 8601 with its offset from UTC, e.g. 2027-06-30T00:00:00Z")
    return moment


def _text(most: int) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if len(text) > most:
            raise _UnfitError(f"has at most {most} characters")
        return text

    return parse


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_DETAILS: Final[Mapping[str, Callable[[str], Any]]] = {
    "notice": _text(64),
    "notice_version": _version,
    "language": _text(64),
    "jurisdiction": _text(64),
    "channel": _text(64),
    "evidence": _text(256),
    "valid_from": _moment,
    "expires_at": _moment,
    "jurisdictions": _words,
}
_COLUMNS: Final = frozenset({*_REQUIRED, *_DETAILS})
