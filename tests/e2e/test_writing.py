"""Writing: values come back as they went in, versions count, and a request id makes a write happen once."""

import datetime
from decimal import Decimal
from typing import Any

import grpc
import pytest

from tests.support import wire
from tests.support.service import RunningService
from vault.client import Aborted, AlreadyExists, DenialReason, Form, Json
from vault.client.values import to_value
from vault.v1 import values_pb2


def write(service: RunningService, number: str, values: dict[str, Any], **more: Any) -> Any:
    return service.client("importer").write_attributes(number, values, jurisdictions=["EU"], **more)


def value_of(service: RunningService, number: str, attribute: str) -> Any:
    """The value the privacy office sees in clear; its version; or the reason of the denial."""
    answer = service.client("privacy-office").read_attributes(
        number, purpose="subject-rights", attributes=[attribute]
    )
    if attribute in answer.denied:
        return answer.denied[attribute].reason
    assert answer[attribute].form is Form.CLEAR
    return answer[attribute].value, answer[attribute].version


@pytest.mark.parametrize(
    ("attribute", "written", "read"),
    [
        pytest.param("given-name", "Zoë 李 \U0001f600 e\u0301", None, id="any Unicode text, as it is"),
        pytest.param("vulnerability-note", "", None, id="an empty text"),
        pytest.param(
            "vulnerability-note", "line\nbreak\ttab\x00nul", None, id="text with control characters"
        ),
        pytest.param("counter", 0, None, id="zero"),
        pytest.param("counter", 2**63 - 1, None, id="the largest integer"),
        pytest.param("counter", -(2**63), None, id="the lowest integer"),
        pytest.param("income", Decimal("0"), Decimal("0.00"), id="a decimal at its scale"),
        pytest.param("income", Decimal("1000000000"), Decimal("1000000000.00"), id="the largest decimal"),
        pytest.param("balance", Decimal("-0.01"), None, id="a negative decimal"),
        pytest.param("sensor-reading", 0.1, None, id="a double"),
        pytest.param("sensor-reading", -1.7976931348623157e308, None, id="the lowest double"),
        pytest.param("sensor-reading", 5e-324, None, id="the smallest double"),
        pytest.param("sensor-reading", -0.0, 0.0, id="minus zero as zero"),
        pytest.param("term-deposit", True, None, id="true"),
        pytest.param("term-deposit", False, None, id="false"),
        pytest.param("date-of-birth", datetime.date(1984, 2, 29), None, id="a leap day"),
        pytest.param(
            "last-login",
            datetime.datetime(2126, 1, 2, 3, 4, 5, 678_901, datetime.UTC),
            None,
            id="a moment to the microsecond",
        ),
        pytest.param(
            "last-login", datetime.datetime(1, 1, 1, tzinfo=datetime.UTC), None, id="the first moment"
        ),
        pytest.param("biometric-template", bytes(range(256)), None, id="every byte"),
        pytest.param("biometric-template", b"", None, id="no bytes"),
        pytest.param("product-holdings", [], None, id="an empty list"),
        pytest.param(
            "product-holdings",
            {"b": [1, 2.5, None, True, "é"], "a": {}},
            None,
            id="JSON of every kind",
        ),
        pytest.param(
            "product-holdings", Json(' { "b":1 , "a" : 2 } '), {"a": 2, "b": 1}, id="JSON in canonical form"
        ),
    ],
)
def test_every_type_of_value_round_trips(
    service: RunningService, attribute: str, written: Any, read: Any
) -> None:
    """What is written through WriteAttributes comes back through ReadAttributes, equal and of one type."""
    number = service.customer()
    write(service, number, {attribute: written})
    value, _ = value_of(service, number, attribute)
    expected = written if read is None else read
    assert value == expected
    assert type(value) is type(expected)


def test_minus_zero_comes_back_as_zero(service: RunningService) -> None:
    """The sign of a zero is not kept (keys.md, "Values by declared type")."""
    number = service.customer()
    write(service, number, {"sensor-reading": -0.0})
    value, _ = value_of(service, number, "sensor-reading")
    assert str(value) == "0.0"


def test_the_first_write_makes_the_customer(service: RunningService) -> None:
    """`subject_created` is true once."""
    number = service.customer()
    assert write(service, number, {"email": "a@b.example"}).subject_created
    assert not write(service, number, {"email": "b@b.example"}).subject_created


