"""Erasing a customer: what goes, what stays, who reads it then, and what comes after."""

import datetime
import json
import uuid
from collections.abc import Iterator

import pytest

from tests.support.erasure import (
    class_traces,
    erase,
    evidence,
    set_retention,
    subject_id,
    subject_traces,
    tables,
)
from tests.support.identity import FAKES_ARE_FINE
from tests.support.pipelines import House, open_house
from vault.client import DenialReason
from vault.crypto.receipts import verify_receipt
from vault.domain.errors import (
    IntegrityError,
    InvalidArgumentError,
    KeysUnavailableError,
    NotFoundError,
    NotPermittedError,
    RequestIdReusedError,
)
from vault.domain.types import Caller, Form
from vault.erasing.receipts import Erasure
from vault.testing import FakeClock

pytestmark = [FAKES_ARE_FINE, pytest.mark.usefixtures("every_store")]

YEAR = 365 * 86_400.0
CONTACT = {"email": "ana@b.example", "mobile-phone": "+351 900 000 000"}
IDENTITY = {"given-name": "Ana", "tax-id": "123456789"}


@pytest.fixture(scope="module")
def clock(every_store: str) -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock, every_store: str) -> Iterator[House]:
    """Each test has customers of its own; time only goes on."""
    with open_house(tmp_path_factory.mktemp("house"), clock) as opened:
        yield opened


@pytest.fixture
def ana(request: pytest.FixtureRequest) -> str:
    return f"ana-{request.node.name}"


def reason(house: House, number: str, attribute: str, caller: str, purpose: str) -> DenialReason | None:
    answer = house.read(caller, number, purpose, [attribute])
    return answer.denied[attribute].reason if answer.denied else None


def test_classes_without_a_ground_go_and_the_others_stay_for_their_ground(house: House, ana: str) -> None:
    """No table holds anything of the erased class; what stays is read for its ground and for nothing else."""
    house.write(ana, CONTACT | IDENTITY)
    traces = class_traces(house.place, subject_id(house, ana), {"contact"})
    assert len(traces.found(tables(house.place))) >= 4

    outcome = erase(house, ana)

    assert outcome.erased == ("contact",)
    assert [one.key_class for one in outcome.retained] == ["identity"]
    assert not outcome.whole
    assert traces.found(tables(house.place)) == set()
    assert house.read("privacy-office", ana, "subject-rights", ["given-name"]).value("given-name") == "Ana"
    assert reason(house, ana, "given-name", "compliance-checks", "aml-screening") is None
    for attribute in ("given-name", "email"):
        assert reason(house, ana, attribute, "fraud-detection", "fraud-detection") is (
            DenialReason.NOT_AVAILABLE
        )
    answer = house.read("fraud-detection", ana, "fraud-detection", ["given-name"], max_form=Form.EXISTS)
    assert answer.denied["given-name"].reason is DenialReason.NOT_AVAILABLE


def test_an_erased_customer_looks_like_an_unknown_one(house: House, ana: str) -> None:
    """Whoever reads for another purpose than the ground's gets the answers of a number that never was."""
    house.write(ana, CONTACT | IDENTITY | {"income": "41000"})
    house.record(ana, "personalised-offers", "given")
    erase(house, ana)
    asked = ["email", "given-name", "income", "marital-status"]
    for caller, purpose in (
        ("fraud-detection", "fraud-detection"),
        ("personalization-engine", "personalised-offers"),
        ("call-centre", "account-servicing"),
    ):
        known = house.read(caller, ana, purpose, asked)
        unknown = house.read(caller, f"never-{ana}", purpose, asked)
        assert (known.attributes, known.denied) == (unknown.attributes, unknown.denied)


def test_nothing_is_left_of_a_customer_whom_nothing_keeps(house: House, ana: str) -> None:
    """Lookup rows, encrypted number and pseudonym are in no table but the log; the number is unknown."""
    house.write(ana, CONTACT)
    house.record(ana, "marketing", "refused")
    subject = subject_id(house, ana)
    path = house.place
    traces = subject_traces(path, subject)
    outcome = erase(house, ana)
    assert outcome.whole
    places = tables(path)
    log = places.pop("log_entry")
    assert traces.found(places) == set()
    assert traces.found({"log_entry": log}) == {("pseudonym", "log_entry")}
    ids = {
        table for table, content in places.items() if subject in content or subject.hex().encode() in content
    }
    assert ids == {"outbox"}
    with pytest.raises(NotFoundError):
        erase(house, ana)
    assert reason(house, ana, "email", "fraud-detection", "fraud-detection") is DenialReason.NOT_AVAILABLE


