"""For every value of every type: forms are total, and show no more than they promise."""

import datetime
import itertools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from vault.domain.types import Attribute, Form, FormSpec, ValueType
from vault.domain.values import Value, decode_value, encode_value
from vault.policy.forms import SHAPES, apply_form
from vault.policy.formspecs import SHAPES as ADMITTED

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES: dict[ValueType, st.SearchStrategy[Value]] = {
    ValueType.STRING: TEXT,
    ValueType.INT64: st.integers(-(2**63), 2**63 - 1),
    ValueType.DECIMAL: st.decimals(-(10**20), 10**20, places=2).map(lambda number: f"{number:f}"),
    ValueType.DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
    ValueType.BOOL: st.booleans(),
    ValueType.DATE: st.dates().map(datetime.date.isoformat),
    ValueType.TIMESTAMP: st.integers(-(2**63), 2**63 - 1),
    ValueType.BYTES: st.binary(max_size=40),
    ValueType.JSON: st.just('{"a":[1,true,null]}'),
}
PARAMETERS: dict[str, st.SearchStrategy[dict[str, object]]] = {
    "style": st.just({"style": "email"}),
    "keep_first": st.builds(
        lambda first, last: {"keep_first": first, "keep_last": last, "with": "*"},
        st.integers(1, 8),
        st.integers(0, 8),
    ),
    "keep_last": st.integers(1, 8).map(lambda kept: {"keep_first": 0, "keep_last": kept, "with": "*"}),
    "bands": st.sets(st.integers(-(10**6), 10**6), min_size=1, max_size=8).map(
        lambda bounds: {"bands": tuple(map(str, sorted(bounds)))}
    ),
    "width": st.sampled_from(["1", "10", "0.25", "365"]).map(lambda width: {"width": width}),
    "to": st.sampled_from(["year", "decade", "month"]).map(lambda to: {"to": to}),
    "prefix": st.integers(1, 8).map(lambda kept: {"prefix": kept}),
    "groups": st.just({"groups": {"a": ("x",)}, "other": "rest"}),
    "scope": st.just({"scope": "caller"}),
}


def declared(kind: ValueType) -> Attribute:
    return Attribute("x", kind, 1, "pd:X", "contact", (), scale=2 if kind is ValueType.DECIMAL else 0)


@st.composite
def admitted(draw: st.DrawFn) -> tuple[Attribute, FormSpec, Value]:
    """A type, a form that the loader admits for it, and a value that was stored and read back."""
    form, parameter, _, fits = draw(st.sampled_from(ADMITTED))
    kind = draw(st.sampled_from(sorted(fits)))
    attribute = declared(kind)
    value = decode_value(kind, encode_value(attribute, draw(VALUES[kind])))
    return attribute, FormSpec(form, draw(PARAMETERS[parameter])), value


@given(admitted())
def test_every_admitted_form_answers_for_every_value(case: tuple[Attribute, FormSpec, Value]) -> None:
    """mask and generalise give text, pseudonymise what the keyed function gives."""
    attribute, spec, value = case
    answer = apply_form(attribute, spec, value, lambda data: b"p" * 32)
    assert answer == b"p" * 32 if spec.form is Form.PSEUDONYMISE else isinstance(answer, str)


@given(TEXT, st.integers(0, 8), st.integers(0, 8))
def test_a_mask_shows_only_its_ends(value: str, first: int, last: int) -> None:
    """At every place stands the value's own character, at the ends only, or the star."""
    parameters = {"keep_first": first, "keep_last": last, "with": "*"}
    spec = FormSpec(Form.MASK, parameters)
    answer = apply_form(declared(ValueType.STRING), spec, value, bytes)
    assert isinstance(answer, str)
    assert len(answer) == len(value)
    hidden = range(first, len(value) - last) if len(value) > first + last else range(len(value))
    assert all(answer[place] == "*" for place in hidden)
    assert all(shown in (own, "*") for shown, own in zip(answer, value, strict=True))


@given(TEXT)
def test_an_email_mask_shows_two_letters_and_the_top_domain(value: str) -> None:
    """Nothing else of the value gets through, whatever it is."""
    answer = apply_form(declared(ValueType.STRING), FormSpec(Form.MASK, {"style": "email"}), value, bytes)
    assert isinstance(answer, str)
    top = value.rpartition(".")[2]
    rest = answer.removesuffix("." + top) if "." in value else answer
    assert len(rest.replace("***", "").replace("@", "")) <= 2


@given(VALUES[ValueType.DECIMAL], PARAMETERS["bands"])
def test_a_value_lies_in_its_band(value: Value, parameters: dict[str, object]) -> None:
    """The band that is named holds the value, and only one does."""
    answer = apply_form(declared(ValueType.DECIMAL), FormSpec(Form.GENERALISE, parameters), value, bytes)
    bounds = [Fraction(bound) for bound in parameters["bands"]]  # type: ignore[attr-defined]
    number = Fraction(str(value))
    names = [f"<{bounds[0]}", *(f"{low}-{high}" for low, high in itertools.pairwise(bounds))]
    place = sum(number >= bound for bound in bounds)
    assert answer == [*names, f">={bounds[-1]}"][place]


def test_every_admitted_shape_can_be_applied() -> None:
    """The loader admits no parameters that apply_form does not know."""
    admitted_shapes = {
        (form, parameter) for form, parameter, _, _ in ADMITTED if form is not Form.PSEUDONYMISE
    }
    assert admitted_shapes == {(form, parameter) for parameter, (form, _) in SHAPES.items()}
