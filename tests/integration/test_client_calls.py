"""Each method of both clients: what goes out, and what comes back."""

import datetime
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.client import KINDS, Bank, client_of, fail, grpc, running_bank
from vault.client import (
    ConsentState,
    DeadlineExceeded,
    Denial,
    DenialReason,
    Form,
    Internal,
    InvalidArgument,
    Json,
    NotPermitted,
    Unavailable,
)
from vault.v1 import audit_service_pb2 as audit
from vault.v1 import consent_service_pb2 as consent
from vault.v1 import data_service_pb2 as data
from vault.v1 import policy_service_pb2 as policy
from vault.v1 import rights_service_pb2 as rights
from vault.v1 import values_pb2 as values

MOMENT = datetime.datetime(2026, 3, 1, 12, 30, 0, 123_456, tzinfo=datetime.UTC)
STAMP = Timestamp(seconds=1_772_368_200, nanos=123_456_000)
RECORD = values.RecordRef(record_id="record-1", position=7)
TOKEN = consent.ConsentToken(event_id="event-1", seq=3, record=RECORD)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    with running_bank(tmp_path_factory.mktemp("bank")) as bank:
        yield bank


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, bank: Bank) -> Iterator[Any]:
    bank.script.clear()
    with client_of(request.param, bank.connection) as client:
        yield client


def sent(bank: Bank, method: str) -> Any:
    [request] = bank.script.got(method)
    return request


def read_answer() -> data.ReadAttributesResponse:
    return data.ReadAttributesResponse(
        attributes=[
            data.AttributeResult(
                name="email",
                form=values.FORM_MASK,
                value=values.Value(string_value="a***@e***.com"),
                version=2,
            ),
            data.AttributeResult(name="iban", form=values.FORM_EXISTS, version=1),
            data.AttributeResult(
                name="income",
                denial=data.Denial(reason=values.DENIAL_REASON_CONSENT_MISSING, detail="no consent"),
            ),
        ],
        record=RECORD,
        bundle_hash="ab12",
    )


def test_a_read_sends_what_was_asked(client: Any, bank: Bank) -> None:
    """Every argument of read_attributes is in the request."""
    bank.script.says("ReadAttributes", read_answer())
    client.read_attributes(
        "4711",
        purpose="personalised-offers",
        attributes=["email", "iban"],
        max_form="mask",
        require_all=True,
        request_id="mine",
    )
    assert sent(bank, "ReadAttributes") == data.ReadAttributesRequest(
        customer_number="4711",
        purpose="personalised-offers",
        attributes=["email", "iban"],
        max_form=values.FORM_MASK,
        require_all=True,
        request_id="mine",
    )


def test_a_disclosure_separates_the_disclosed_from_the_denied(client: Any, bank: Bank) -> None:
    """Forms and values are in attributes, denials with their reasons in denied, and the record is named."""
    bank.script.says("ReadAttributes", read_answer())
    answer = client.read_attributes("4711", purpose="p", attributes=["email", "iban", "income"])
    assert answer["email"].value == "a***@e***.com"
    assert (answer["email"].form, answer["email"].version) == (Form.MASK, 2)
    assert (answer["iban"].form, answer["iban"].value) == (Form.EXISTS, None)
    assert answer.denied == {"income": Denial(DenialReason.CONSENT_MISSING, "no consent")}
    assert (answer.record_id, answer.position, answer.bundle_hash) == ("record-1", 7, "ab12")


def test_a_form_of_a_newer_server_discloses_nothing(client: Any, bank: Bank) -> None:
    """An attribute in a form that the client does not know counts as denied."""
    result = data.AttributeResult(name="email", value=values.Value(string_value="x"))
    result.form = 99  # type: ignore[assignment]  # what a newer server could send
    bank.script.says("ReadAttributes", data.ReadAttributesResponse(attributes=[result]))
    answer = client.read_attributes("4711", purpose="p", attributes=["email"])
    assert (list(answer.attributes), answer.denied["email"].reason) == ([], DenialReason.UNRECOGNISED)