def test_a_number_that_comes_back_is_another_subject(house: House, ana: str) -> None:
    """Its new subject id and pseudonym lead to nothing from before."""
    house.write(ana, CONTACT)
    before = subject_id(house, ana)
    erase(house, ana)
    house.write(ana, {"email": "new@b.example"})
    assert subject_id(house, ana) != before
    answer = house.read("fraud-detection", ana, "fraud-detection", ["email"])
    assert answer.value("email") == "new@b.example"


def test_what_is_written_after_an_erasure_gets_a_key_of_its_own(house: House, ana: str) -> None:
    """The new value is read as any other, also in a class that stays; what stays only for its ground."""
    house.write(ana, CONTACT | IDENTITY)
    erase(house, ana)
    written = house.write(ana, {"email": "new@b.example", "given-name": "Eva"}, jurisdictions=())
    assert dict(written.versions)["email"] == 1
    answer = house.read("fraud-detection", ana, "fraud-detection", ["email", "given-name", "tax-id"])
    assert answer.value("email") == "new@b.example"
    assert answer.value("given-name") == "Eva"
    keys = house.sql(
        "SELECT key_class, retained_since > 0 FROM subject_key WHERE subject = ? ORDER BY 1, 2",
        subject_id(house, ana),
    )
    assert keys == [("contact", 0), ("identity", 0), ("identity", 1)]
    assert reason(house, ana, "tax-id", "call-centre", "account-servicing") is DenialReason.NOT_AVAILABLE
    assert reason(house, ana, "tax-id", "compliance-checks", "aml-screening") is None


def test_consents_move_into_sealed_evidence(house: House, ana: str) -> None:
    """The ledger is empty, the evidence has every event as it stood, and only the receipt id leads to it."""
    house.write(ana, CONTACT | IDENTITY)
    given = house.record(ana, "personalised-offers", "given")
    withdrawn = house.record(ana, "email-campaigns", "withdrawn")
    subject = subject_id(house, ana)
    outcome = erase(house, ana)
    assert outcome.receipt is not None
    document = json.loads(evidence(house, outcome.receipt.id))
    assert [(one["event"], one["state"]) for one in document["events"]] == [
        (given.token.event_id, "given"),
        (withdrawn.token.event_id, "withdrawn"),
    ]
    assert document["receipt"] == outcome.receipt.id
    assert house.sql("SELECT 1 FROM consent_event WHERE subject = ?", subject) == []
    assert json.loads(outcome.receipt.raw)["evidence"]["events"] == 2
    assert subject not in tables(house.place)["erasure_evidence"]
    page = house.pipelines.views.events(house.caller("privacy-office"), ana, 0, 10)
    assert page.events == ()


def test_what_permits_ends_and_what_forbids_stays(house: House, ana: str) -> None:
    """A grant is gone, an objection binds what is written later, and the ledger's numbers go on."""
    house.write(ana, CONTACT | IDENTITY)
    house.record(ana, "personalised-offers", "given")
    objected = house.record(ana, "fraud-detection", "objected")
    withdrawn = house.record(ana, "email-campaigns", "withdrawn")
    erase(house, ana)
    states = house.sql("SELECT state FROM consent_state WHERE subject = ? ORDER BY 1", subject_id(house, ana))
    assert states == [("objected",), ("withdrawn",)]
    later = house.record(ana, "marketing", "refused")
    assert later.token.seq == withdrawn.token.seq + 1 > objected.token.seq


def test_a_repeat_answers_the_same_receipt_also_when_the_customer_is_gone(house: House, ana: str) -> None:
    """The bytes are the same, signed anew; nothing more is destroyed, and the log names the first."""
    house.write(ana, CONTACT)
    request_id = f"erase-{ana}"[:64]
    first = erase(house, ana, request_id=request_id)
    house.write(ana, {"email": "new@b.example"})
    again = erase(house, ana, request_id=request_id)
    assert first.receipt is not None
    assert again.receipt is not None
    assert again.receipt.raw == first.receipt.raw
    assert (again.replayed, again.whole, again.recorded) == (True, True, first.recorded)
    assert house.records()[-1]["detail"]["replay_of"] == first.recorded.record_id
    assert house.read("fraud-detection", ana, "fraud-detection", ["email"]).value("email") == "new@b.example"
    with pytest.raises(RequestIdReusedError):
        erase(house, f"other-{ana}", request_id=request_id)


