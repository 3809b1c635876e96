"""What is proven by a frame is exactly what the strict parser takes."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property.test_audit_record import INT64, RECORDS, SOME, TEXT
from vault.audit.contents import Contents
from vault.audit.record import Record, encode, parse
from vault.domain.errors import IntegrityError

Row = tuple[int, Any, Any]
PIECES = st.sampled_from(
    [
        '"',
        "\\",
        ",",
        '","',
        '":"',
        "]",
        '"],"detail":{},"id":"',
        '","request":"',
        "\n",
        "\x7f",
        "é",
        "\ud800",
        "",
        "0",
    ]
)
NEAR = st.lists(PIECES | st.text("ab01-", min_size=1, max_size=3), max_size=3).map("".join)
PLAIN = st.text("ab01-", min_size=1, max_size=4)


@st.composite
def alike(draw: st.DrawFn) -> tuple[Record, Record]:
    """A record, and one that has its frame."""
    first = replace(draw(RECORDS), id=draw(PLAIN), subject=draw(PLAIN), request=draw(st.just("") | PLAIN))
    first = replace(first, consents=tuple(draw(st.lists(PLAIN, max_size=2))))
    second = replace(
        first,
        id=draw(st.text("ab01-", min_size=len(first.id), max_size=len(first.id))),
        subject=draw(st.text("ab01-", min_size=len(first.subject), max_size=len(first.subject))),
    )
    return first, second


def index_row(record: Record) -> tuple[Any, ...]:
    return (
        record.time,
        record.tenant,
        record.caller,
        record.subject,
        record.purpose,
        record.action,
        record.outcome,
    )


def strictly(record_id: Any, entry: Any, row: tuple[Any, ...]) -> bool:
    """Whether a record is right, as the strict parser says it."""
    try:
        record = parse(entry if isinstance(entry, bytes) else b"")
    except IntegrityError:
        return False
    return record.id == record_id and row == index_row(record)


def accepted(contents: Contents, record_id: Any, entry: Any, row: tuple[Any, ...]) -> bool:
    return not list(contents.problems([(7, record_id, entry)], [(7, *row)], 8))


@given(alike(), st.data())
def test_changed_records_are_taken_when_the_strict_parser_takes_them(
    pair: tuple[Record, Record], data: st.DataObject
) -> None:
    """With its frame known, a record whose bytes, id or index row were changed in any way is accepted exactly
    when the strict parser accepts it."""
    first, second = pair
    contents = Contents()
    assert accepted(contents, first.id, encode(first), index_row(first))
    entry: Any = encode(second)
    record_id: Any = second.id
    row: Any = index_row(second)
    assert accepted(contents, record_id, entry, row)
    # bytes of any kind put in place of others, also where the id or a column says the same
    start = data.draw(st.integers(0, len(entry)))
    end = data.draw(st.integers(start, min(len(entry), start + 3)))
    piece = data.draw(NEAR)
    changed = entry[:start] + piece.encode("utf-8", "surrogatepass") + entry[end:]
    column = data.draw(st.integers(0, 6))
    values = st.sampled_from([None, b"x", 1, 1.0, "", str(second.time)]) | NEAR
    other = data.draw(st.sampled_from([row, (*row[:column], data.draw(values), *row[column + 1 :])]))
    other_id = data.draw(st.sampled_from([record_id, None, b"x", ""]) | NEAR)
    for candidate in ((other_id, entry, row), (record_id, changed, row), (record_id, entry, other)):
        assert accepted(contents, *candidate) == strictly(*candidate), candidate


def filled(length: int) -> st.SearchStrategy[str]:
    """Text of a length, such that JSON can hardly write it as it is."""
    return st.text('ab",\\\n\x7f', min_size=length, max_size=length)


@st.composite
def forged(draw: st.DrawFn, first: Record) -> tuple[Any, bytes, tuple[Any, ...]]:
    """Id, bytes and index row of a record made of another's frame by putting text where it has its own."""
    marks = {"id": "~1~", "subject": "~2~", "request": "~3~" if first.request else "", "time": first.time}
    consents = ("~4~",) if first.consents else ()
    text = encode(replace(first, **marks, consents=consents)).decode()
    both = len(first.id) + len(first.subject)
    id_length = draw(st.sampled_from([len(first.id), len(first.id), 0, both]))
    values = {
        "~1~": "a" * id_length,
        "~2~": "a" * (both - id_length),
        "~3~": "a" * len(first.request),
        "~4~": '","'.join(first.consents),
    }
    for mark in draw(st.sampled_from([(), ("~1~",), ("~2~",), ("~3~",), ("~4~",), ("~1~", "~2~")])):
        values[mark] = draw(filled(len(values[mark])))
    for mark, value in values.items():
        text = text.replace(mark, value, 1)
    time = draw(st.sampled_from([first.time, first.time, str(first.time), float(first.time)]))
    row = (time, *index_row(first)[1:])
    return values["~1~"], text.encode(), (*row[:3], values["~2~"], *row[4:])


