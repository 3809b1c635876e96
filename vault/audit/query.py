"""Queries: who read what, when and why (audit.md, "What auditors get").

The integrated part is found through `audit_index`; the tail that is not integrated yet is read directly, in
the same snapshot, so a record is visible as soon as it is durable. Every record that is returned is parsed
and held against the filter again: a changed index can hide a record, never show another tenant's.

A tenant's records may be in two logs: the one of all tenants until it was parted, and then the tenant's own.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection

from vault.audit.logbook import LogPlace
from vault.audit.record import Record, parse
from vault.audit.sql import driver_errors, fetch
from vault.domain.canonical import canonical_json
from vault.domain.errors import IntegrityError, InvalidArgumentError, NotFoundError
from vault.domain.limits import LIMITS

_HEAD: Final = "SELECT size, integrated FROM log WHERE log = ?"
_TAIL: Final = (
    'SELECT "index", entry FROM log_entry WHERE log = ? AND "index" >= ? AND "index" < ? '
    'ORDER BY "index" {order} LIMIT ?'
)
_INDEXED: Final = (
    'SELECT i."index", e.entry FROM audit_index i '
    'JOIN log_entry e ON e.log = i.log AND e."index" = i."index" '
    'WHERE i.log = ? AND i."index" >= ? AND i."index" < ?{conditions} ORDER BY i."index" {order} LIMIT ?'
)
_CHUNK_RECORDS: Final = 500
_SCANNED_RECORDS: Final = 20_000
"""Most records one page looks at: a filter that matches little answers short pages, not late ones."""
_PAGE_BYTES: Final = 3 * 1024 * 1024
"""Entries of one page together; what a message adds to 1,000 of them stays below the rest of its 4 MiB."""
_FINGERPRINT_BYTES: Final = 8
_PLACE_BYTES: Final = (4, 8)
"""Of the log's id and of the position, in a token."""
_CONDITIONS: Final = {
    "tenant": "i.tenant = ?",
    "since": "i.time >= ?",
    "until": "i.time < ?",
    "caller": "i.caller = ?",
    "subject": "i.subject = ?",
    "purpose": "i.purpose = ?",
    "outcome": "i.outcome = ?",
    "action": "i.action = ?",
}


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What to look for; '' and 0 mean any. All conditions must hold.

    `since` (inclusive) and `until` (exclusive) are microseconds since 1970 UTC; `subject` is the pseudonym;
    `attribute` matches records that decided it, allowed or denied.
    """

    tenant: str
    since: int = 0
    until: int = 0
    caller: str = ""
    subject: str = ""
    purpose: str = ""
    attribute: str = ""
    outcome: str = ""
    action: str = ""
    newest_first: bool = True
    page_size: int = 100
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class IndexedRecord:
    """A record, its 0-based place in its log, and the log's origin."""

    index: int
    record: Record
    origin: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and where to go on: '' at the end. A page may be short, even empty, before the end."""

    records: tuple[IndexedRecord, ...]
    next_page_token: str


def query(connection: Connection, logs: Sequence[LogPlace], filter: AuditQuery) -> Page:
    """One page of the records that match, in the order of `logs`, the oldest first, and of each.

    Pages that follow each other show each record once, whatever is appended meanwhile.

    Raises:
        InvalidArgumentError: no tenant, a page size out of bounds, or a token of another query.
        NotFoundError: there is no such log.
        IntegrityError: a record is not what was appended.
        AuditUnavailableError: the database did not answer.
    """
    _check(filter)
    with driver_errors(connection):
        return _page(_candidates(connection, logs, filter), filter)


def _page(candidates: Iterator[tuple[LogPlace, int, bytes]], filter: AuditQuery) -> Page:
    records: list[IndexedRecord] = []
    size = 0
    for scanned, (place, index, entry) in enumerate(candidates):
        full = len(records) == filter.page_size or size + len(entry) > _PAGE_BYTES
        if full or scanned == _SCANNED_RECORDS:
            # newest first goes on below the token, oldest first at it
            next_index = index + 1 if filter.newest_first else index
            return Page(tuple(records), _token(filter, place.log, next_index))
        record = _parse(index, entry)
        if _matches(record, filter):
            records.append(IndexedRecord(index, record, place.origin))
            size += len(entry)
    return Page(tuple(records), "")


def _candidates(
    connection: Connection, logs: Sequence[LogPlace], filter: AuditQuery
) -> Iterator[tuple[LogPlace, int, bytes]]:
    """(log, index, entry) from the token on, in the order asked for."""
    ordered = list(reversed(logs)) if filter.newest_first else list(logs)
    start: int | None = None
    if filter.page_token:
        log, start = _parse_token(filter)
        if log not in [place.log for place in logs]:
            raise _foreign_token()
        ordered = ordered[[place.log for place in ordered].index(log) :]
    for place in ordered:
        yield from ((place, *found) for found in _in_log(connection, place.log, filter, start))
        start = None


def _in_log(
    connection: Connection, log: int, filter: AuditQuery, start: int | None
) -> Iterator[tuple[int, bytes]]:
    """(index, entry) of one log from `start` on; those of the index already filtered by it."""
    heads = fetch(connection, _HEAD, (log,))
    if not heads:
        raise NotFoundError("there is no such audit log")
    size, integrated = heads[0]
    if start is None:
        start = size if filter.newest_first else 0
    names = [name for name in _CONDITIONS if getattr(filter, name)]
    conditions = "".join(f" AND {_CONDITIONS[name]}" for name in names)
    order = "DESC" if filter.newest_first else "ASC"
    indexed = _INDEXED.format(conditions=conditions, order=order)
    values = tuple(getattr(filter, name) for name in names)
    parts: list[tuple[str, tuple[Any, ...], int, int]] = [
        (indexed, values, 0, integrated),
        (_TAIL.format(order=order), (), integrated, size),
    ]
    for sql, parameters, low, high in reversed(parts) if filter.newest_first else parts:
        bounds = (low, min(high, start)) if filter.newest_first else (max(low, start), high)
        yield from _scan(connection, log, sql, parameters, *bounds, filter.newest_first)


def _scan(
    connection: Connection,
    log: int,
    sql: str,
    parameters: tuple[Any, ...],
    low: int,
    high: int,
    newest_first: bool,
) -> Iterator[tuple[int, bytes]]:
    while low < high:
        rows = fetch(connection, sql, (log, low, high, *parameters, _CHUNK_RECORDS))
        yield from ((index, bytes(entry)) for index, entry in rows)
        if len(rows) < _CHUNK_RECORDS:
            return
        low, high = (low, rows[-1][0]) if newest_first else (rows[-1][0] + 1, high)


def _parse(index: int, entry: bytes) -> Record:
    try:
        return parse(entry)
    except IntegrityError:
        raise IntegrityError(
            f"log entry {index} is not what was appended: run `datavault audit verify`"
        ) from None


def _matches(record: Record, filter: AuditQuery) -> bool:
    return (
        record.tenant == filter.tenant
        and filter.since <= record.time
        and (not filter.until or record.time < filter.until)
        and filter.caller in ("", record.caller)
        and filter.subject in ("", record.subject)
        and filter.purpose in ("", record.purpose)
        and filter.outcome in ("", record.outcome)
        and filter.action in ("", record.action)
        and (not filter.attribute or filter.attribute in record.attributes)
    )


def _check(filter: AuditQuery) -> None:
    if not filter.tenant:
        raise InvalidArgumentError.of("tenant", "is required")
    if not 1 <= filter.page_size <= LIMITS.audit_page_records:
        raise InvalidArgumentError.of("page_size", f"must be 1 to {LIMITS.audit_page_records}")
    for name in ("since", "until"):
        if not 0 <= getattr(filter, name) < 1 << 63:
            raise InvalidArgumentError.of(name, "must be microseconds since 1970, not negative")


# --- page tokens: where to go on, bound to the query so that a token of another one is noticed -------------


def _fingerprint(filter: AuditQuery) -> bytes:
    paging = ("page_size", "page_token")
    document = {item.name: getattr(filter, item.name) for item in fields(filter) if item.name not in paging}
    try:
        return sha256(canonical_json(document)).digest()[:_FINGERPRINT_BYTES]
    except ValueError:
        raise InvalidArgumentError.of("filter", "must be Unicode text") from None


def _token(filter: AuditQuery, log: int, position: int) -> str:
    numbers = zip((log, position), _PLACE_BYTES, strict=True)
    token = b"".join(number.to_bytes(width, "big") for number, width in numbers) + _fingerprint(filter)
    return base64.urlsafe_b64encode(token).decode("ascii").rstrip("=")


def _parse_token(filter: AuditQuery) -> tuple[int, int]:
    """The log, and the position in it."""
    padding = "=" * (-len(filter.page_token) % 4)
    try:
        token = base64.b64decode((filter.page_token + padding).encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        token = b""
    of_log, of_place = _PLACE_BYTES[0], sum(_PLACE_BYTES)
    log, position = int.from_bytes(token[:of_log], "big"), int.from_bytes(token[of_log:of_place], "big")
    whole = len(token) == of_place + _FINGERPRINT_BYTES and token[of_place:] == _fingerprint(filter)
    if not whole or position >= 1 << 63:
        raise _foreign_token()
    return log, position


def _foreign_token() -> InvalidArgumentError:
    return InvalidArgumentError.of("page_token", "is not a token of this query")