def test_the_receipt_is_signed_and_says_what_happened_where(house: House, ana: str) -> None:
    """The signature verifies under its domain prefix alone, any change breaks it, the log position is that of
    the record, and neither customer number nor value is in it."""
    house.write(ana, CONTACT | IDENTITY)
    outcome = erase(house, ana)
    assert outcome.receipt is not None
    assert outcome.signature is not None
    raw, signed = outcome.receipt.raw, outcome.signature
    verify_receipt(raw, signed.signature, signed.public_key)
    for forged in (raw[:-1] + b" ", raw.replace(b'"whole":0', b'"whole":1')):
        with pytest.raises(IntegrityError):
            verify_receipt(forged, signed.signature, signed.public_key)
    document = json.loads(raw)
    record = house.records()[document["log"]["position"]]
    assert record["id"] == document["log"]["record"] == outcome.recorded.record_id
    assert record["action"] == "subject.erase"
    assert record["detail"]["receipt"] == document["receipt"]
    assert {one["where"] for one in document["survives"]} == {
        "backups",
        "database pages",
        "write-ahead log",
    }
    assert document["erased"] == [{"class": "contact", "keys": 1, "values": 2}]
    assert ana.encode() not in raw
    assert all(str(value).encode() not in raw for value in CONTACT.values())


def test_a_dry_run_tells_the_same_and_destroys_nothing(house: House, ana: str) -> None:
    """Its answer is that of the erasure that follows; it is on record as a preview."""
    house.write(ana, CONTACT | IDENTITY)
    before = class_traces(house.place, subject_id(house, ana), {"contact", "identity"})
    preview = erase(house, ana, dry_run=True)
    assert house.records()[-1]["action"] == "subject.erase-preview"
    after = class_traces(house.place, subject_id(house, ana), {"contact", "identity"})
    assert after == before
    done = erase(house, ana)
    assert (preview.erased, preview.retained, preview.whole) == (done.erased, done.retained, done.whole)
    assert preview.receipt is None


def test_a_hold_keeps_everything_and_opens_it_for_claims_alone(house: House, ana: str) -> None:
    """Nothing is destroyed, the ledger neither; collections reads under legal-claim, fraud detection does
    not; when the hold is lifted a second erasure destroys what only the hold had kept."""
    house.write(ana, CONTACT | IDENTITY)
    house.record(ana, "marketing", "refused")
    set_retention(house, ana, hold="Case 2026/118")
    held = erase(house, ana)
    assert held.erased == ()
    assert [(one.key_class, one.legal_hold) for one in held.retained] == [
        ("contact", True),
        ("identity", False),
        ("identity", True),
    ]
    assert held.retained[0].ground == "Case 2026/118"
    assert len(house.pipelines.views.events(house.caller("privacy-office"), ana, 0, 10).events) == 1
    assert house.read("collections-desk", ana, "collections", ["given-name"]).value("given-name") == "Ana"
    assert reason(house, ana, "email", "fraud-detection", "fraud-detection") is DenialReason.NOT_AVAILABLE
    set_retention(house, ana, hold="")
    assert reason(house, ana, "given-name", "collections-desk", "collections") is DenialReason.NOT_AVAILABLE
    assert erase(house, ana).erased == ("contact",)


def test_an_erasure_after_the_ground_ran_out_takes_the_rest(house: House, clock: FakeClock, ana: str) -> None:
    """Until the last moment of the period the class stays; after it nothing is left of the customer."""
    house.write(ana, CONTACT | IDENTITY)
    today = house.rooms.clock.now() // 86_400_000_000
    ended = (datetime.date(1970, 1, 1) + datetime.timedelta(days=today)).isoformat()
    set_retention(house, ana, ended_on=ended)
    first = erase(house, ana)
    ends_at = first.retained[0].ends_at
    assert ends_at is not None
    clock.advance((ends_at - clock.now()) / 1_000_000 - 1)
    assert erase(house, ana).retained
    clock.advance(1)
    assert erase(house, ana).whole


def test_evidence_past_keeping_is_not_there(house: House, clock: FakeClock, ana: str) -> None:
    """From the moment its ground runs out it is not shown, whether swept or not."""
    house.write(ana, CONTACT)
    house.record(ana, "marketing", "refused")
    outcome = erase(house, ana)
    assert outcome.receipt is not None
    assert evidence(house, outcome.receipt.id)
    clock.advance(6 * YEAR)
    with pytest.raises(NotFoundError):
        evidence(house, outcome.receipt.id)


@pytest.mark.parametrize("receipt_id", ["", "4711", str(uuid.UUID(int=5)).upper() + "x", "A" * 36])
def test_evidence_is_asked_for_by_a_receipt_id(house: House, receipt_id: str) -> None:
    """What is no id is told so; what is one and leads nowhere is not found."""
    with pytest.raises(InvalidArgumentError):
        evidence(house, receipt_id)
    with pytest.raises(NotFoundError):
        evidence(house, str(uuid.UUID(int=5)))


