"""Reading: who gets what, in which form, and what is said to those who get nothing. On both engines."""

import datetime
from decimal import Decimal
from typing import Any

import grpc
import pytest

from tests.support import wire
from tests.support.service import RunningService
from vault.client import DenialReason, Form, InvalidArgument, NotPermitted

ANA: dict[str, Any] = {
    "given-name": "Ana",
    "email": "ana.sousa@mail.example",
    "income": Decimal("41250.00"),
    "balance": Decimal("1200.50"),
    "product-holdings": [{"product": "current-account", "since": "2019-04"}],
    "date-of-birth": datetime.date(1984, 5, 30),
    "vulnerability-note": "needs a chair",
    "card-number": "4000123412341234",
}
OFFERS = ["given-name", "email", "income", "product-holdings", "vulnerability-note"]


def customer(service: RunningService, *, consent: bool = False) -> str:
    """A new customer with `ANA`'s data, and consent to offers where told so."""
    number = service.customer()
    service.client("importer").write_attributes(number, ANA, jurisdictions=["EU"])
    if consent:
        give(service, number, "personalised-offers", "offers", 2)
    return number


def give(service: RunningService, number: str, purpose: str, notice: str, version: int) -> None:
    in_a_year = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    service.client("customer-portal").record_consent(
        number,
        purpose=purpose,
        state="given",
        channel="app",
        notice=notice,
        notice_version=version,
        language="en",
        jurisdiction="EU",
        expires_at=in_a_year,
    )


def test_with_consent_the_engine_gets_exactly_what_the_rules_give(either: RunningService) -> None:
    """Name clear, e-mail masked, income in a band, holdings clear; health data are denied even so."""
    number = customer(either, consent=True)
    answer = either.client("personalization-engine").read_attributes(
        number, purpose="personalised-offers", attributes=OFFERS
    )
    assert {name: (each.form, each.value) for name, each in answer.attributes.items()} == {
        "given-name": (Form.CLEAR, "Ana"),
        "email": (Form.MASK, "a***@m***.example"),
        "income": (Form.GENERALISE, "40000-60000"),
        "product-holdings": (Form.CLEAR, [{"product": "current-account", "since": "2019-04"}]),
    }
    assert answer.denied["vulnerability-note"].reason is DenialReason.NOT_PERMITTED


def test_without_consent_every_attribute_is_denied_for_that(either: RunningService) -> None:
    """An entitled caller is told that consent is missing, per attribute."""
    answer = either.client("personalization-engine").read_attributes(
        customer(either), purpose="personalised-offers", attributes=OFFERS[:4]
    )
    assert not answer.attributes
    assert {each.reason for each in answer.denied.values()} == {DenialReason.CONSENT_MISSING}


def test_answers_are_in_the_order_asked(either: RunningService) -> None:
    """Given and denied attributes stand where they were asked for."""
    number = customer(either, consent=True)
    names = ["vulnerability-note", "income", "iban", "email", "given-name"]
    request = wire.read_request(number, "personalised-offers", names)
    answer = wire.data_stub(either.channel("personalization-engine")).ReadAttributes(request, timeout=20)
    assert [each.name for each in answer.attributes] == names


def test_a_read_is_on_record_before_it_is_answered(either: RunningService) -> None:
    """The record an answer names is in the log, with form, rule, bases, consent and bundle, and no value."""
    number = customer(either, consent=True)
    answer = either.client("personalization-engine").read_attributes(
        number,
        purpose="personalised-offers",
        attributes=["income", "iban"],
        request_id="offer-run.17",
    )
    record = either.records()[answer.position]
    assert record["id"] == answer.record_id
    assert record["attributes"] == {
        "income": {"act": "read.generalise", "bases": ["consent"], "rule": "offers-income"},
        "iban": {
            "act": "read.clear",
            "reason": "not-permitted",
            "rule": "no-account-number-for-marketing",
        },
    }
    assert (record["caller"], record["purpose"]) == ("personalization-engine", "personalised-offers")
    assert (record["outcome"], record["request"]) == ("partial", "offer-run.17")
    assert record["policy"] == answer.bundle_hash
    assert len(record["consents"]) == 1
    assert number not in str(record)