def test_a_value_of_a_newer_server_is_an_error(client: Any, bank: Bank) -> None:
    """A disclosed attribute without a value that the client can read raises Internal."""
    result = data.AttributeResult(name="email", form=values.FORM_CLEAR)
    bank.script.says("ReadAttributes", data.ReadAttributesResponse(attributes=[result]))
    with pytest.raises(Internal):
        client.read_attributes("4711", purpose="p", attributes=["email"])


def test_a_write_sends_values_clears_and_versions(client: Any, bank: Bank) -> None:
    """Values go out in their types, cleared attributes as clear, with the versions expected."""
    bank.script.says("WriteAttributes", data.WriteAttributesResponse())
    client.write_attributes(
        "4711",
        {"income": Decimal("1200.50"), "profile": Json('{"a":1}')},
        clear=["phone"],
        expected_versions={"income": 0, "phone": 4},
        jurisdictions=["EU"],
        request_id="w-1",
    )
    assert sent(bank, "WriteAttributes") == data.WriteAttributesRequest(
        request_id="w-1",
        customer_number="4711",
        writes=[
            data.AttributeWrite(
                attribute="income", value=values.Value(decimal_value="1200.50"), expected_version=0
            ),
            data.AttributeWrite(attribute="profile", value=values.Value(json_value='{"a":1}')),
            data.AttributeWrite(attribute="phone", clear=True, expected_version=4),
        ],
        jurisdictions=["EU"],
    )


def test_a_write_receipt_tells_versions_and_record(client: Any, bank: Bank) -> None:
    """The receipt has the new versions, what happened, the record, and the request id that was sent."""
    versions = [data.AttributeVersion(attribute="income", version=5)]
    bank.script.says(
        "WriteAttributes",
        data.WriteAttributesResponse(versions=versions, subject_created=True, record=RECORD, replayed=True),
    )
    receipt = client.write_attributes("4711", {"income": Decimal(1)})
    assert (dict(receipt.versions), receipt.subject_created, receipt.replayed) == ({"income": 5}, True, True)
    assert (receipt.record_id, receipt.position) == ("record-1", 7)
    assert receipt.request_id == sent(bank, "WriteAttributes").request_id != ""


def test_two_writes_have_two_request_ids(client: Any, bank: Bank) -> None:
    """Each call without a request id of its own makes a new one."""
    bank.script.says("WriteAttributes", data.WriteAttributesResponse())
    ids = {client.write_attributes("4711", {"city": "Bern"}).request_id for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"values": {"a": 1}, "clear": ["a"]},
        {"values": {"a": 1}, "expected_versions": {"b": 1}},
        {"values": {"a": object()}},
        {"values": ["a"]},
        {"values": {"a": 1}, "jurisdictions": "EU"},
        {"values": {"a": 1}, "request_id": 5},
    ],
    ids=["set-and-clear", "version-of-nothing", "no-value", "no-mapping", "one-string", "wrong-type"],
)
def test_a_contradictory_write_is_refused_before_it_is_sent(
    client: Any, bank: Bank, arguments: dict[str, Any]
) -> None:
    """What cannot be sent raises InvalidArgument naming a field, and the server hears nothing."""
    with pytest.raises(InvalidArgument) as caught:
        client.write_attributes("4711", **arguments)
    assert caught.value.violations
    assert not bank.script.got("WriteAttributes")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"attributes": "email"}, "attributes"),
        ({"max_form": "naked"}, "max_form"),
        ({"purpose": 5}, "purpose"),
        ({"purpose": "\ud800"}, "purpose"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
    ],
)
def test_a_wrong_argument_of_a_read_is_named(client: Any, arguments: dict[str, Any], field: str) -> None:
    """A wrong argument raises InvalidArgument with its name."""
    with pytest.raises(InvalidArgument) as caught:
        client.read_attributes("4711", **({"purpose": "p", "attributes": ["email"]} | arguments))
    assert [violation.field for violation in caught.value.violations] == [field]


def test_a_customer_number_of_the_wrong_type_is_not_quoted(client: Any) -> None:
    """The refusal of a customer number names the field and does not repeat the number."""
    with pytest.raises(InvalidArgument) as caught:
        client.get_consent(98765)
    assert "98765" not in repr(caught.value)


