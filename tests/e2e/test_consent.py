"""What customers decide binds at once: grants, withdrawals, objections, opt-outs, restrictions.

On both engines. Times that pass are tested with a clock that is told, in
tests/integration/test_pipeline_consent.py.
"""

import datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.support import wire
from tests.support.service import RunningService
from vault.client import AlreadyExists, ConsentState, DenialReason, InvalidArgument
from vault.v1 import consent_service_pb2 as consent

NOTICES = {
    "marketing": ("offers", 2),
    "personalised-offers": ("offers", 2),
    "email-campaigns": ("offers", 2),
    "partner-offers": ("partner-offers", 1),
    "model-training": ("model-training", 1),
    "customer-support": ("support-needs", 1),
}
READERS = {
    "personalised-offers": ("personalization-engine", "income"),
    "email-campaigns": ("marketing-platform", "email"),
    "partner-offers": ("marketing-platform", "email"),
    "product-analytics": ("analytics", "customer-segment"),
    "model-training": ("analytics", "income"),
    "fraud-detection": ("fraud-detection", "email"),
    "account-servicing": ("customer-portal", "email"),
    "customer-support": ("call-centre", "vulnerability-note"),
    "aml-screening": ("compliance-checks", "income"),
    "collections": ("collections-desk", "given-name"),
    "subject-rights": ("privacy-office", "email"),
}
"""Per purpose, a caller and an attribute that its rules give it."""


class Person:
    """One customer, as the channels and the readers see it."""

    def __init__(self, service: RunningService, *jurisdictions: str) -> None:
        self.service = service
        self.number = service.customer()
        self.jurisdictions = jurisdictions or ("EU",)
        values: dict[str, Any] = {
            "given-name": "Ana",
            "email": "ana@b.example",
            "income": Decimal("41000"),
            "customer-segment": "affluent",
            "vulnerability-note": "needs a chair",
            "device-fingerprint": "abc",
        }
        service.client("importer").write_attributes(self.number, values, jurisdictions=self.jurisdictions)

    def gives(self, purpose: str, state: str = "given", **more: Any) -> Any:
        notice, version = NOTICES[purpose]
        days = 364 if purpose in ("partner-offers", "marketing", "model-training") else 700
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        details: dict[str, Any] = {
            "notice": notice,
            "notice_version": version,
            "language": "en",
            "jurisdiction": self.jurisdictions[0],
            "expires_at": until,
            "channel": "app",
            **more,
        }
        client = self.service.client("customer-portal")
        return client.record_consent(self.number, purpose=purpose, state=state, **details)

    def says(self, state: str, purpose: str, **more: Any) -> Any:
        """A state of RecordConsent that needs no notice."""
        client = self.service.client("customer-portal")
        return client.record_consent(self.number, purpose=purpose, state=state, **{"channel": "app", **more})

    def withdraws(self, purpose: str) -> Any:
        client = self.service.client("customer-portal")
        return client.withdraw_consent(self.number, purpose=purpose, channel="app")

    def objects(self, purpose: str, *, lift: bool = False) -> Any:
        client = self.service.client("customer-portal")
        return client.object_to_purpose(self.number, purpose=purpose, channel="app", lift=lift)

    def restricted(self, *, lift: bool = False) -> Any:
        client = self.service.client("privacy-office")
        return client.lift_restriction(self.number) if lift else client.restrict_subject(self.number)

    def seen(self, purpose: str, attribute: str = "") -> str:
        """The form that the purpose's reader gets, or the reason of the denial."""
        caller, usual = READERS[purpose]
        name = attribute or usual
        answer = self.service.client(caller).read_attributes(self.number, purpose=purpose, attributes=[name])
        return str(answer.denied[name].reason if name in answer.denied else answer[name].form)

    def in_force(self, purpose: str) -> Any:
        return self.service.client("customer-portal").get_consent(self.number).purposes[purpose]


