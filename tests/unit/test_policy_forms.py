"""What each form shows of a value (policy-files.md, "Forms and their parameters")."""

import datetime

import pytest

from tests.support.policy import edited, problems_of
from vault.domain.errors import IntegrityError
from vault.domain.types import Attribute, Form, FormSpec, ValueType
from vault.domain.values import Value, encode_value
from vault.policy.bundle import bundle_from_files
from vault.policy.forms import apply_form


def attribute(kind: ValueType, **more: object) -> Attribute:
    return Attribute("x", kind, 1, "pd:X", "contact", (), **more)  # type: ignore[arg-type]


def shown(kind: ValueType, form: Form, parameters: dict[str, object], value: Value) -> Value | None:
    return apply_form(attribute(kind), FormSpec(form, parameters), value, lambda data: b"p" + data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ada@example.com", "a***@e***.com"),
        ("ada@mail.example.co.uk", "a***@m***.uk"),
        ("a@b.com", "***@***.com"),
        ("ab@b.com", "a***@***.com"),
        ("ada@localhost", "a***@***"),
        ("ada@.com", "a***@***"),
        ("ada@example.", "a***@***"),
        ("@example.com", "***@e***.com"),
        ("no address", "***"),
        ("two@at@signs.com", "***"),
        ("", "***"),
        ("žena@пример.рф", "ž***@п***.рф"),
    ],
)
def test_an_email_mask_shows_one_letter_of_each_side_at_most(value: str, expected: str) -> None:
    """A side of one letter, or text that is no address, is hidden whole."""
    assert shown(ValueType.STRING, Form.MASK, {"style": "email"}, value) == expected


@pytest.mark.parametrize(
    ("first", "last", "value", "expected"),
    [
        (0, 4, "PT50000201231234567890154", "*" * 21 + "0154"),
        (2, 2, "123456", "12**56"),
        (0, 4, "12345", "*2345"),
        (0, 4, "1234", "****"),
        (2, 2, "1234", "****"),
        (0, 4, "12", "**"),
        (3, 0, "", ""),
        (1, 0, "日本語", "日**"),
        (0, 2, "abe\u0301x", "****x"),
    ],
)
def test_a_mask_keeps_no_more_than_it_says(first: int, last: int, value: str, expected: str) -> None:
    """A value of no more characters than would be kept shows nothing; marks follow their letter."""
    parameters = {"keep_first": first, "keep_last": last, "with": "*"}
    assert shown(ValueType.STRING, Form.MASK, parameters, value) == expected


def test_a_mask_works_on_numbers_and_dates() -> None:
    """What is masked is the value as plain text, with the character of the policy."""
    keep = {"keep_first": 4, "keep_last": 0, "with": "#"}
    assert shown(ValueType.DATE, Form.MASK, keep, "1984-05-01") == "1984######"
    assert shown(ValueType.INT64, Form.MASK, keep, -123456) == "-123###"
    assert shown(ValueType.DECIMAL, Form.MASK, keep, "1234.50") == "1234###"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (ValueType.DECIMAL, "-0.01", "<0"),
        (ValueType.DECIMAL, "0", "0-20000"),
        (ValueType.DECIMAL, "19999.99", "0-20000"),
        (ValueType.DECIMAL, "20000.00", "20000-40000"),
        (ValueType.INT64, 40000, ">=40000"),
        (ValueType.INT64, 2**62, ">=40000"),
        (ValueType.DOUBLE, -1e300, "<0"),
        (ValueType.DOUBLE, 39999.999, "20000-40000"),
    ],
)
def test_bands_hold_their_lower_bound(kind: ValueType, value: Value, expected: str) -> None:
    """Comparison is exact, also for decimals that no double holds."""
    bands = {"bands": ("0", "20000", "40000")}
    assert shown(kind, Form.GENERALISE, bands, value) == expected