def test_a_caller_that_is_not_entitled_learns_nothing(either: RunningService) -> None:
    """Known or unknown purpose, attribute and customer: who has no rule gets the same answer but for ids."""
    number = customer(either, consent=True)
    stub = wire.data_stub(either.channel("auditor"))
    answers = []
    for asked, purpose, attribute in [
        (number, "personalised-offers", "email"),
        (number, "personalised-offers", "no-such-attribute"),
        (number, "no-such-purpose", "email"),
        (number, "marketing", "email"),
        (number, "administration", "email"),
        (number, "personalised-offers", "none"),
        ("no-such-customer", "personalised-offers", "email"),
        ("no-such-customer", "no-such-purpose", "no-such-attribute"),
    ]:
        answer = stub.ReadAttributes(wire.read_request(asked, purpose, [attribute]), timeout=20)
        for each in answer.attributes:
            each.name = ""
        answer.ClearField("record")
        answers.append(answer.SerializeToString())
    assert len(set(answers)) == 1


def test_a_caller_that_is_not_entitled_is_told_not_permitted(either: RunningService) -> None:
    """The answer is OK with `not-permitted` per attribute, and on record as denied."""
    answer = either.client("auditor").read_attributes(
        customer(either), purpose="personalised-offers", attributes=["email", "income"]
    )
    assert {each.reason for each in answer.denied.values()} == {DenialReason.NOT_PERMITTED}
    assert either.records()[answer.position]["outcome"] == "denied"


def test_an_entitled_caller_is_told_that_a_customer_is_not_available(either: RunningService) -> None:
    """Unknown customers are `not-available`, as erased and restricted ones are."""
    answer = either.client("fraud-detection").read_attributes(
        "no-such-customer", purpose="fraud-detection", attributes=["email", "income"]
    )
    assert answer.denied["email"].reason is DenialReason.NOT_AVAILABLE
    assert answer.denied["income"].reason is DenialReason.NOT_PERMITTED
    assert either.records()[answer.position]["subject"] == "unknown"


def test_an_attribute_nobody_declared_is_not_permitted(either: RunningService) -> None:
    """To an entitled caller too, an unknown attribute looks like one that no rule gives."""
    answer = either.client("fraud-detection").read_attributes(
        customer(either), purpose="fraud-detection", attributes=["no-such-attribute", "marital-status"]
    )
    assert {each.reason for each in answer.denied.values()} == {DenialReason.NOT_PERMITTED}


def test_a_value_that_was_never_set_is_told_as_such(either: RunningService) -> None:
    """What is permitted and has no value is `not-set`."""
    answer = either.client("fraud-detection").read_attributes(
        customer(either), purpose="fraud-detection", attributes=["mobile-phone"]
    )
    assert answer.denied["mobile-phone"].reason is DenialReason.NOT_SET


def test_an_inner_purpose_is_refused_with_the_leaves_that_help(either: RunningService) -> None:
    """A caller entitled to a leaf below is told that an inner node cannot be requested."""
    with pytest.raises(InvalidArgument) as caught:
        either.client("personalization-engine").read_attributes(
            customer(either), purpose="marketing", attributes=["email"]
        )
    assert caught.value.reason == "PURPOSE_NOT_LEAF"
    assert "personalised-offers" in caught.value.message
    assert "partner-offers" not in caught.value.message
    record = either.records()[-1]
    assert (record["outcome"], record["detail"]) == ("error", {"error": "PURPOSE_NOT_LEAF"})


@pytest.mark.parametrize(
    ("max_form", "given"),
    [
        (None, Form.CLEAR),
        (Form.CLEAR, Form.CLEAR),
        (Form.MASK, Form.MASK),
        (Form.PSEUDONYMISE, Form.PSEUDONYMISE),
        (Form.GENERALISE, Form.EXISTS),
        (Form.EXISTS, Form.EXISTS),
    ],
)
def test_max_form_asks_for_less(either: RunningService, max_form: Form | None, given: Form) -> None:
    """An e-mail address has no generalised form: whoever asks for that gets what is below it."""
    answer = either.client("fraud-detection").read_attributes(
        customer(either), purpose="fraud-detection", attributes=["email"], max_form=max_form
    )
    assert answer["email"].form is given
    assert either.records()[answer.position].get("max_form", "") == (max_form or "")