@pytest.fixture
def ana(either: RunningService) -> Person:
    return Person(either)


@pytest.fixture
def lee(either: RunningService) -> Person:
    return Person(either, "US-CA")


# --- consent ----------------------------------------------------------------------------------------------


def test_consent_turns_a_purpose_on_and_withdrawal_off_at_once(ana: Person) -> None:
    """The read after each acknowledged change sees it."""
    assert ana.seen("personalised-offers") == "consent-missing"
    for _ in range(3):
        ana.gives("personalised-offers")
        assert ana.seen("personalised-offers") == "generalise"
        ana.withdraws("personalised-offers")
        assert ana.seen("personalised-offers") == "consent-withdrawn"


def test_a_grant_covers_what_its_notice_lists_and_no_more(ana: Person) -> None:
    """A grant at the inner node turns on the leaves its notice covers, for the categories listed there."""
    ana.gives("marketing")
    assert ana.seen("personalised-offers") == "generalise"
    assert ana.seen("email-campaigns") == "clear"
    assert ana.seen("partner-offers") == "consent-missing"


def test_a_category_outside_the_grant_is_out_of_scope(ana: Person) -> None:
    """Consent to offers on an old notice does not list what the newer one does."""
    ana.gives("email-campaigns", notice_version=1)
    assert ana.seen("email-campaigns") == "clear"
    assert ana.seen("email-campaigns", "customer-segment") == "out-of-scope"


def test_a_notice_below_the_minimum_version_does_not_count(ana: Person) -> None:
    """Offers need version 2; campaigns go on with version 1."""
    ana.gives("marketing", notice_version=1)
    assert ana.seen("personalised-offers") == "notice-outdated"
    assert ana.seen("email-campaigns") == "clear"


def test_withdrawing_at_the_root_withdraws_every_leaf(ana: Person) -> None:
    """Also leaves that were consented to one by one."""
    ana.gives("personalised-offers")
    ana.gives("partner-offers")
    ana.withdraws("marketing")
    assert ana.seen("personalised-offers") == "consent-withdrawn"
    assert ana.seen("partner-offers") == "consent-withdrawn"


def test_a_grant_after_a_withdrawal_at_the_root_turns_on_its_leaf_alone(ana: Person) -> None:
    """The other leaves stay withdrawn."""
    ana.gives("marketing")
    ana.withdraws("marketing")
    ana.gives("personalised-offers")
    assert ana.seen("personalised-offers") == "generalise"
    assert ana.seen("email-campaigns") == "consent-withdrawn"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("refused", "consent-refused"),
        ("expired", "consent-expired"),
        ("invalidated", "consent-missing"),
    ],
)
def test_every_negative_state_ends_consent(ana: Person, state: str, reason: str) -> None:
    """Each with its own reason where it has one."""
    ana.gives("personalised-offers")
    ana.says(state, "personalised-offers")
    assert ana.seen("personalised-offers") == reason


def test_a_request_for_consent_changes_nothing(ana: Person) -> None:
    """Double opt-in: only the second event counts, and asking again does not end what was given."""
    ana.says("requested", "personalised-offers")
    assert ana.seen("personalised-offers") == "consent-missing"
    ana.gives("personalised-offers")
    ana.says("requested", "personalised-offers")
    assert ana.seen("personalised-offers") == "generalise"


def test_renewing_replaces_the_grant(ana: Person) -> None:
    """A renewal on the newer notice makes an outdated consent count again."""
    ana.gives("personalised-offers", notice_version=1)
    assert ana.seen("personalised-offers") == "notice-outdated"
    ana.gives("personalised-offers", "renewed")
    assert ana.seen("personalised-offers") == "generalise"


def test_special_data_need_consent_of_their_own(ana: Person) -> None:
    """Support reads a note on health with explicit consent alone, though the contract covers the rest."""
    assert ana.seen("customer-support") == "consent-missing"
    assert ana.seen("customer-support", "email") == "clear"
    ana.gives("customer-support")
    assert ana.seen("customer-support") == "clear"


