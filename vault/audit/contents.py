"""Whether a stored record is canonical, stands under its own id, and is what the query index says.

Strict parsing costs twenty times a record's SHA-256. But records differ in few places: their ids, consents,
request, subject and time. So the rest of a record, its frame, goes through the strict parser once; where the
frame is known, the index row's subject, tenant and time and the id need only stand where they belong. The
event ids and the request id of such a record are not looked at again: its hash covers them.

    {"action":..,"attributes":..,"caller":..  ,"consents":..,"detail":..,"id":..
    \\________________ head ________________/
    ,"identity":..,"max_form":..,"outcome":..,"policy":..,"purpose":..  ,"request":..,"require_all":..
    \\_____________________________ middle ___________________________/
    ,"subject":..,"tenant":..,"time":..,"v":1}
    \\_________________ tail _________________/
"""

from typing import Any, Final

from vault.audit.indexing import IndexRow
from vault.audit.record import Record, parse
from vault.domain.errors import IntegrityError

_FRAMES: Final = 50_000
_CONSENTS: Final = b',"consents":['
_REQUEST: Final = b',"request":"'

Frame = tuple[bytes, bytes, str, str, str, str]


class Contents:
    """Checks records of one log; remembers the frames that the strict parser took."""

    def __init__(self) -> None:
        self._frames: set[Frame] = set()

    def problem(self, record_id: Any, entry: Any, row: IndexRow | None, integrated: bool) -> str | None:
        """What is wrong with a record, None when nothing is. `row` is that of the query index."""
        frame = _frame(record_id, entry, row) if row is not None and integrated else None
        if frame in self._frames:
            return None
        try:
            record = parse(entry if isinstance(entry, bytes) else b"")
        except IntegrityError:
            return "the record is not a canonical audit record"
        if record.id != record_id:
            return "the record stands under another id"
        if integrated and row != _row(record):
            return "the query index does not agree with the record"
        if frame is not None and len(self._frames) < _FRAMES:
            self._frames.add(frame)
        return None


def _frame(record_id: Any, entry: Any, row: IndexRow) -> Frame | None:
    """The frame of a record, None where it does not have the id, subject, tenant and time it should."""
    time, tenant, caller, subject, purpose, action, outcome = row
    try:
        marker = f',"id":"{record_id}"'.encode()
        tail = f',"subject":"{subject}","tenant":"{tenant}","time":{time},"v":1}}'.encode()
        place = entry.find(marker)
        if place < 0 or not entry.endswith(tail):
            return None
        head = entry.find(_CONSENTS, 0, place)
        after = place + len(marker)
        middle = entry.find(_REQUEST, after)
    except (UnicodeEncodeError, AttributeError, TypeError):
        return None
    return (
        entry[: place if head < 0 else head],
        entry[after : len(entry) - len(tail) if middle < 0 else middle],
        caller,
        purpose,
        action,
        outcome,
    )


def _row(record: Record) -> IndexRow:
    return (
        record.time,
        record.tenant,
        record.caller,
        record.subject,
        record.purpose,
        record.action,
        record.outcome,
    )
