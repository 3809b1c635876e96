"""Requests that are wrong: each is refused naming the field, is on record, and changes nothing."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.support import wire
from tests.support.service import RunningService
from vault.client.values import to_value
from vault.v1 import audit_service_pb2 as audit
from vault.v1 import consent_service_pb2 as consent
from vault.v1 import data_service_pb2 as data
from vault.v1 import policy_service_pb2 as policy
from vault.v1 import rights_service_pb2 as rights
from vault.v1 import values_pb2


def read(service: RunningService, caller: str = "fraud-detection", **fields: Any) -> wire.Failure:
    asked = {
        "customer_number": "c",
        "purpose": "fraud-detection",
        "attributes": ["email"],
        **fields,
    }
    request = data.ReadAttributesRequest(**asked)
    return wire.refused(lambda: wire.data_stub(service.channel(caller)).ReadAttributes(request, timeout=20))


def write(service: RunningService, number: str, values: dict[str, Any], **fields: Any) -> wire.Failure:
    request = wire.write_request(number, values, **fields)
    stub = wire.data_stub(service.channel("importer"))
    return wire.refused(lambda: stub.WriteAttributes(request, timeout=20))


def is_unknown(service: RunningService, number: str) -> bool:
    """Whether a customer is not there: nothing of a refused write was kept."""
    answer = service.client("privacy-office").read_attributes(
        number, purpose="subject-rights", attributes=["email"]
    )
    return bool(answer.denied["email"].reason == "not-available")


# --- reads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"attributes": []}, "attributes", id="no attributes"),
        pytest.param({"attributes": [f"a{n}" for n in range(257)]}, "attributes", id="257 attributes"),
        pytest.param({"attributes": ["email", "email"]}, "attributes[1]", id="an attribute twice"),
        pytest.param({"attributes": ["E-Mail"]}, "attributes[0]", id="an attribute that is no id"),
        pytest.param({"attributes": ["a" * 65]}, "attributes[0]", id="an attribute that is too long"),
        pytest.param({"attributes": [""]}, "attributes[0]", id="an attribute without a name"),
        pytest.param({"purpose": ""}, "purpose", id="no purpose"),
        pytest.param({"purpose": "Fraud Detection"}, "purpose", id="a purpose that is no id"),
        pytest.param({"customer_number": ""}, "customer_number", id="no customer number"),
        pytest.param({"customer_number": "c" * 257}, "customer_number", id="a customer number of 257 bytes"),
        pytest.param({"customer_number": "é" * 129}, "customer_number", id="of 129 letters in 258 bytes"),
        pytest.param({"customer_number": "c\n1"}, "customer_number", id="with a line break"),
        pytest.param({"request_id": "r" * 65}, "request_id", id="a request id that is too long"),
        pytest.param({"request_id": "a b"}, "request_id", id="a request id with a blank"),
        pytest.param({"max_form": 99}, "max_form", id="a form that does not exist"),
    ],
)
def test_a_bad_field_of_a_read_is_named(service: RunningService, fields: dict[str, Any], named: str) -> None:
    """INVALID_ARGUMENT, and BadRequest holds the path of the field."""
    failure = read(service, **fields)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert named in failure.fields


def test_256_attributes_are_not_too_many(service: RunningService) -> None:
    """The limit itself is allowed."""
    names = ["email", *(f"a{n}" for n in range(255))]
    request = wire.read_request(service.customer(), "fraud-detection", names)
    answer = wire.data_stub(service.channel("fraud-detection")).ReadAttributes(request, timeout=20)
    assert [each.name for each in answer.attributes] == names


def test_many_bad_fields_fit_into_the_details(service: RunningService) -> None:
    """256 bad names of 120 characters: the first violations are told, in less than 4 KiB."""
    failure = read(service, attributes=[f"{n:03}" + "X" * 117 for n in range(256)])
    assert failure.reason == "INVALID_ARGUMENT"
    assert 1 < len(failure.fields) <= 20


@pytest.mark.parametrize("word", ["administration", "none", "any", "operation", "unknown"])
def test_a_reserved_word_is_no_purpose_and_no_attribute(service: RunningService, word: str) -> None:
    """Who may write may not read by asking for the purpose of administration: they match no rule."""
    number = service.customer()
    stub = wire.data_stub(service.channel("importer"))
    stub.WriteAttributes(wire.write_request(number, {"email": "a@b.example"}), timeout=20)
    for purpose, attribute in [(word, "email"), ("fraud-detection", word), (word, word)]:
        answer = stub.ReadAttributes(wire.read_request(number, purpose, [attribute]), timeout=20)
        assert [each.denial.reason for each in answer.attributes] == [values_pb2.DENIAL_REASON_NOT_PERMITTED]


def test_a_bad_read_is_on_record_as_an_error(service: RunningService) -> None:
    """The record names the reason and neither the customer nor the attributes that were asked for."""
    read(service, caller="compliance-checks", attributes=["email", "email"])
    record = next(each for each in reversed(service.records()) if each["caller"] == "compliance-checks")
    assert (record["outcome"], record["detail"]) == ("error", {"error": "INVALID_ARGUMENT"})
    assert "attributes" not in record


# --- writes -----------------------------------------------------------------------------------------------

ONE_OF_EACH: dict[str, Any] = {
    "given-name": to_value("", "Ana"),
    "app-usage": to_value("", 7),
    "income": values_pb2.Value(decimal_value="1.50"),
    "sensor-reading": to_value("", 0.5),
    "term-deposit": to_value("", True),
    "date-of-birth": values_pb2.Value(date_value="1984-05-30"),
    "last-login": values_pb2.Value(timestamp_value={"seconds": 1_700_000_000}),
    "biometric-template": to_value("", b"\x00\x01"),
    "product-holdings": values_pb2.Value(json_value="[]"),
}
WRONG_KINDS = [
    pytest.param(attribute, kind, id=f"{ONE_OF_EACH[kind].WhichOneof('kind')} for {attribute}")
    for attribute in ONE_OF_EACH
    for kind in ONE_OF_EACH
    if attribute != kind
]


@pytest.mark.parametrize(("attribute", "kind"), WRONG_KINDS)
def test_a_value_of_another_type_is_refused(service: RunningService, attribute: str, kind: str) -> None:
    """Each attribute takes the one kind that attributes.yaml declares, and none of the eight others."""
    failure = write(service, "nobody-yet", {attribute: ONE_OF_EACH[kind]})
    assert failure.reason == "INVALID_ARGUMENT"
    assert list(failure.fields) == ["writes[0].value"]
    assert attribute in failure.fields["writes[0].value"]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        pytest.param("income", values_pb2.Value(decimal_value="1e3"), id="a decimal with an exponent"),
        pytest.param("income", values_pb2.Value(decimal_value="1.234"), id="a decimal of too many digits"),
        pytest.param("income", values_pb2.Value(decimal_value="-1"), id="a decimal below the minimum"),
        pytest.param("app-usage", to_value("", 100_001), id="an integer above the maximum"),
        pytest.param(
            "sensor-reading", values_pb2.Value(double_value=float("nan")), id="a double that is no number"
        ),
        pytest.param("sensor-reading", values_pb2.Value(double_value=float("inf")), id="an infinite double"),
        pytest.param("date-of-birth", values_pb2.Value(date_value="1984-02-30"), id="a day of no calendar"),
        pytest.param("date-of-birth", values_pb2.Value(date_value="30.05.1984"), id="a date another way"),
        pytest.param(
            "last-login",
            values_pb2.Value(timestamp_value={"nanos": 1}),
            id="a moment finer than microseconds",
        ),
        pytest.param(
            "last-login",
            values_pb2.Value(timestamp_value={"seconds": 300_000_000_000}),
            id="a moment after the year 9999",
        ),
        pytest.param("product-holdings", values_pb2.Value(json_value="{'a': 1}"), id="no JSON"),
        pytest.param("product-holdings", values_pb2.Value(json_value='{"a":1,"a":2}'), id="a key twice"),
        pytest.param("product-holdings", values_pb2.Value(json_value="[" * 5_000), id="JSON too deep"),
        pytest.param("email", to_value("", "no at sign"), id="a text that does not match"),
        pytest.param("kyc-status", to_value("", "perhaps"), id="a word that is not allowed"),
        pytest.param("nationality", to_value("", "PRT"), id="a text that is too long"),
        pytest.param("email", values_pb2.Value(), id="a value of no kind"),
    ],
)
def test_a_value_outside_its_bounds_is_refused(
    service: RunningService, attribute: str, value: values_pb2.Value
) -> None:
    """INVALID_ARGUMENT names the field."""
    failure = write(service, "nobody-yet", {attribute: value})
    assert failure.reason == "INVALID_ARGUMENT"
    assert list(failure.fields) == ["writes[0].value"]


def test_a_value_of_64_kib_is_taken_and_one_byte_more_is_not(service: RunningService) -> None:
    """The limit is 65,536 bytes as stored."""
    number = service.customer()
    stub = wire.data_stub(service.channel("importer"))
    stub.WriteAttributes(wire.write_request(number, {"long-note": "x" * 65_536}), timeout=20)
    failure = write(service, number, {"long-note": "x" * 65_537})
    assert failure.reason == "INVALID_ARGUMENT"
    assert "65536" in failure.fields["writes[0].value"]


def test_one_bad_value_of_two_keeps_both_out(service: RunningService) -> None:
    """A write is all or nothing."""
    number = service.customer()
    failure = write(service, number, {"email": "a@b.example", "nationality": "PRT"})
    assert list(failure.fields) == ["writes[1].value"]
    assert is_unknown(service, number)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"request_id": ""}, "request_id", id="no request id"),
        pytest.param({"request_id": "x" * 65}, "request_id", id="a request id that is too long"),
        pytest.param({"jurisdictions": []}, "jurisdictions", id="a new customer without jurisdictions"),
        pytest.param({"jurisdictions": ["Portugal"]}, "jurisdictions[0]", id="no jurisdiction"),
        pytest.param({"jurisdictions": ["EU"] * 17}, "jurisdictions", id="17 jurisdictions"),
        pytest.param({"customer_number": ""}, "customer_number", id="no customer number"),
        pytest.param({"writes": []}, "writes", id="nothing to write"),
        pytest.param(
            {"writes": [data.AttributeWrite(attribute="email", clear=False)]}, "writes[0]", id="clear: false"
        ),
        pytest.param({"writes": [data.AttributeWrite(attribute="email")]}, "writes[0]", id="neither"),
        pytest.param(
            {"writes": [data.AttributeWrite(attribute="email", clear=True)] * 2}, "writes[1]", id="twice"
        ),
        pytest.param(
            {"writes": [data.AttributeWrite(attribute="email", clear=True, expected_version=-1)]},
            "writes[0].expected_version",
            id="a negative version",
        ),
    ],
)
def test_a_bad_field_of_a_write_is_named(service: RunningService, change: dict[str, Any], named: str) -> None:
    """INVALID_ARGUMENT, and BadRequest holds the path of the field."""
    fields: dict[str, Any] = {
        "request_id": wire.request_id(),
        "customer_number": service.customer(),
        "writes": [data.AttributeWrite(attribute="email", value=to_value("", "a@b.example"))],
        "jurisdictions": ["EU"],
    }
    request = data.WriteAttributesRequest(**{**fields, **change})
    stub = wire.data_stub(service.channel("importer"))
    failure = wire.refused(lambda: stub.WriteAttributes(request, timeout=20))
    assert failure.reason == "INVALID_ARGUMENT"
    assert named in failure.fields


def test_writing_an_attribute_without_the_right_writes_nothing(service: RunningService) -> None:
    """The portal may write the e-mail address and not the income: neither is written."""
    number = service.customer()
    request = wire.write_request(
        number, {"email": "a@b.example", "income": values_pb2.Value(decimal_value="1")}
    )
    stub = wire.data_stub(service.channel("customer-portal"))
    failure = wire.refused(lambda: stub.WriteAttributes(request, timeout=20))
    assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
    assert is_unknown(service, number)


def test_an_unknown_attribute_is_refused_like_a_forbidden_one(service: RunningService) -> None:
    """Who may not write everything does not learn which attributes exist."""
    stub = wire.data_stub(service.channel("customer-portal"))

    def refusal(attribute: str) -> tuple[Any, ...]:
        request = wire.write_request("nobody-yet", {attribute: to_value("", "x")})
        failure = wire.refused(lambda: stub.WriteAttributes(request, timeout=20))
        return failure.code, failure.reason, failure.message

    assert refusal("income") == refusal("no-such-attribute") == refusal("none")


def test_authorisation_comes_before_validation(service: RunningService) -> None:
    """A caller without the right to write is told so, not what is wrong with its request."""
    request = wire.write_request("", {"income": values_pb2.Value(decimal_value="nonsense")}, request_id="")
    stub = wire.data_stub(service.channel("auditor"))
    assert wire.refused(lambda: stub.WriteAttributes(request, timeout=20)).reason == "NOT_PERMITTED"


# --- messages ---------------------------------------------------------------------------------------------


def test_a_message_of_more_than_4_mib_is_refused_by_the_transport(service: RunningService) -> None:
    """The server reads no further than its limit."""
    values = {"long-note": "x" * 65_000}
    writes = wire.write_request("c", values).writes
    request = wire.write_request("c", {})
    request.writes.extend([writes[0]] * 70)
    stub = wire.data_stub(service.channel("importer"))
    with pytest.raises(grpc.RpcError) as caught:
        stub.WriteAttributes(request, timeout=20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xff\xff\xff\xff", id="no message"),
        pytest.param(b"\x0a\x02\xc3\x28", id="text that is no Unicode"),
    ],
)
def test_bytes_that_are_no_request_are_refused(service: RunningService, content: bytes) -> None:
    """Garbage is an error of the call: gRPC itself refuses it, and the next call is served."""
    call: Callable[..., Any] = service.channel("fraud-detection").unary_unary(
        "/vault.v1.DataService/ReadAttributes"
    )
    with pytest.raises(grpc.RpcError) as caught:
        call(content, timeout=20)
    assert caught.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    assert read(service, attributes=[]).reason == "INVALID_ARGUMENT"


# --- the other services -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "method", "request_", "named"),
    [
        pytest.param(
            wire.consent_stub,
            "RecordConsent",
            consent.RecordConsentRequest(request_id="r", customer_number="c", purpose="marketing"),
            "state",
            id="a consent without a state",
        ),
        pytest.param(
            wire.consent_stub,
            "RecordConsent",
            consent.RecordConsentRequest(
                request_id="r-refused",
                customer_number="c",
                purpose="no-such-purpose",
                state=consent.CONSENT_STATE_REFUSED,
                channel="app",
                jurisdictions=["EU"],
            ),
            "purpose",
            id="a consent for no purpose",
        ),
        pytest.param(
            wire.consent_stub,
            "RecordConsent",
            consent.RecordConsentRequest(
                request_id="r-given",
                customer_number="c",
                purpose="personalised-offers",
                state=consent.CONSENT_STATE_GIVEN,
                channel="app",
                jurisdictions=["EU"],
            ),
            "notice",
            id="a grant without a notice",
        ),
        pytest.param(
            wire.consent_stub,
            "RecordConsent",
            consent.RecordConsentRequest(
                request_id="r-given",
                customer_number="c",
                purpose="personalised-offers",
                state=consent.CONSENT_STATE_GIVEN,
                notice="offers",
                notice_version=2,
                language="en",
                channel="app",
                jurisdictions=["EU"],
            ),
            "expires_at",
            id="a grant that never ends where a lifetime is demanded",
        ),
        pytest.param(
            wire.consent_stub,
            "ListConsentEvents",
            consent.ListConsentEventsRequest(customer_number="c", page_size=1_001),
            "page_size",
            id="too large a page of events",
        ),
        pytest.param(
            wire.consent_stub,
            "ListConsentEvents",
            consent.ListConsentEventsRequest(customer_number="c", page_token="x"),
            "page_token",
            id="a page token of nowhere",
        ),
        pytest.param(
            wire.consent_stub,
            "GetConsent",
            consent.GetConsentRequest(customer_number=""),
            "customer_number",
            id="a look at nobody's consent",
        ),
    ],
)
def test_a_bad_field_of_a_consent_call_is_named(
    service: RunningService, make: Any, method: str, request_: Any, named: str
) -> None:
    """INVALID_ARGUMENT, and BadRequest holds the path of the field."""
    call = getattr(make(service.channel("customer-portal")), method)
    failure = wire.refused(lambda: call(request_, timeout=20))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert named in failure.fields


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (consent.CONSENT_STATE_WITHDRAWN, "INVALID_ARGUMENT"),
        (consent.CONSENT_STATE_OBJECTED, "INVALID_ARGUMENT"),
        (consent.CONSENT_STATE_OBJECTION_LIFTED, "INVALID_ARGUMENT"),
    ],
)
def test_states_with_an_act_of_their_own_are_not_recorded_by_record_consent(
    service: RunningService, state: int, code: str
) -> None:
    """The right to record consent is not the right to withdraw it or to object."""
    request = consent.RecordConsentRequest(
        request_id=wire.request_id(),
        customer_number=service.customer(),
        purpose="marketing",
        state=state,  # type: ignore[arg-type]
        channel="app",
        jurisdictions=["EU"],
    )
    stub = wire.consent_stub(service.channel("customer-portal"))
    failure = wire.refused(lambda: stub.RecordConsent(request, timeout=20))
    assert failure.reason == code
    assert "state" in failure.fields


@pytest.mark.parametrize(
    ("caller", "make", "method", "request_"),
    [
        (
            "privacy-office",
            wire.rights_stub,
            "RestrictSubject",
            rights.RestrictSubjectRequest(request_id="r", customer_number="no-such-customer"),
        ),
        (
            "privacy-office",
            wire.rights_stub,
            "ObjectToPurpose",
            rights.ObjectToPurposeRequest(
                request_id="r", customer_number="no-such-customer", purpose="marketing", channel="app"
            ),
        ),
        (
            "privacy-office",
            wire.consent_stub,
            "WithdrawConsent",
            consent.WithdrawConsentRequest(
                request_id="r", customer_number="no-such-customer", purpose="marketing", channel="app"
            ),
        ),
        (
            "privacy-office",
            wire.consent_stub,
            "GetConsent",
            consent.GetConsentRequest(customer_number="no-such-customer"),
        ),
    ],
)
def test_what_takes_away_needs_a_customer_that_is_there(
    service: RunningService, caller: str, make: Any, method: str, request_: Any
) -> None:
    """NOT_FOUND to those who may know."""
    call = getattr(make(service.channel(caller)), method)
    failure = wire.refused(lambda: call(request_, timeout=20))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"caller": "nobody"}, "caller"),
        ({"purpose": "marketing"}, "purpose"),
        ({"purpose": "administration"}, "purpose"),
        ({"attributes": []}, "attributes"),
        ({"attributes": ["no-such-attribute"]}, "attributes[0]"),
        ({"bases": ["any"]}, "bases[0]"),
        ({"bases": ["operation"]}, "bases[0]"),
        ({"max_form": 99}, "max_form"),
    ],
)
def test_a_bad_field_of_an_explanation_is_named(
    service: RunningService, fields: dict[str, Any], named: str
) -> None:
    """INVALID_ARGUMENT, and BadRequest holds the path of the field."""
    asked = {"caller": "fraud-detection", "purpose": "fraud-detection", "attributes": ["email"], **fields}
    stub = wire.policy_stub(service.channel("security-team"))
    request = policy.ExplainDecisionRequest(**asked)
    failure = wire.refused(lambda: stub.ExplainDecision(request, timeout=20))
    assert failure.reason == "INVALID_ARGUMENT"
    assert named in failure.fields


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"page_size": 1_001}, "page_size"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "nonsense"}, "page_token"),
        ({"customer_number": "c" * 257}, "customer_number"),
        ({"start_time": {"seconds": 1, "nanos": 1}}, "start_time"),
        ({"outcome": "released"}, "outcome"),
    ],
)
def test_a_bad_field_of_a_query_is_named(service: RunningService, fields: dict[str, Any], named: str) -> None:
    """INVALID_ARGUMENT, and BadRequest holds the path of the field: misspelt, it would find nothing."""
    stub = wire.audit_stub(service.channel("auditor"))
    request = audit.QueryRecordsRequest(**fields)
    failure = wire.refused(lambda: stub.QueryRecords(request, timeout=20))
    assert failure.reason == "INVALID_ARGUMENT"
    assert named in failure.fields