def test_versions_count_from_one_per_attribute(service: RunningService) -> None:
    """Each write raises the version of what it writes, and of nothing else."""
    number = service.customer()
    assert write(service, number, {"email": "a@b.example", "given-name": "Ana"}).versions == {
        "email": 1,
        "given-name": 1,
    }
    assert write(service, number, {"email": "b@b.example"}).versions == {"email": 2}
    assert value_of(service, number, "given-name") == ("Ana", 1)


def test_version_0_means_there_is_no_value(service: RunningService) -> None:
    """`expected_version` 0 writes where nothing is set, and nowhere else."""
    number = service.customer()
    write(service, number, {"email": "a@b.example"}, expected_versions={"email": 0})
    with pytest.raises(Aborted) as caught:
        write(service, number, {"email": "b@b.example"}, expected_versions={"email": 0})
    assert "version 1" in caught.value.message
    assert value_of(service, number, "email") == ("a@b.example", 1)


def test_another_version_than_expected_aborts_and_tells_the_current_one(service: RunningService) -> None:
    """ABORTED with the current version; nothing of the write is kept."""
    number = service.customer()
    write(service, number, {"email": "a@b.example"})
    request = wire.write_request(
        number, {"email": to_value("", "c@b.example"), "given-name": to_value("", "Ana")}
    )
    request.writes[0].expected_version = 7
    stub = wire.data_stub(service.channel("importer"))
    failure = wire.refused(lambda: stub.WriteAttributes(request, timeout=20))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "VERSION_MISMATCH")
    assert "expected version 7" in failure.message
    assert "version 1" in failure.message
    assert value_of(service, number, "given-name") is DenialReason.NOT_SET


def test_a_failed_write_can_be_sent_again_with_its_request_id(service: RunningService) -> None:
    """Only what was done is kept under a request id: after ABORTED the corrected write goes through."""
    number = service.customer()
    write(service, number, {"email": "a@b.example"})
    request_id = wire.request_id()
    with pytest.raises(Aborted):
        write(
            service, number, {"email": "b@b.example"}, expected_versions={"email": 9}, request_id=request_id
        )
    receipt = write(
        service, number, {"email": "b@b.example"}, expected_versions={"email": 1}, request_id=request_id
    )
    assert (receipt.versions, receipt.replayed) == ({"email": 2}, False)


def test_what_was_cleared_is_not_set(service: RunningService) -> None:
    """`clear` removes the value and its ciphertext; the next write goes on counting versions."""
    number = service.customer()
    write(service, number, {"email": "a@b.example"})
    cleared = write(service, number, {}, clear=["email"])
    assert cleared.versions == {"email": 2}
    assert value_of(service, number, "email") is DenialReason.NOT_SET
    write(service, number, {"email": "b@b.example"}, expected_versions={"email": 0})
    assert value_of(service, number, "email") == ("b@b.example", 3)


def test_clearing_what_is_not_set_changes_nothing(service: RunningService) -> None:
    """No value, no version: the write is recorded all the same."""
    number = service.customer()
    write(service, number, {"given-name": "Ana"})
    receipt = write(service, number, {}, clear=["email"])
    assert receipt.versions == {"email": 0}
    assert service.records()[receipt.position]["action"] == "write"


