"""Whether a stored record is canonical, stands under its own id, and is what the query index says.

Strict parsing costs twenty times a record's SHA-256. But records differ in few places: in their id, consents,
request, subject and time. So one goes through the strict parser, and lends the next ones its frame:

    {"action":..,"caller":..,"consents":[" C "],"id":" I ","identity":..,"request":" R ",.."subject":" S ",
    "tenant":..,"time": T ,"v":1}

A record is proven by its frame when frame, id and index row, with what stands in its own bytes at C and R,
give all of its bytes, and C, I, R and S are text that JSON writes as it is: then its bytes are those that
`encode` makes of a record which differs from the parsed one in these five fields alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from vault.audit.indexing import IndexRow
from vault.audit.record import Record, encode, parse
from vault.domain.errors import IntegrityError, RecordTooLargeError

_FRAMES: Final = 50_000
_FRAMES_OF_A_KIND: Final = 8
_PLAIN: Final = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\')
"""The characters that json.dumps writes as they are."""
_BETWEEN_CONSENTS: Final = '","'
_CONSENTS, _ID, _REQUEST, _SUBJECT = (f"~the frame's {name}~" for name in ("C", "I", "R", "S"))
_END: Final = ',"v":1}'

_SUBJECT_COLUMN: Final = 4
"""In rows of `indexed`."""

Finding = tuple[Any, str]
"""A row, and what is wrong with its record."""
Kind = tuple[int, str, str, str, str, str]
"""A record's length in bytes, tenant, caller, purpose, action and outcome."""


class Frame(NamedTuple):
    """The text of a record between what varies, and where in it C and R stand (nowhere: start is end)."""

    head: str
    consents_start: int
    consents_end: int
    before_id: str
    before_request: str
    request_start: int
    request_end: int
    before_subject: str
    before_time: str


class Contents:
    """Checks records of one log; remembers the frames of those that the strict parser took."""

    def __init__(self) -> None:
        self._frames: dict[Kind, list[Frame]] = {}
        self._count = 0

    def problems(self, rows: Sequence[Any], indexed: Sequence[Any], integrated: int) -> Iterator[Finding]:
        """What is wrong with records.

        `rows` are (index, record id, entry, ..) of consecutive records, `indexed` are (index, *IndexRow) of
        those below `integrated`.
        """
        doubtful = self._doubtful(rows, indexed)
        if not doubtful:
            return
        found = {row[0]: row[1:] for row in indexed}
        for place in doubtful:
            row = rows[place]
            what = self._problem(row[1], row[2], found.get(row[0]), row[0] < integrated)
            if what:
                yield row, what

    def _doubtful(self, rows: Sequence[Any], indexed: Sequence[Any]) -> Sequence[int]:
        """Places of the rows that no frame proves: all of them where anything is not of its type."""
        edge = len(indexed)
        if [row[0] for row in indexed] != [row[0] for row in rows[:edge]]:
            return range(len(rows))
        try:
            doubtful, consents, requests = self._compare(rows, indexed)
            ids, subjects = [row[1] for row in rows[:edge]], [row[_SUBJECT_COLUMN] for row in indexed]
            plain = all(ids) and all(subjects) and _plain(ids + subjects + requests) and _lists(consents)
        except (TypeError, ValueError, AttributeError):
            plain = False
        return [*doubtful, *range(edge, len(rows))] if plain else range(len(rows))

    def _compare(self, rows: Sequence[Any], indexed: Sequence[Any]) -> tuple[list[int], list[str], list[str]]:
        """Places of the rows that have no known frame; of the others what stands at C and at R."""
        doubtful, consents, requests = [], [], []
        frames = self._frames
        # unpacked here, and no call per record: this line and the next cost a third of all verification
        for place, ((_, record_id, entry, *_), row) in enumerate(zip(rows, indexed, strict=False)):
            _, time, tenant, caller, subject, purpose, action, outcome = row
            for frame in frames.get((len(entry), tenant, caller, purpose, action, outcome), ()):
                head, c_start, c_end, before_id, before_request, r_start, r_end, before_subject, tail = frame
                text = entry.decode("ascii")
                consent, request = text[c_start:c_end], text[r_start:r_end]
                if text == (
                    f"{head}{consent}{before_id}{record_id}{before_request}{request}{before_subject}"
                    f"{subject}{tail}{time:d}{_END}"
                ):
                    consents.append(consent)
                    requests.append(request)
                    break
            else:
                doubtful.append(place)
        return doubtful, consents, requests

    def _problem(self, record_id: Any, entry: Any, row: IndexRow | None, integrated: bool) -> str | None:
        try:
            record = parse(entry if isinstance(entry, bytes) else b"")
        except IntegrityError:
            return "the record is not a canonical audit record"
        if record.id != record_id:
            return "the record stands under another id"
        if not integrated:
            return None
        if row != _row(record):
            return "the query index does not agree with the record"
        self._remember(record, len(entry))
        return None

    def _remember(self, record: Record, length: int) -> None:
        kind = (length, record.tenant, record.caller, record.purpose, record.action, record.outcome)
        known = self._frames.get(kind, [])
        frame = frame_of(record) if self._count < _FRAMES and len(known) < _FRAMES_OF_A_KIND else None
        if frame is not None and frame not in known:
            self._frames[kind] = [*known, frame]
            self._count += 1


def frame_of(record: Record) -> Frame | None:
    """The frame of a record that `parse` gave; None where what varies is not all plain text."""
    if not _plain([*record.consents, record.id, record.request, record.subject]):
        return None
    request = _REQUEST if record.request else ""
    consents = (_CONSENTS,) if record.consents else ()
    twin = replace(record, consents=consents, id=_ID, request=request, subject=_SUBJECT, time=0)
    try:
        text = encode(twin).decode("ascii")
    except RecordTooLargeError:
        return None
    if any(text.count(mark) != 1 for mark in (*consents, _ID, request or _ID, _SUBJECT)):
        return None
    head, _, rest = text.partition(_CONSENTS) if consents else ("", "", text)
    before_id, _, rest = rest.partition(_ID)
    before_request, _, rest = rest.partition(_REQUEST) if request else ("", "", rest)
    before_subject, _, rest = rest.partition(_SUBJECT)
    start = len(head)
    end = start + len(_BETWEEN_CONSENTS.join(record.consents))
    at = end + len(before_id) + len(record.id) + len(before_request)
    return Frame(
        head,
        start,
        end,
        before_id,
        before_request,
        at,
        at + len(record.request),
        before_subject,
        rest.removesuffix(f"0{_END}"),
    )


def _plain(texts: list[str]) -> bool:
    """Whether JSON writes all of them as they are."""
    joined = "".join(texts)
    return joined.isascii() and not joined.encode("ascii").translate(None, _PLAIN)


def _lists(texts: list[str]) -> bool:
    """Whether each is what JSON writes, between the outer quotes, for a list of such texts."""
    joined = "\n".join(texts)
    lines = joined.replace(_BETWEEN_CONSENTS, "").split("\n")
    return _plain(lines) and len(lines) == max(1, len(texts))


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