@pytest.mark.parametrize(
    ("kind", "width", "value", "expected"),
    [
        (ValueType.INT64, "10", 37, "30-40"),
        (ValueType.INT64, "10", 40, "40-50"),
        (ValueType.INT64, "10", -1, "-10-0"),
        (ValueType.INT64, "10", -(2**63), "-9223372036854775810--9223372036854775800"),
        (ValueType.DECIMAL, "0.25", "1.30", "1.25-1.50"),
        (ValueType.DECIMAL, "0.25", "-0.01", "-0.25-0.00"),
        (ValueType.DOUBLE, "1000", 1234.5, "1000-2000"),
    ],
)
def test_widths_start_at_multiples(kind: ValueType, width: str, value: Value, expected: str) -> None:
    """The band around zero is like every other."""
    assert shown(kind, Form.GENERALISE, {"width": width}, value) == expected


@pytest.mark.parametrize(("to", "expected"), [("year", "1984"), ("decade", "1980s"), ("month", "1984-05")])
def test_dates_and_timestamps_lose_their_day(to: str, expected: str) -> None:
    """Both types show the same."""
    moment = datetime.datetime(1984, 5, 31, 23, 59, 59, 999_999, datetime.UTC)
    microseconds = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(
        microseconds=1
    )
    assert shown(ValueType.DATE, Form.GENERALISE, {"to": to}, "1984-05-31") == expected
    assert shown(ValueType.TIMESTAMP, Form.GENERALISE, {"to": to}, microseconds) == expected


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [
        (-1, "1969-12"),
        (2**63 - 1, "294247-01"),
        (-(2**63), "-290308-12"),
        (-62_198_755_200_000_000, "-0001-01"),
    ],
)
def test_timestamps_beyond_the_calendar_have_a_year_too(microseconds: int, expected: str) -> None:
    """An int64 of microseconds reaches further than datetime does."""
    assert shown(ValueType.TIMESTAMP, Form.GENERALISE, {"to": "month"}, microseconds) == expected


def test_a_prefix_hides_a_value_it_would_show_whole() -> None:
    """First n characters of a longer value; nothing of one that is not longer."""
    assert shown(ValueType.STRING, Form.GENERALISE, {"prefix": 4}, "1000-205") == "1000****"
    assert shown(ValueType.STRING, Form.GENERALISE, {"prefix": 4}, "1000") == "****"


def test_groups_give_labels() -> None:
    """A value of no group gets the other label."""
    parameters = {"groups": {"EU": ("PT", "ES"), "Americas": ("BR",)}, "other": "elsewhere"}
    answers = [shown(ValueType.STRING, Form.GENERALISE, parameters, value) for value in ("ES", "BR", "JP")]
    assert answers == ["EU", "Americas", "elsewhere"]


@pytest.mark.parametrize(
    ("kind", "value", "more"),
    [
        (ValueType.STRING, "Ada", {}),
        (ValueType.INT64, -5, {}),
        (ValueType.DECIMAL, "12.50", {"scale": 2}),
        (ValueType.DOUBLE, 0.1, {}),
        (ValueType.BOOL, True, {}),
        (ValueType.DATE, "1984-05-01", {}),
        (ValueType.TIMESTAMP, 123, {}),
        (ValueType.BYTES, b"\x00\xff", {}),
        (ValueType.JSON, '{"a":1}', {}),
    ],
)
def test_pseudonyms_are_of_the_stored_bytes(kind: ValueType, value: Value, more: dict[str, object]) -> None:
    """So they are the same however the value came into the process."""
    declared = attribute(kind, **more)
    spec = FormSpec(Form.PSEUDONYMISE, {"scope": "caller"})
    assert apply_form(declared, spec, value, lambda data: data) == encode_value(declared, value)


def test_a_value_beyond_todays_limits_still_has_a_pseudonym() -> None:
    """Validation of attributes.yaml is for writes; it may be stricter than when a value was written."""
    declared = attribute(ValueType.STRING, pattern="[a-z]+", max_bytes=1)
    spec = FormSpec(Form.PSEUDONYMISE, {"scope": "caller"})
    assert apply_form(declared, spec, "OLD", lambda data: data) == b"OLD"