def test_consent_for_an_unknown_number_makes_the_customer(either: RunningService) -> None:
    """Consent may come before data; jurisdictions are needed then."""
    number = either.customer()
    client = either.client("customer-portal")
    with pytest.raises(InvalidArgument) as caught:
        client.record_consent(number, purpose="marketing", state="refused", channel="app")
    assert [each.field for each in caught.value.violations] == ["jurisdictions"]
    receipt = client.record_consent(
        number, purpose="marketing", state="refused", channel="app", jurisdictions=["EU"]
    )
    assert receipt.seq == 1
    assert client.get_consent(number).jurisdictions == ("EU",)


# --- objection --------------------------------------------------------------------------------------------


def test_an_objection_ends_legitimate_interest(ana: Person) -> None:
    """Product analytics rest on it, and end; lifting the objection brings them back."""
    assert ana.seen("product-analytics") == "clear"
    ana.objects("product-analytics")
    assert ana.seen("product-analytics") == "objected"
    ana.objects("product-analytics", lift=True)
    assert ana.seen("product-analytics") == "clear"


def test_an_objection_does_not_end_what_outweighs_it(ana: Person) -> None:
    """Fraud detection goes on (purposes.yaml says why), and so does what rests on the contract."""
    ana.objects("security")
    ana.objects("service")
    assert ana.seen("fraud-detection") == "clear"
    assert ana.seen("account-servicing") == "clear"


def test_an_objection_to_direct_marketing_falls_on_every_basis(ana: Person) -> None:
    """GDPR 21(3): consent given before and after counts for nothing, in every direct-marketing leaf."""
    ana.gives("marketing")
    ana.objects("email-campaigns")
    assert ana.seen("email-campaigns") == "objected"
    assert ana.seen("personalised-offers") == "objected"
    ana.gives("personalised-offers")
    assert ana.seen("personalised-offers") == "objected"
    ana.objects("email-campaigns", lift=True)
    assert ana.seen("personalised-offers") == "generalise"


def test_a_grant_tells_that_an_objection_is_in_force(ana: Person) -> None:
    """A grant never lifts an objection: the answer shows the effective state."""
    ana.objects("marketing")
    receipt = ana.gives("personalised-offers")
    effective = receipt.effective["personalised-offers"]
    assert (effective.consented, effective.reason, effective.objected) == (
        False,
        DenialReason.OBJECTED,
        True,
    )


# --- opt-out ----------------------------------------------------------------------------------------------


def test_in_california_offers_are_made_until_the_customer_opts_out(lee: Person) -> None:
    """The basis `opt-out` holds without consent, falls with opting out, and comes back with opting in."""
    assert lee.seen("personalised-offers") == "generalise"
    lee.says("opted-out", "personalised-offers")
    assert lee.seen("personalised-offers") == "consent-missing"
    assert lee.seen("email-campaigns") == "clear"
    lee.says("opted-in", "personalised-offers")
    assert lee.seen("personalised-offers") == "generalise"


def test_an_opt_out_at_the_root_binds_every_leaf(lee: Person) -> None:
    """A Global Privacy Control signal is an opt-out with its own channel, and the ledger shows it."""
    lee.says("opted-out", "marketing", channel="gpc")
    assert lee.seen("personalised-offers") == "consent-missing"
    assert lee.seen("email-campaigns") == "consent-missing"
    (event,) = lee.service.client("customer-portal").list_consent_events(lee.number)
    assert (event.state, event.channel) == (ConsentState.OPTED_OUT, "gpc")


def test_with_two_jurisdictions_the_stricter_default_holds(either: RunningService) -> None:
    """A customer of California and the EU is asked first."""
    both = Person(either, "US-CA", "EU")
    assert both.seen("personalised-offers") == "consent-missing"
    assert both.seen("product-analytics") == "clear"