def test_a_consent_is_recorded_with_all_that_was_said(client: Any, bank: Bank) -> None:
    """Every argument of record_consent is in the request, moments in UTC."""
    bank.script.says("RecordConsent", consent.RecordConsentResponse())
    client.record_consent(
        "4711",
        purpose="marketing",
        state="given",
        channel="app",
        notice="offers",
        notice_version=2,
        language="en",
        jurisdiction="EU",
        evidence="doc-9",
        valid_from=MOMENT,
        expires_at=MOMENT.astimezone(datetime.timezone(datetime.timedelta(hours=5))),
        jurisdictions=["EU"],
        request_id="c-1",
    )
    assert sent(bank, "RecordConsent") == consent.RecordConsentRequest(
        request_id="c-1",
        customer_number="4711",
        purpose="marketing",
        state=consent.CONSENT_STATE_GIVEN,
        notice="offers",
        notice_version=2,
        language="en",
        jurisdiction="EU",
        channel="app",
        evidence="doc-9",
        valid_from=STAMP,
        expires_at=STAMP,
        jurisdictions=["EU"],
    )


def test_a_naive_moment_is_refused(client: Any) -> None:
    """A datetime without a time zone raises InvalidArgument naming the argument."""
    with pytest.raises(InvalidArgument, match="expires_at"):
        client.record_consent(
            "4711", purpose="p", state="given", channel="app", expires_at=MOMENT.replace(tzinfo=None)
        )


def test_an_event_receipt_tells_what_is_now_in_force(client: Any, bank: Bank) -> None:
    """The receipt of a withdrawal has the event, its record and the effective state by purpose."""
    effective = consent.PurposeConsent(
        purpose="offers",
        reason=values.DENIAL_REASON_CONSENT_WITHDRAWN,
        categories=["pd:Income"],
        expires_at=STAMP,
        notice_version=2,
        objected=True,
        bases=["contract"],
    )
    bank.script.says(
        "WithdrawConsent", consent.WithdrawConsentResponse(token=TOKEN, effective=[effective], replayed=True)
    )
    receipt = client.withdraw_consent("4711", purpose="marketing", channel="app")
    assert (receipt.event_id, receipt.seq, receipt.record_id, receipt.position) == (
        "event-1",
        3,
        "record-1",
        7,
    )
    assert receipt.replayed
    offers = receipt.effective["offers"]
    assert (offers.consented, offers.reason) == (False, DenialReason.CONSENT_WITHDRAWN)
    assert (offers.categories, offers.bases, offers.expires_at) == (("pd:Income",), ("contract",), MOMENT)
    assert (offers.objected, offers.opted_out, offers.notice_version) == (True, False, 2)


@pytest.mark.parametrize(
    ("name", "method", "answer", "arguments", "request_kind"),
    [
        (
            "restrict_subject",
            "RestrictSubject",
            rights.RestrictSubjectResponse,
            {},
            rights.RestrictSubjectRequest,
        ),
        (
            "lift_restriction",
            "LiftRestriction",
            rights.LiftRestrictionResponse,
            {},
            rights.LiftRestrictionRequest,
        ),
        (
            "object_to_purpose",
            "ObjectToPurpose",
            rights.ObjectToPurposeResponse,
            {"purpose": "marketing", "channel": "phone", "evidence": "call-3", "lift": True},
            rights.ObjectToPurposeRequest,
        ),
        (
            "withdraw_consent",
            "WithdrawConsent",
            consent.WithdrawConsentResponse,
            {"purpose": "marketing", "channel": "phone", "evidence": "call-3"},
            consent.WithdrawConsentRequest,
        ),
    ],
)
def test_rights_and_withdrawals_carry_a_request_id(
    client: Any, bank: Bank, name: str, method: str, answer: Any, arguments: dict[str, Any], request_kind: Any
) -> None:
    """Each sends its arguments with a request id and answers the event with that id."""
    bank.script.says(method, answer(token=TOKEN))
    receipt = getattr(client, name)("4711", **arguments)
    assert sent(bank, method) == request_kind(
        request_id=receipt.request_id, customer_number="4711", **arguments
    )
    assert (receipt.event_id, receipt.record_id, bool(receipt.request_id)) == ("event-1", "record-1", True)


