"""Values between Python and the wire, and the order of batches, for whatever comes."""

import datetime
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.client import Internal, InvalidArgument, Json, WriteItem
from vault.client.batch import read_batch, write_batch
from vault.client.values import from_value, to_value
from vault.v1 import data_service_pb2 as data
from vault.v1.values_pb2 import Value

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DIGITS = st.from_regex(r"-?(0|[1-9][0-9]{0,37})(\.[0-9]{1,38})?", fullmatch=True)
DECIMALS = DIGITS.filter(str.isascii).map(Decimal)
ZONES = st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(datetime.timezone)
MOMENTS = st.datetimes(
    datetime.datetime(1, 1, 3),  # noqa: DTZ001 - hypothesis adds the zone
    datetime.datetime(9999, 12, 29),  # noqa: DTZ001 - hypothesis adds the zone
    timezones=ZONES,
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
DOCUMENTS = st.recursive(
    st.lists(SCALARS) | st.dictionaries(TEXT, SCALARS),
    lambda inner: st.lists(inner | SCALARS) | st.dictionaries(TEXT, inner | SCALARS),
    max_leaves=10,
)
KINDS = {
    "string_value": TEXT,
    "int64_value": INT64,
    "double_value": st.floats(allow_nan=False, allow_infinity=False),
    "bool_value": st.booleans(),
    "bytes_value": st.binary(),
    "date_value": st.dates(),
    "timestamp_value": MOMENTS,
    "decimal_value": DECIMALS,
    "json_value": DOCUMENTS,
}


@given(st.sampled_from(sorted(KINDS)).flatmap(lambda kind: st.tuples(st.just(kind), KINDS[kind])))
def test_values_come_back_as_they_went(kind_and_value: tuple[str, Any]) -> None:
    """Each Python type travels as its own wire type and comes back equal and of the same type."""
    kind, value = kind_and_value
    wire = Value.FromString(to_value("v", value).SerializeToString())
    back = from_value(wire)
    assert wire.WhichOneof("kind") == kind
    assert (back, type(back)) == (value, type(value))


@given(DIGITS.filter(str.isascii))
def test_decimals_keep_their_digits(digits: str) -> None:
    """A decimal goes out in exactly the digits it was made of."""
    assert to_value("v", Decimal(digits)).decimal_value == digits


@given(st.decimals())
def test_any_decimal_goes_out_plain_or_is_refused(number: Decimal) -> None:
    """A decimal is either sent exactly, as plain digits, or refused."""
    try:
        sent = to_value("v", number).decimal_value
    except InvalidArgument:
        return
    assert set(sent) <= set("-.0123456789")
    assert Decimal(sent) == number


@given(TEXT)
def test_json_text_goes_out_as_it_is(text: str) -> None:
    """Json(text) is not changed by the client."""
    assert to_value("v", Json(text)).json_value == text


@given(SCALARS)
def test_a_bare_json_scalar_comes_back_as_json(scalar: Any) -> None:
    """What is no object or list comes back as Json, so that it can be written again as it is."""
    wire = Value(json_value=json.dumps(scalar))
    assert to_value("v", from_value(wire)) == wire


@given(st.builds(Value, decimal_value=st.text()) | st.builds(Value, date_value=st.text()))
def test_a_value_of_a_wrong_server_is_a_value_or_an_error(wire: Value) -> None:
    """Whatever a server sends as decimal or date is read or raises Internal, nothing else."""
    try:
        back = from_value(wire)
    except Internal:
        return
    assert isinstance(back, Decimal | datetime.date)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_a_timestamp_of_a_wrong_server_is_a_moment_or_an_error(seconds: int, nanos: int) -> None:
    """Whatever a server sends as timestamp is read or raises Internal, nothing else."""
    wire = Value()
    wire.timestamp_value.seconds, wire.timestamp_value.nanos = seconds, nanos
    try:
        back = from_value(wire)
    except Internal:
        return
    assert isinstance(back, datetime.datetime)


@pytest.mark.parametrize(
    "value",
    [
        None,
        object(),
        (1, 2),
        {1, 2},
        2**63,
        -(2**63) - 1,
        float("nan"),
        float("inf"),
        "\ud800",
        datetime.datetime(2026, 1, 1),  # noqa: DTZ001 - naive on purpose
        datetime.datetime(1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal("1E+38"),
        Decimal("1E-39"),
        Decimal("1E+999999"),
        {1: "a"},
        {"a": {None: 1}},
        {"a": float("nan")},
        {"a": object()},
        ["\ud800"],
        Json("\ud800"),
        Json(7),  # type: ignore[arg-type]  # what untyped callers can do
        data.WriteAttributesRequest(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_attribute_can_hold_is_refused_without_quoting_it(value: Any) -> None:
    """A value outside of the table raises InvalidArgument that names the field."""
    with pytest.raises(InvalidArgument) as caught:
        to_value("values.income", value)
    assert [violation.field for violation in caught.value.violations] == ["values.income"]


def test_a_document_in_a_circle_is_refused() -> None:
    """A list that holds itself raises InvalidArgument."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidArgument):
        to_value("v", circle)


def test_a_refusal_does_not_show_the_value() -> None:
    """The message of a refusal holds no part of the value."""
    with pytest.raises(InvalidArgument) as caught:
        to_value("v", "very-secret\ud800")
    assert "very-secret" not in repr(caught.value)


@given(
    st.lists(st.sampled_from(["good", "bad"]), max_size=30),
    st.integers(1, 7),
    st.lists(st.integers(0, 9), max_size=12),
)
def test_a_batch_answers_each_item_once_and_in_order(kinds: list[str], chunk: int, breaks: list[int]) -> None:
    """Whatever cannot be sent, and wherever streams break, every item has one result, in its place."""
    batch = read_batch(
        purpose="p", attributes=["a"], max_form=None, require_all=False, request_id="", chunk=chunk
    )
    source = iter([f"{place}" if kind == "good" else "\ud800" for place, kind in enumerate(kinds)])
    results: list[Any] = []
    cuts = iter(breaks)
    while not batch.done:
        batch.rewind()
        waiting: list[str] = []
        index, left = 0, next(cuts, 1_000)
        while not batch.done and left:
            while batch.wants_more:
                item = next(source, None)
                batch.close() if item is None else batch.offer(item)
            for message in batch.messages():
                assert 1 <= len(message.customer_numbers) <= chunk
                waiting += message.customer_numbers
            results += batch.refused()
            if batch.awaits_answer:
                answer = data.ReadAttributesResponse(bundle_hash=waiting.pop(0))
                result = data.BatchReadResult(index=index, answer=answer)
                results += batch.accept(data.BatchReadAttributesResponse(results=[result]))
                index, left = index + 1, left - 1
    assert [result.index for result in results] == list(range(len(kinds)))
    told = [result.disclosure.bundle_hash if result.disclosure else "refused" for result in results]
    assert told == [str(place) if kind == "good" else "refused" for place, kind in enumerate(kinds)]


@given(st.lists(st.integers(0, 3_000_000), max_size=8), st.integers(1, 5))
def test_no_chunk_of_writes_passes_the_message_limit(sizes: list[int], chunk: int) -> None:
    """However large the items are, no message passes 4 MiB, and none is left behind."""
    batch = write_batch(chunk=chunk)
    text = "x" * 3_000_000
    source = iter(sizes)
    sent = 0
    while not batch.done:
        while batch.wants_more:
            size = next(source, None)
            batch.close() if size is None else batch.offer(WriteItem("c", {"note": text[:size]}))
        for message in batch.messages():
            assert message.ByteSize() <= 4 * 1024 * 1024
            sent += len(message.items)
        while batch.awaits_answer:
            for _ in batch.accept(_next_answer(batch)):
                pass
    assert sent == len(sizes)


def _next_answer(batch: Any) -> data.BatchWriteAttributesResponse:
    result = data.BatchWriteResult(index=batch._next_index, answer=data.WriteAttributesResponse())
    return data.BatchWriteAttributesResponse(results=[result])