def test_a_repeated_request_is_answered_as_the_first_time(either: RunningService) -> None:
    """Same id, same content: same answer, one version; the record of the repetition names the first."""
    number, request_id = either.customer(), wire.request_id()
    first = write(either, number, {"email": "a@b.example"}, request_id=request_id)
    write(either, number, {"email": "b@b.example"})
    again = write(either, number, {"email": "a@b.example"}, request_id=request_id)
    assert again.replayed
    assert (again.versions, again.record_id, again.position, again.subject_created) == (
        first.versions,
        first.record_id,
        first.position,
        True,
    )
    assert value_of(either, number, "email") == ("b@b.example", 2)
    done, repeated = [each for each in either.records() if each.get("request") == request_id]
    assert done["id"] == first.record_id
    assert repeated["detail"] == {"replay_of": first.record_id}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"values": {"email": "other@b.example"}}, id="another value"),
        pytest.param({"values": {"given-name": "Ana"}}, id="another attribute"),
        pytest.param({"jurisdictions": ["GB"]}, id="another jurisdiction"),
        pytest.param({"expected_versions": {"email": 0}}, id="an expected version"),
        pytest.param({"values": {}, "clear": ["email"]}, id="clear instead of a value"),
        pytest.param({"customer_number": "another-customer"}, id="another customer"),
    ],
)
def test_a_request_id_with_other_content_is_refused(service: RunningService, change: dict[str, Any]) -> None:
    """ALREADY_EXISTS, whatever differs; nothing is written."""
    first: dict[str, Any] = {
        "customer_number": service.customer(),
        "values": {"email": "a@b.example"},
        "jurisdictions": ["EU"],
        "request_id": wire.request_id(),
    }
    client = service.client("importer")
    client.write_attributes(**first)
    with pytest.raises(AlreadyExists) as caught:
        client.write_attributes(**{**first, **change})
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert value_of(service, first["customer_number"], "email") == ("a@b.example", 1)


def test_request_ids_of_two_callers_do_not_meet(service: RunningService) -> None:
    """A request id is the caller's own."""
    number, request_id = service.customer(), wire.request_id()
    write(service, number, {"email": "a@b.example"}, request_id=request_id)
    receipt = service.client("privacy-office").write_attributes(
        number, {"email": "b@b.example"}, request_id=request_id
    )
    assert not receipt.replayed


def test_two_tenants_have_two_customers_of_one_number(service: RunningService) -> None:
    """A customer number belongs to a tenant: another tenant's importer makes another customer."""
    number = service.customer()
    write(service, number, {"email": "a@b.example"})
    receipt = service.client("other-bank-importer").write_attributes(
        number, {"email": "x@y.example"}, jurisdictions=["GB"]
    )
    assert receipt.subject_created
    assert value_of(service, number, "email") == ("a@b.example", 1)


def test_a_write_is_on_record_without_its_values(service: RunningService) -> None:
    """The record names attributes, act, rule and request, and neither value nor customer number."""
    number = service.customer()
    receipt = write(service, number, {"email": "a@b.example"}, request_id="import-2024:row.7")
    record = service.records()[receipt.position]
    assert record["id"] == receipt.record_id
    assert record["attributes"] == {"email": {"act": "write", "bases": ["operation"], "rule": "write-import"}}
    assert (record["action"], record["outcome"], record["request"]) == (
        "write",
        "authorised",
        "import-2024:row.7",
    )
    assert record["detail"] == {"jurisdictions": "EU"}
    assert "a@b.example" not in str(record)
    assert number not in str(record)


def test_jurisdictions_are_changed_by_a_write(service: RunningService) -> None:
    """Given they are set, left out they stay."""
    number = service.customer()
    client = service.client("importer")
    client.write_attributes(number, {"email": "a@b.example"}, jurisdictions=["EU", "US-CA"])
    client.write_attributes(number, {"email": "b@b.example"})
    portal = service.client("customer-portal")
    assert portal.get_consent(number).jurisdictions == ("EU", "US-CA")
    client.write_attributes(number, {"email": "c@b.example"}, jurisdictions=["GB"])
    assert portal.get_consent(number).jurisdictions == ("GB",)


def test_the_answer_to_a_write_holds_no_value(service: RunningService) -> None:
    """Versions and a record reference are all that a write answers."""
    request = wire.write_request(service.customer(), {"email": "a@b.example"})
    answer = wire.data_stub(service.channel("importer")).WriteAttributes(request, timeout=20)
    assert b"a@b.example" not in answer.SerializeToString()


def test_a_value_of_every_kind_is_read_in_the_kind_it_was_written(service: RunningService) -> None:
    """On the wire the clear form has the kind of the declaration; no other form has it."""
    number = service.customer()
    write(service, number, {"income": Decimal("41250.00")})
    stub = wire.data_stub(service.channel("privacy-office"))
    kinds = []
    for form in (values_pb2.FORM_CLEAR, values_pb2.FORM_GENERALISE, values_pb2.FORM_EXISTS):
        request = wire.read_request(number, "subject-rights", ["income"], max_form=form)
        kinds.append(stub.ReadAttributes(request, timeout=20).attributes[0].value.WhichOneof("kind"))
    assert kinds == ["decimal_value", "string_value", None]
