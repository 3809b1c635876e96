"""The cached fragments write what json.dumps writes, and reading gives the record back."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vault.audit.record import AttributeEntry, Record, as_document, encode, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SOME = TEXT.filter(bool)
INT64 = st.integers(-(2**63), 2**63 - 1)
ENTRIES = st.builds(
    AttributeEntry, act=SOME, reason=TEXT, bases=st.lists(TEXT, max_size=3).map(tuple), rule=TEXT
)
RECORDS = st.builds(
    Record,
    id=SOME,
    time=INT64,
    tenant=SOME,
    caller=SOME,
    identity=SOME,
    action=SOME,
    subject=SOME,
    outcome=SOME,
    purpose=TEXT,
    attributes=st.dictionaries(TEXT, ENTRIES, max_size=3),
    max_form=TEXT,
    require_all=st.sampled_from([None, 0, 1]),
    policy=TEXT,
    consents=st.lists(TEXT, max_size=3).map(tuple),
    request=TEXT,
    detail=st.dictionaries(TEXT, TEXT | INT64, max_size=3),
)


def reference(record: Record) -> bytes:
    document: dict[str, Any] = as_document(record)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


@given(RECORDS)
def test_fragments_write_the_bytes_of_json_dumps(record: Record) -> None:
    """encode gives the bytes of json.dumps with sorted keys, for any text and integers."""
    assert encode(record) == reference(record)


@given(RECORDS)
def test_reading_gives_the_record_back(record: Record) -> None:
    """parse is the inverse of encode."""
    assert parse(encode(record)) == record
