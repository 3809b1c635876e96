"""The bytes of answers of reads are those of the generated classes."""

from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from tests.support.service import SPIFFE
from vault.domain.types import Form, Reason, ValueType
from vault.server.convert import DENIAL_DETAILS, FORM_NUMBERS, REASON_NUMBERS, timestamp
from vault.server.wire import ResponseWriter, batch_error, batch_result, varint
from vault.v1 import data_service_pb2 as pb
from vault.v1 import values_pb2

TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
NAMES: Final = st.from_regex(r"[a-z][a-z0-9]{0,200}", fullmatch=True)
INT64: Final = st.integers(-(2**63), 2**63 - 1)
POSITIONS: Final = st.integers(0, 2**63 - 1)
VALUES: Final[dict[ValueType, st.SearchStrategy[Any]]] = {
    ValueType.STRING: TEXT,
    ValueType.DECIMAL: st.decimals(allow_nan=False, allow_infinity=False).map(str),
    ValueType.DATE: st.dates().map(str),
    ValueType.JSON: TEXT,
    ValueType.INT64: INT64,
    ValueType.TIMESTAMP: st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
    ValueType.DOUBLE: st.floats(allow_nan=False),
    ValueType.BOOL: st.booleans(),
    ValueType.BYTES: st.binary(max_size=300),
}
WRITER: Final = ResponseWriter()


@st.composite
def results(draw: st.DrawFn) -> tuple[bytes, pb.AttributeResult]:
    """A part of an answer as it is written, and as the generated class has it."""
    name, version = draw(NAMES), draw(POSITIONS)
    form = draw(st.sampled_from([None, *Form]))
    if form is None:
        reason = draw(st.sampled_from(Reason))
        denial = pb.Denial(reason=REASON_NUMBERS[reason], detail=DENIAL_DETAILS[reason])
        return WRITER.denied(name, reason), pb.AttributeResult(name=name, denial=denial)
    kind = draw(st.sampled_from(ValueType))
    expected = pb.AttributeResult(name=name, form=FORM_NUMBERS[form], version=version)
    value = draw(VALUES[kind]) if form is Form.CLEAR else draw(st.one_of(TEXT, st.binary(max_size=32)))
    if form is Form.EXISTS:
        value = None
    elif form is not Form.CLEAR:
        expected.value.MergeFrom(
            values_pb2.Value(string_value=value)
            if isinstance(value, str)
            else values_pb2.Value(bytes_value=value)
        )
    elif kind is ValueType.TIMESTAMP:
        expected.value.MergeFrom(values_pb2.Value(timestamp_value=timestamp(value)))
    else:
        expected.value.MergeFrom(values_pb2.Value(**{f"{kind.value}_value": value}))
    return WRITER.given(name, form, kind)(value, version), expected


@given(st.lists(results(), max_size=6), st.uuids().map(str), POSITIONS, st.binary(min_size=32, max_size=32))
def test_an_answer_is_what_the_generated_class_serialises(
    parts: list[tuple[bytes, pb.AttributeResult]], record: str, position: int, bundle: bytes
) -> None:
    """Byte for byte, whatever is given and denied; and it is no longer than the size it was held to."""
    expected = pb.ReadAttributesResponse(
        attributes=[result for _, result in parts],
        record=values_pb2.RecordRef(record_id=record, position=position),
        bundle_hash=bundle.hex(),
    )
    written = [part for part, _ in parts]
    answer = WRITER.finish(written, record, position, bundle.hex())
    assert answer == expected.SerializeToString(deterministic=True)
    assert len(batch_result(2**63 - 1, answer)) <= WRITER.size(written)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.binary(max_size=400)), max_size=5))
def test_a_batch_is_what_the_generated_class_serialises(answers: list[tuple[int, bytes]]) -> None:
    """Results of a batch, one after the other, are its message; errors among them."""
    expected, written = pb.BatchReadAttributesResponse(), b""
    for index, bundle in answers:
        answer = pb.ReadAttributesResponse(bundle_hash=bundle.hex())
        expected.results.add(index=index, answer=answer)
        written += batch_result(index, answer.SerializeToString())
        error = values_pb2.ItemError(code=5, message=SPIFFE)
        expected.results.add(index=index, error=error)
        written += batch_error(index, error)
    assert written == expected.SerializeToString(deterministic=True)


@given(INT64)
def test_a_varint_is_the_one_of_the_generated_class(number: int) -> None:
    """Negative numbers too, which take ten bytes."""
    whole = values_pb2.Value(int64_value=number).SerializeToString()
    assert b"\x10" + varint(number) == whole