def test_another_tenants_evidence_is_not_found(house: House, ana: str) -> None:
    """A receipt id is no key to another bank's evidence."""
    house.write(ana, CONTACT)
    house.record(ana, "marketing", "refused")
    outcome = erase(house, ana)
    assert outcome.receipt is not None
    stranger = Caller("privacy-office", "elsewhere", "spiffe://elsewhere/privacy-office")
    with pytest.raises(NotFoundError):
        house.pipelines.evidence.open(stranger, outcome.receipt.id)


def test_evidence_needs_a_key_and_without_one_nothing_is_erased(
    house: House, ana: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KMS that fails before the transaction leaves everything, and the failed call is on record."""
    house.write(ana, CONTACT)
    house.record(ana, "marketing", "refused")
    with monkeypatch.context() as patch:
        patch.setattr(type(house.rooms.provider), "wrap", _unavailable)
        with pytest.raises(KeysUnavailableError):
            erase(house, ana)
    assert house.records()[-1]["outcome"] == "error"
    assert reason(house, ana, "email", "fraud-detection", "fraud-detection") is None
    assert erase(house, ana).whole


def test_a_signature_that_fails_undoes_nothing_and_is_had_by_a_repeat(
    house: House, ana: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The customer is gone, the error says so, and the same request id gives the signed receipt."""
    house.write(ana, CONTACT)
    request_id = f"sign-{ana}"[:64]
    with monkeypatch.context() as patch:
        patch.setattr(type(house.rooms.provider), "sign", _unavailable)
        with pytest.raises(KeysUnavailableError, match="is erased") as failed:
            erase(house, ana, request_id=request_id)
    assert failed.value.retry_after_seconds
    assert reason(house, ana, "email", "fraud-detection", "fraud-detection") is DenialReason.NOT_AVAILABLE
    again = erase(house, ana, request_id=request_id)
    assert again.replayed
    assert again.signature is not None


def _unavailable(*_: object, **__: object) -> bytes:
    raise KeysUnavailableError("the KMS does not answer")


def test_who_may_not_erase_learns_nothing(house: House, ana: str) -> None:
    """A known and an unknown customer are refused alike, and the denial is on record."""
    house.write(ana, CONTACT)
    for number in (ana, f"never-{ana}"):
        with pytest.raises(NotPermittedError) as refused:
            house.pipelines.erasure.erase(house.caller("call-centre"), Erasure("r-1", number))
        assert str(refused.value) == "no rule permits subject.erase"
        assert house.records()[-1]["outcome"] == "denied"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ended_on": "2026-02-30"}, "relationship_ended_on"),
        ({"ended_on": "20260101"}, "relationship_ended_on"),
        ({"ended_on": "0026-01-01"}, "relationship_ended_on"),
        ({"ended_on": "9999-01-01"}, "relationship_ended_on"),
        ({"hold": "x" * 257}, "legal_hold"),
        ({"hold": "a\nb"}, "legal_hold"),
        ({}, "change"),
        ({"hold": "", "ended_on": ""}, "change"),
    ],
)
def test_a_wrong_change_of_retention_is_refused(
    house: House, ana: str, change: dict[str, str], field: str
) -> None:
    """A day that is none, or not yet, would keep or destroy the wrong data; the error names the field."""
    house.write(ana, CONTACT)
    with pytest.raises(InvalidArgumentError) as refused:
        set_retention(house, ana, **change)
    assert [one.field for one in refused.value.violations] == [field]


def test_a_change_of_retention_is_on_record_without_its_reason(house: House, ana: str) -> None:
    """The log says that there is a hold and since when the relationship is over, and not why."""
    house.write(ana, CONTACT)
    held = set_retention(house, ana, hold="Case Silva")
    ended = set_retention(house, ana, ended_on="2020-02-29")
    assert (held.hold, held.ended_on) == ("Case Silva", None)
    assert (ended.hold, str(ended.ended_on)) == ("Case Silva", "2020-02-29")
    record = house.records()[ended.recorded.position]
    assert record["detail"] == {
        "relationship_ended_on": "2020-02-29",
        "relationship_ended_on_before": "",
        "legal_hold": 1,
        "legal_hold_before": 1,
    }
    assert b"Silva" not in tables(house.place)["log_entry"]
    assert set_retention(house, ana, ended_on="").ended_on is None


def test_the_log_verifies_after_all_of_it(house: House) -> None:
    """Erasures leave a whole log."""
    assert house.verify().problems == []