@given(alike(), st.data())
def test_what_needs_escapes_is_not_proven_by_a_frame(
    pair: tuple[Record, Record], data: st.DataObject
) -> None:
    """Records made of a known frame with any text in them, which their index rows have too, are accepted,
    each by itself, exactly when the strict parser accepts them."""
    first, _ = pair
    contents = Contents()
    assert accepted(contents, first.id, encode(first), index_row(first))
    made = data.draw(st.lists(forged(first), min_size=1, max_size=3))
    rows = [(place, record_id, entry) for place, (record_id, entry, _) in enumerate(made)]
    indexed = [(place, *row) for place, (_, _, row) in enumerate(made)]
    found = {row[0] for row, _ in contents.problems(rows, indexed, len(rows))}
    assert found == {place for place, one in enumerate(made) if not strictly(*one)}


@given(RECORDS, st.lists(st.tuples(SOME, SOME, TEXT, INT64), max_size=4))
def test_records_of_one_frame_are_all_accepted(
    record: Record, others: list[tuple[str, str, str, int]]
) -> None:
    """Whatever is canonical is accepted, plain or not, next to others of its frame."""
    family = [record] + [replace(record, id=i, subject=s, request=r, time=time) for i, s, r, time in others]
    rows = [(place, item.id, encode(item)) for place, item in enumerate(family)]
    indexed = [(place, *index_row(item)) for place, item in enumerate(family)]
    contents = Contents()
    for _ in range(2):
        assert not list(contents.problems(rows, indexed, len(rows)))


def test_detail_that_holds_an_id_does_not_stand_for_it() -> None:
    """A record whose detail has an `id` lends no frame in which that one would be taken for its own."""
    first = Record("aa", 1, "t", "c", "i", "read", "s", "denied", detail={"a": "b", "id": "aa"})
    contents = Contents()
    assert accepted(contents, "aa", encode(first), index_row(first))
    second = encode(replace(first, detail={"a": "b", "id": "bb"}))
    assert not accepted(contents, "bb", second, index_row(first))


NOT_PLAIN = [
    ("id", 'a"'),
    ("id", "a\\"),
    ("id", "a\x7f"),
    ("subject", "s\n"),
    ("request", 'r"'),
    ("request", "r\x00"),
    ("consent", 'c"'),
    ("consent", "c\n"),
    ("consent", ',"'),
    ("consent", '",'),
]


@pytest.mark.parametrize(("place", "text"), NOT_PLAIN)
def test_text_that_json_would_escape_is_not_proven_by_a_frame(place: str, text: str) -> None:
    """Raw text of the right length, in a known frame, that JSON never writes so: not accepted, also next to
    others that would make it whole if all were looked at as one."""
    own = {"id": "ii", "subject": "ss", "request": "rr", "consent": "cc"}
    first = Record("ii", 1, "t", "c", "i", "read", "ss", "denied", request="rr", consents=("cc",))
    row = index_row(first)
    contents = Contents()
    assert accepted(contents, "ii", encode(first), row)
    forged = encode(first).replace(f'"{own[place]}"'.encode(), f'"{text}"'.encode())
    values = own | {place: text}
    forged_row = (*row[:3], values["subject"], *row[4:])
    rows = [(0, "ii", encode(first)), (1, values["id"], forged), (2, "ii", encode(first))]
    indexed = [(0, *row), (1, *forged_row), (2, *row)]
    assert [found[0] for found, _ in contents.problems(rows, indexed, 3)] == [1]