def test_max_form_never_gives_more(either: RunningService) -> None:
    """Asking for clear where the rules give a mask gives the mask."""
    answer = either.client("personalization-engine").read_attributes(
        customer(either, consent=True),
        purpose="personalised-offers",
        attributes=["email"],
        max_form=Form.CLEAR,
    )
    assert answer["email"].form is Form.MASK


def test_exists_says_that_there_is_a_value_and_not_which(either: RunningService) -> None:
    """The form `exists` carries no value field at all."""
    request = wire.read_request(customer(either), "fraud-detection", ["email"], max_form=1)
    (each,) = wire.data_stub(either.channel("fraud-detection")).ReadAttributes(request, timeout=20).attributes
    assert not each.HasField("value")
    assert (each.form, each.version) == (1, 1)


def test_require_all_with_one_denial_releases_nothing(either: RunningService) -> None:
    """One attribute of two is permitted: the call fails, and the error holds the reason and no value."""
    number = customer(either)
    request = wire.read_request(number, "fraud-detection", ["email", "income"], require_all=True)
    stub = wire.data_stub(either.channel("fraud-detection"))
    failure = wire.refused(lambda: stub.ReadAttributes(request, timeout=20))
    assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "REQUIRE_ALL")
    assert failure.fields == {"attributes[income]": "not-permitted"}
    assert "ana.sousa" not in failure.text


def test_require_all_with_one_denial_is_on_record_as_denied(either: RunningService) -> None:
    """The record says denied and shows what each attribute would have got."""
    number = customer(either)
    with pytest.raises(NotPermitted):
        either.client("fraud-detection").read_attributes(
            number, purpose="fraud-detection", attributes=["email", "income"], require_all=True
        )
    record = either.records()[-1]
    assert (record["outcome"], record["require_all"]) == ("denied", 1)
    assert record["attributes"]["income"]["reason"] == "not-permitted"


def test_require_all_without_a_denial_answers(either: RunningService) -> None:
    """All permitted: the answer is complete."""
    answer = either.client("fraud-detection").read_attributes(
        customer(either), purpose="fraud-detection", attributes=["email", "given-name"], require_all=True
    )
    assert set(answer.attributes) == {"email", "given-name"}


def test_a_pseudonym_is_stable_and_another_for_another_caller(either: RunningService) -> None:
    """32 bytes, equal for equal values of one caller and attribute, different for two callers."""
    first, second = customer(either), customer(either)

    def pseudonym(caller: str, purpose: str, number: str) -> Any:
        return (
            either.client(caller)
            .read_attributes(number, purpose=purpose, attributes=["card-number"], max_form=Form.PSEUDONYMISE)
            .value("card-number")
        )

    fraud = pseudonym("fraud-detection", "fraud-detection", first)
    assert isinstance(fraud, bytes)
    assert len(fraud) == 32
    assert fraud == pseudonym("fraud-detection", "fraud-detection", second)
    assert fraud != pseudonym("privacy-office", "subject-rights", first)


def test_a_form_that_the_attribute_lacks_is_never_given(either: RunningService) -> None:
    """No rule gives a whole card number: the attribute has no clear form."""
    answer = either.client("privacy-office").read_attributes(
        customer(either), purpose="subject-rights", attributes=["card-number"]
    )
    assert (answer["card-number"].form, answer.value("card-number")) == (Form.MASK, "************1234")


def test_a_quota_ends_reading_for_the_hour(service: RunningService) -> None:
    """The third customer of a caller with a quota of two is refused, with the time to wait."""
    stub = wire.data_stub(service.channel("throttled"))
    for _ in range(2):
        stub.ReadAttributes(wire.read_request(customer(service), "fraud-detection", ["email"]), timeout=20)
    request = wire.read_request(customer(service), "fraud-detection", ["email"])
    failure = wire.refused(lambda: stub.ReadAttributes(request, timeout=20))
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert failure.retry_seconds is not None
    assert 0 < failure.retry_seconds <= 3_600
