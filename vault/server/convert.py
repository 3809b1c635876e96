"""Between proto messages and domain types, by tables."""

import datetime
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import timestamp_pb2

from vault.domain.errors import InvalidArgumentError
from vault.domain.types import ConsentState, Form, Reason, ValueType
from vault.domain.values import TypedValue
from vault.recording import RecordedAt
from vault.v1 import consent_service_pb2, values_pb2

FORM_NUMBERS: Final[Mapping[Form, Any]] = {form: values_pb2.Form.Value(f"FORM_{form.name}") for form in Form}
FORMS: Final[Mapping[int, Form]] = {number: form for form, number in FORM_NUMBERS.items()}
REASON_NUMBERS: Final[Mapping[Reason, Any]] = {
    reason: values_pb2.DenialReason.Value(f"DENIAL_REASON_{reason.name}") for reason in Reason
}
STATE_NUMBERS: Final[Mapping[ConsentState, Any]] = {
    state: consent_service_pb2.ConsentState.Value(f"CONSENT_STATE_{state.name}") for state in ConsentState
}
STATES: Final[Mapping[int, ConsentState]] = {number: state for state, number in STATE_NUMBERS.items()}

DENIAL_DETAILS: Final[Mapping[Reason, str]] = {
    Reason.NOT_PERMITTED: "no rule permits this attribute for this purpose in a form asked for",
    Reason.NOT_AVAILABLE: "the customer's data is not available",
    Reason.CONSENT_MISSING: "the customer has given no consent for this purpose",
    Reason.CONSENT_WITHDRAWN: "the customer has withdrawn consent",
    Reason.CONSENT_EXPIRED: "consent has expired",
    Reason.CONSENT_REFUSED: "the customer has refused consent",
    Reason.NOTICE_OUTDATED: "consent was given on a notice version that no longer counts",
    Reason.OUT_OF_SCOPE: "consent does not cover this attribute's category",
    Reason.OBJECTED: "the customer has objected",
    Reason.OPTED_OUT: "the customer has opted out",
    Reason.BASIS_MISSING: "no legal basis that a rule names holds for this customer",
    Reason.KEY_UNAVAILABLE: "the key of this attribute cannot be had now; try again",
    Reason.INTEGRITY: "the stored value does not open; operators have been told",
    Reason.NOT_SET: "no value is set",
}


def timestamp(microseconds: int) -> timestamp_pb2.Timestamp:
    """A Timestamp of microseconds since 1970 UTC."""
    return timestamp_pb2.Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1_000)


def microseconds(moment: timestamp_pb2.Timestamp, field: str) -> int:
    """Microseconds since 1970 UTC.

    Raises:
        InvalidArgumentError: outside the years 1 to 9999, or finer than a microsecond.
    """
    latest = datetime.datetime.max.replace(tzinfo=datetime.UTC).timestamp()
    if not -62_135_596_800 <= moment.seconds <= latest or not 0 <= moment.nanos < 1_000_000_000:
        raise InvalidArgumentError.of(field, "must be a moment in the years 1 to 9999")
    if moment.nanos % 1_000:
        raise InvalidArgumentError.of(field, "must be a whole number of microseconds")
    return moment.seconds * 1_000_000 + moment.nanos // 1_000


def typed_value(message: values_pb2.Value, field: str) -> TypedValue:
    """The value of a request with the type that was set.

    Raises:
        InvalidArgumentError: no kind is set.
    """
    name = message.WhichOneof("kind")
    if name is None:
        raise InvalidArgumentError.of(field, "must have a kind set, for example string_value")
    kind = ValueType(name.removesuffix("_value"))
    if kind is ValueType.TIMESTAMP:
        return TypedValue(kind, microseconds(message.timestamp_value, field))
    return TypedValue(kind, getattr(message, name))


def max_form(number: int) -> Form | None:
    """The bound of a request, None for no bound.

    Raises:
        InvalidArgumentError: no form has this number; to ignore it would give more than was asked for.
    """
    if number and number not in FORMS:
        raise InvalidArgumentError.of("max_form", "is not a form")
    return FORMS.get(number)


def record_ref(recorded: RecordedAt) -> values_pb2.RecordRef:
    """Where a record stands."""
    return values_pb2.RecordRef(record_id=recorded.record_id, position=recorded.position)