def test_consent_is_shown_by_purpose(client: Any, bank: Bank) -> None:
    """get_consent answers what is in force, the jurisdictions and whether the customer is restricted."""
    purposes = [consent.PurposeConsent(purpose="offers", consented=True, bases=["consent"])]
    bank.script.says(
        "GetConsent",
        consent.GetConsentResponse(purposes=purposes, jurisdictions=["EU"], restricted=True, record=RECORD),
    )
    overview = client.get_consent("4711")
    assert sent(bank, "GetConsent").customer_number == "4711"
    assert (overview.purposes["offers"].consented, overview.purposes["offers"].reason) == (True, None)
    assert (overview.jurisdictions, overview.restricted, overview.record_id) == (("EU",), True, "record-1")


def test_the_ledger_is_read_page_by_page(client: Any, bank: Bank) -> None:
    """list_consent_events follows the page tokens to the end and keeps the order."""
    first = consent.ConsentEvent(
        event_id="1",
        seq=1,
        state=consent.CONSENT_STATE_OBJECTION_LIFTED,
        scope=[consent.CoveredPurpose(purpose="offers", categories=["pd:Income"])],
        recorded_at=STAMP,
    )
    pages = {
        "": consent.ListConsentEventsResponse(events=[first], next_page_token="t"),
        "t": consent.ListConsentEventsResponse(events=[consent.ConsentEvent(event_id="2", seq=2)]),
    }
    bank.script.on("ListConsentEvents", lambda request, _: pages[request.page_token])
    events = list(client.list_consent_events("4711", page_size=1))
    assert [event.event_id for event in events] == ["1", "2"]
    assert (events[0].state, events[0].recorded_at) == (ConsentState.OBJECTION_LIFTED, MOMENT)
    assert (dict(events[0].scope), events[0].expires_at) == ({"offers": ("pd:Income",)}, None)
    assert events[1].state is ConsentState.UNRECOGNISED
    assert {request.page_size for request in bank.script.got("ListConsentEvents")} == {1}


def test_a_server_that_goes_in_circles_is_an_error(client: Any, bank: Bank) -> None:
    """The same page token again raises Internal instead of reading for ever."""
    bank.script.says("ListConsentEvents", consent.ListConsentEventsResponse(next_page_token="t"))
    with pytest.raises(Internal):
        list(client.list_consent_events("4711"))


def test_a_decision_is_explained(client: Any, bank: Bank) -> None:
    """explain_decision sends the question and answers form or reason with the rules."""
    rule = policy.MatchingRule(
        id="r1", line=3, effect="allow", act="read.mask", basis="consent", basis_holds=True
    )
    bank.script.says(
        "ExplainDecision",
        policy.ExplainDecisionResponse(
            explanations=[
                policy.Explanation(
                    attribute="email", form=values.FORM_MASK, rule="r1", rules=[rule], text="so"
                ),
                policy.Explanation(
                    attribute="iban", reason=values.DENIAL_REASON_BASIS_MISSING, wanted_bases=["consent"]
                ),
            ],
            bundle_hash="ab12",
            record=RECORD,
        ),
    )
    told = client.explain_decision("engine", purpose="p", attributes=["email", "iban"], bases=["consent"])
    assert sent(bank, "ExplainDecision") == policy.ExplainDecisionRequest(
        caller="engine", purpose="p", attributes=["email", "iban"], bases=["consent"]
    )
    email, iban = told.explanations
    assert (email.form, email.reason, email.rules[0].line, email.text) == (Form.MASK, None, 3, "so")
    assert (iban.form, iban.reason, iban.wanted_bases) == (None, DenialReason.BASIS_MISSING, ("consent",))


def test_the_bundle_is_shown_with_its_files(client: Any, bank: Bank) -> None:
    """get_bundle answers hash, moment, engine, and the files where they were asked for."""
    bank.script.says(
        "GetBundle",
        policy.GetBundleResponse(
            bundle_hash="ab12", loaded_at=STAMP, files={"policy.csv": b"p"}, engine="compiled", record=RECORD
        ),
    )
    bundle = client.get_bundle(include_files=True)
    assert sent(bank, "GetBundle").include_files
    assert (bundle.bundle_hash, bundle.loaded_at, bundle.engine) == ("ab12", MOMENT, "compiled")
    assert dict(bundle.files) == {"policy.csv": b"p"}


