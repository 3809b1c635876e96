"""Between proto messages and domain types, by tables."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf import timestamp_pb2

from vault.domain.errors import InvalidArgumentError
from vault.domain.types import ConsentState, Form, Reason, ValueType
from vault.domain.values import TypedValue
from vault.reads import Answer, DisclosedAttribute
from vault.recording import RecordedAt
from vault.v1 import consent_service_pb2, data_service_pb2, values_pb2

FORM_NUMBERS: Final[Mapping[Form, Any]] = {form: values_pb2.Form.Value(f"FORM_{form.name}") for form in Form}
FORMS: Final[Mapping[int, Form]] = {number: form for form, number in FORM_NUMBERS.items()}
REASON_NUMBERS: Final[Mapping[Reason, Any]] = {
    reason: values_pb2.DenialReason.Value(f"DENIAL_REASON_{reason.name}") for reason in Reason
}
STATE_NUMBERS: Final[Mapping[ConsentState, Any]] = {
    state: consent_service_pb2.ConsentState.Value(f"CONSENT_STATE_{state.name}") for state in ConsentState
}
STATES: Final[Mapping[int, ConsentState]] = {number: state for state, number in STATE_NUMBERS.items()}

_FRAME_BYTES: Final = 64
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


def _set_timestamp(message: values_pb2.Value, value: Any) -> None:
    message.timestamp_value.CopyFrom(timestamp(value))


def _setter(name: str) -> Callable[[values_pb2.Value, Any], None]:
    return lambda message, value: setattr(message, name, value)


_SETTERS: Final[Mapping[ValueType, Callable[[values_pb2.Value, Any], None]]] = {
    kind: _setter(f"{kind.value}_value") for kind in ValueType
} | {ValueType.TIMESTAMP: _set_timestamp}


def _set_value(message: values_pb2.Value, attribute: DisclosedAttribute) -> None:
    value = attribute.value
    if attribute.form is Form.CLEAR and attribute.type is not None:
        _SETTERS[attribute.type](message, value)
    elif isinstance(value, bytes):
        message.bytes_value = value
    elif isinstance(value, str):
        message.string_value = value


class ResponseWriter:
    """Builds ReadAttributesResponse messages (the AnswerWriter of the disclosure pipeline)."""

    def build(self, answer: Answer) -> data_service_pb2.ReadAttributesResponse:
        message = data_service_pb2.ReadAttributesResponse(bundle_hash=answer.bundle_hash)
        message.record.record_id = answer.record_id
        add = message.attributes.add
        for attribute in answer.attributes:
            if attribute.form is not None:
                result = add(
                    name=attribute.name, form=FORM_NUMBERS[attribute.form], version=attribute.version
                )
                if attribute.value is not None:
                    _set_value(result.value, attribute)
            elif attribute.reason is not None:
                denial = add(name=attribute.name).denial
                denial.reason = REASON_NUMBERS[attribute.reason]
                denial.detail = DENIAL_DETAILS[attribute.reason]
        return message

    def size(self, message: data_service_pb2.ReadAttributesResponse) -> int:
        """Bytes on the wire at most, with the position that is set later and as a result of a batch."""
        return message.ByteSize() + _FRAME_BYTES


def record_ref(recorded: RecordedAt) -> values_pb2.RecordRef:
    """Where a record stands."""
    return values_pb2.RecordRef(record_id=recorded.record_id, position=recorded.position)
