"""Queries: who read what, when and why (audit.md, "What auditors get").

The integrated part is found through `audit_index`; the tail that is not integrated yet is read directly, in
the same snapshot, so a record is visible as soon as it is durable. Every record that is returned is parsed
and held against the filter again: a changed index can hide a record, never show another tenant's.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection

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
_TOKEN_BYTES: Final = 16
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
    """A record and its 0-based place in the log."""

    index: int
    record: Record


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and where to go on: '' at the end. A page may be short, even empty, before the end."""

    records: tuple[IndexedRecord, ...]
    next_page_token: str


def query(connection: Connection, log: int, filter: AuditQuery) -> Page:
    """One page of the records that match, in the order of the log.

    Pages that follow each other show each record once, whatever is appended meanwhile.

    Raises:
        InvalidArgumentError: no tenant, a page size out of bounds, or a token of another query.
        NotFoundError: there is no such log.
        IntegrityError: a record is not what was appended.
        AuditUnavailableError: the database did not answer.
    """
    _check(filter)
    with driver_errors(connection):
        heads = fetch(connection, _HEAD, (log,))
        if not heads:
            raise NotFoundError("there is no such audit log")
        size, integrated = heads[0]
        start = _parse_token(filter) if filter.page_token else (size if filter.newest_first else 0)
        return _page(_candidates(connection, log, filter, start, size, integrated), filter)


def _page(candidates: Iterator[tuple[int, bytes]], filter: AuditQuery) -> Page:
    records: list[IndexedRecord] = []
    size = 0
    for scanned, (index, entry) in enumerate(candidates):
        full = len(records) == filter.page_size or size + len(entry) > _PAGE_BYTES
        if full or scanned == _SCANNED_RECORDS:
            # newest first goes on below the token, oldest first at it
            return Page(tuple(records), _token(filter, index + 1 if filter.newest_first else index))
        record = _parse(index, entry)
        if _matches(record, filter):
            records.append(IndexedRecord(index, record))
            size += len(entry)
    return Page(tuple(records), "")


def _candidates(
    connection: Connection, log: int, filter: AuditQuery, start: int, size: int, integrated: int
) -> Iterator[tuple[int, bytes]]:
    """(index, entry) from `start` on, in the order asked for; those of the index already filtered by it."""
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
        return sha256(canonical_json(document)).digest()[: _TOKEN_BYTES - 8]
    except ValueError:
        raise InvalidArgumentError.of("filter", "must be Unicode text") from None


def _token(filter: AuditQuery, position: int) -> str:
    token = position.to_bytes(8, "big") + _fingerprint(filter)
    return base64.urlsafe_b64encode(token).decode("ascii").rstrip("=")


def _parse_token(filter: AuditQuery) -> int:
    try:
        token = base64.b64decode(filter.page_token.encode("ascii") + b"==", altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        token = b""
    position = int.from_bytes(token[:8], "big")
    if len(token) != _TOKEN_BYTES or token[8:] != _fingerprint(filter) or position >= 1 << 63:
        raise InvalidArgumentError.of("page_token", "is not a token of this query")
    return position