def test_records_are_queried_with_all_filters_on_every_page(client: Any, bank: Bank) -> None:
    """query_records keeps its filters from page to page and gives the exact bytes of each record."""
    record = audit.LogRecord(position=4, entry=b'{"action":"read"}')
    pages = {
        "": audit.QueryRecordsResponse(records=[record], next_page_token="t"),
        "t": audit.QueryRecordsResponse(records=[record]),
    }
    bank.script.on("QueryRecords", lambda request, _: pages[request.page_token])
    filters: dict[str, Any] = {
        "caller": "engine",
        "customer_number": "4711",
        "purpose": "offers",
        "attribute": "email",
        "outcome": "denied",
        "action": "read",
        "newest_first": True,
        "page_size": 1,
    }
    records = list(client.query_records(start_time=MOMENT, end_time=MOMENT, **filters))
    assert [(each.position, each.entry) for each in records] == [(4, b'{"action":"read"}')] * 2
    assert records[0].document == {"action": "read"}
    wanted = audit.QueryRecordsRequest(start_time=STAMP, end_time=STAMP, **filters)
    following = audit.QueryRecordsRequest(start_time=STAMP, end_time=STAMP, page_token="t", **filters)
    assert bank.script.got("QueryRecords") == [wanted, following]


def test_the_checkpoint_is_given_as_it_is(client: Any, bank: Bank) -> None:
    """get_checkpoint answers the signed note unchanged."""
    note = "bank.example/log\n3\nabc=\n\n— bank.example/log sig\n"
    bank.script.says(
        "GetCheckpoint",
        audit.GetCheckpointResponse(checkpoint=note, verifier_key="v", size=3, record=RECORD),
    )
    answer = client.get_checkpoint()
    assert (answer.checkpoint, answer.verifier_key, answer.size, answer.position) == (note, "v", 3, 7)


def test_every_call_has_a_deadline(client: Any, bank: Bank) -> None:
    """A call without a timeout of its own gets the client's ten seconds."""
    left: list[float] = []
    bank.script.on(
        "GetCheckpoint",
        lambda _, context: left.append(context.time_remaining()) or audit.GetCheckpointResponse(),
    )
    client.get_checkpoint()
    assert 0 < left[0] <= 10


def test_a_call_that_hangs_ends_at_its_deadline(client: Any, bank: Bank) -> None:
    """A server that does not answer makes DeadlineExceeded, not a hanging client."""
    released = threading.Event()
    bank.script.on("GetCheckpoint", lambda _, __: released.wait(30) and audit.GetCheckpointResponse())
    try:
        with pytest.raises(DeadlineExceeded):
            client.get_checkpoint(timeout=0.2)
    finally:
        released.set()


@pytest.mark.parametrize(
    ("code", "reason"),
    [(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"), (grpc.StatusCode.CANCELLED, "")],
)
def test_a_retried_write_carries_the_same_request_id(
    client: Any, bank: Bank, code: grpc.StatusCode, reason: str
) -> None:
    """On UNAVAILABLE, and where the server drops the call, the same write is sent again, with its id."""
    bank.script.on(
        "WriteAttributes",
        fail(code, reason),
        lambda _, __: data.WriteAttributesResponse(),
    )
    receipt = client.write_attributes("4711", {"city": "Bern"})
    ids = [request.request_id for request in bank.script.got("WriteAttributes")]
    assert ids == [receipt.request_id] * 2


def test_retries_are_bounded(client: Any, bank: Bank) -> None:
    """A server that stays unavailable is tried as often as the policy says, then Unavailable is raised."""
    bank.script.on("GetCheckpoint", fail(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"))
    with pytest.raises(Unavailable):
        client.get_checkpoint()
    assert len(bank.script.got("GetCheckpoint")) == 3


def test_a_refusal_is_not_tried_again(client: Any, bank: Bank) -> None:
    """Anything else is final at once."""
    bank.script.on("GetCheckpoint", fail(grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED"))
    with pytest.raises(NotPermitted):
        client.get_checkpoint()
    assert len(bank.script.got("GetCheckpoint")) == 1