def test_exists_and_clear() -> None:
    """exists gives no value; clear gives the value as it is."""
    assert shown(ValueType.STRING, Form.EXISTS, {}, "Ada") is None
    assert shown(ValueType.BYTES, Form.CLEAR, {}, b"Ada") == b"Ada"


@pytest.mark.parametrize(
    ("kind", "form", "parameters", "value"),
    [
        (ValueType.STRING, Form.CLEAR, {}, 5),
        (ValueType.INT64, Form.CLEAR, {}, True),
        (ValueType.DECIMAL, Form.GENERALISE, {"bands": ("0",)}, "canary-value"),
        (ValueType.DOUBLE, Form.GENERALISE, {"width": "1"}, float("nan")),
        (ValueType.DOUBLE, Form.GENERALISE, {"bands": ("0",)}, float("inf")),
        (ValueType.DATE, Form.GENERALISE, {"to": "year"}, "canary-value"),
        (ValueType.INT64, Form.PSEUDONYMISE, {}, 2**70),
        (ValueType.STRING, Form.MASK, {"new": 1}, "canary-value"),
    ],
)
def test_a_value_of_another_type_is_an_integrity_error(
    kind: ValueType, form: Form, parameters: dict[str, object], value: Value
) -> None:
    """The message names no value, and no cause that holds one is shown."""
    with pytest.raises(IntegrityError) as caught:
        shown(kind, form, parameters, value)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


FORMS = "[clear, {mask: {style: email}}, {pseudonymise: {scope: caller}}, exists]"


@pytest.mark.parametrize(
    ("forms", "message"),
    [
        ("[exists, clear]", "forms stand strongest first: 'clear' before 'exists'"),
        ("[clear, {mask: {keep_last: 4}}, clear]", "form 'clear' stands twice"),
        ("[clear, {mask: {}}]", "'mask' needs one of style, keep_first, keep_last"),
        ("[clear, mask]", "'mask' needs one of style, keep_first, keep_last"),
        ("[{clear: {a: 1}}]", "'clear' takes no parameters"),
        ("[{mask: 4}]", "the parameters must be a mapping"),
        ("[{mask: {keep_last: 0}}]", "must be greater than or equal to 1"),
        ("[{mask: {keep_last: 4, with: 'x'}}]", "must match pattern"),
        ("[{mask: {keep_last: 4, style: email}}]", "unknown key 'keep_last'"),
        ("[{generalise: {prefix: '2'}}]", "must be a whole number"),
        ("[{generalise: {groups: {a: [x], b: [x]}, other: o}}]", "value 'x' stands in two groups"),
        ("[{generalise: {groups: {a: [x]}}}]", "key 'other' is missing"),
        ("[{generalise: {to: year}}]", "'generalise with to' does not fit type 'string'"),
        ("[{generalise: {widht: '5'}}]", "'generalise' needs one of bands, width, to, prefix, groups"),
        ("[{pseudonymise: {scope: all}}]", "must be 'caller' or 'caller-purpose'"),
        ("[4]", "a form is a word, or one word with its parameters"),
        ("[]", "must have at least 1 item"),
    ],
)
def test_forms_that_do_not_make_sense_are_refused(forms: str, message: str) -> None:
    """Order, parameters and type are checked when the bundle loads."""
    assert message in problems_of(edited("attributes.yaml", FORMS, forms))[0].message


def test_parameters_come_out_with_their_defaults() -> None:
    """pseudonymise is for the caller, a mask is made of stars."""
    forms = "[{mask: {keep_last: 4}}, pseudonymise]"
    bundle = bundle_from_files(edited("attributes.yaml", FORMS, forms))
    mask, pseudonym = bundle.attributes["email"].forms
    assert dict(mask.parameters) == {"keep_first": 0, "keep_last": 4, "with": "*"}
    assert dict(pseudonym.parameters) == {"scope": "caller"}