def test_moving_to_another_jurisdiction_binds_at_once(lee: Person) -> None:
    """A recorded write changes the jurisdictions; the next read sees it."""
    lee.service.client("importer").write_attributes(lee.number, {"given-name": "Lee"}, jurisdictions=["EU"])
    assert lee.seen("personalised-offers") == "consent-missing"


# --- restriction ------------------------------------------------------------------------------------------


def test_a_restricted_customer_is_not_available(ana: Person) -> None:
    """Consent given before, contract and legitimate interest end; the reader is not told why."""
    ana.gives("personalised-offers")
    ana.restricted()
    for purpose in ("personalised-offers", "account-servicing", "product-analytics"):
        assert ana.seen(purpose) == "not-available"


def test_what_stands_above_a_restriction_goes_on(ana: Person) -> None:
    """Rights of others, important public interest and legal claims (GDPR 18(2))."""
    ana.restricted()
    assert ana.seen("fraud-detection") == "not-available"
    assert ana.seen("fraud-detection", "device-fingerprint") == "clear"
    assert ana.seen("aml-screening", "given-name") == "clear"
    assert ana.seen("collections") == "clear"


def test_a_restricted_customer_keeps_the_rights_of_a_customer(ana: Person) -> None:
    """The privacy office reads all there is for `subject-rights`: it has requests to answer."""
    ana.restricted()
    for attribute in ("given-name", "email", "income", "vulnerability-note"):
        assert ana.seen("subject-rights", attribute) == "clear"


def test_consent_after_the_restriction_holds(ana: Person) -> None:
    """Consent is the customer's to give, also then."""
    ana.restricted()
    ana.gives("personalised-offers")
    assert ana.seen("personalised-offers") == "generalise"


def test_lifting_a_restriction_brings_everything_back(ana: Person) -> None:
    """Also the consent given before it."""
    ana.gives("personalised-offers")
    ana.restricted()
    assert ana.service.client("customer-portal").get_consent(ana.number).restricted
    ana.restricted(lift=True)
    assert ana.seen("personalised-offers") == "generalise"
    assert ana.seen("account-servicing") == "clear"
    assert not ana.service.client("customer-portal").get_consent(ana.number).restricted


def test_writing_goes_on_for_a_restricted_customer(ana: Person) -> None:
    """Restriction leaves storing alone (GDPR 4(3))."""
    ana.restricted()
    receipt = ana.service.client("importer").write_attributes(ana.number, {"email": "new@b.example"})
    assert receipt.versions == {"email": 2}


# --- ledger and tokens ------------------------------------------------------------------------------------


def test_events_get_a_seq_in_the_order_they_were_recorded(ana: Person) -> None:
    """Restrictions share the count with consent events."""
    seqs = [
        ana.gives("personalised-offers").seq,
        ana.withdraws("marketing").seq,
        ana.objects("marketing").seq,
        ana.restricted().seq,
        ana.says("refused", "marketing").seq,
    ]
    assert seqs == [1, 2, 3, 4, 5]


def test_a_consent_event_is_on_record_and_names_no_customer(ana: Person) -> None:
    """Action, purpose, event id and pseudonym; the reads it decides name the same event."""
    receipt = ana.gives("personalised-offers")
    record = ana.service.records()[receipt.position]
    assert record["id"] == receipt.record_id
    assert (record["action"], record["purpose"], record["consents"]) == (
        "consent.record",
        "personalised-offers",
        [receipt.event_id],
    )
    answer = ana.service.client("personalization-engine").read_attributes(
        ana.number, purpose="personalised-offers", attributes=["income"]
    )
    read = ana.service.records()[answer.position]
    assert read["consents"] == [receipt.event_id]
    assert read["subject"] == record["subject"]
    assert ana.number not in str(record)


def test_the_ledger_shows_what_the_customer_was_shown(ana: Person) -> None:
    """Notice, version, language, digest, scope, channel, evidence and who recorded it."""
    ana.gives("personalised-offers", evidence="call 4711", channel="phone")
    (event,) = ana.service.client("customer-portal").list_consent_events(ana.number)
    assert (event.notice, event.notice_version, event.language) == ("offers", 2, "en")
    assert len(event.notice_sha256) == 64
    assert list(event.scope) == ["personalised-offers"]
    assert "pd:Income" in event.scope["personalised-offers"]
    assert (event.channel, event.evidence, event.recorded_by) == ("phone", "call 4711", "customer-portal")
    assert event.state is ConsentState.GIVEN


def test_the_ledger_comes_in_pages(ana: Person) -> None:
    """Each event once, oldest first, whatever the size of the page."""
    for _ in range(4):
        ana.gives("personalised-offers")
        ana.withdraws("personalised-offers")
    stub = wire.consent_stub(ana.service.channel("customer-portal"))
    seqs, token, pages = [], "", 0
    while True:
        page = stub.ListConsentEvents(
            consent.ListConsentEventsRequest(customer_number=ana.number, page_size=3, page_token=token),
            timeout=20,
        )
        pages += 1
        seqs += [event.seq for event in page.events]
        token = page.next_page_token
        if not token:
            break
    assert (seqs, pages) == (list(range(1, 9)), 3)


def test_get_consent_shows_every_leaf(ana: Person) -> None:
    """What holds now, on which bases, until when; in order of the purposes."""
    ana.gives("personalised-offers")
    overview = ana.service.client("customer-portal").get_consent(ana.number)
    assert list(overview.purposes) == sorted(overview.purposes)
    offers, servicing = overview.purposes["personalised-offers"], overview.purposes["account-servicing"]
    assert (offers.consented, offers.reason, offers.notice_version) == (True, None, 2)
    assert offers.expires_at is not None
    assert "consent" in offers.bases
    assert (servicing.consented, servicing.bases) == (False, ("contract",))
    assert "marketing" not in overview.purposes


def test_a_repeated_consent_is_recorded_once(ana: Person) -> None:
    """Same id, same content: same event; the answer shows what is in force by now."""
    request_id = wire.request_id()
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=100)
    first = ana.gives("personalised-offers", request_id=request_id, expires_at=until)
    ana.withdraws("personalised-offers")
    again = ana.gives("personalised-offers", request_id=request_id, expires_at=until)
    assert again.replayed
    assert (again.event_id, again.seq, again.position) == (first.event_id, first.seq, first.position)
    assert not again.effective["personalised-offers"].consented
    assert ana.seen("personalised-offers") == "consent-withdrawn"
    with pytest.raises(AlreadyExists):
        ana.gives("personalised-offers", request_id=request_id, expires_at=until, channel="branch")


def test_a_repeated_restriction_happens_once(ana: Person) -> None:
    """Same id: same seq, so consent given in between still holds."""
    client, request_id = ana.service.client("privacy-office"), wire.request_id()
    first = client.restrict_subject(ana.number, request_id=request_id)
    ana.gives("personalised-offers")
    again = client.restrict_subject(ana.number, request_id=request_id)
    assert (again.replayed, again.seq) == (True, first.seq)
    assert ana.seen("personalised-offers") == "generalise"


def test_negative_events_reach_the_outside_store(ana: Person) -> None:
    """A restored backup must not forget them: one file per event, without the customer number."""
    receipt = ana.withdraws("marketing")
    outside = ana.service.home / "outside"

    def arrived() -> list[str]:
        return [path.read_text() for path in outside.rglob(f"{receipt.position:020}.json")]

    ana.service.wait_until(lambda: bool(arrived()), "deliver the event")
    (document,) = arrived()
    assert receipt.event_id in document
    assert '"withdrawn"' in document
    assert ana.number not in document
