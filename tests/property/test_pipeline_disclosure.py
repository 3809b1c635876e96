"""What the pipeline discloses, held against the rules as Casbin reads them and consent as a lawyer would.

Random histories of one customer, random callers, purposes and bounds. The expectation is made without the
compiled engine, without `vault.consent.bases` and without consent_state: Casbin decides, and which bases hold
is read off the list of events from the newest to the oldest, as the rules of consent are told in words.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.identity import FAKES_ARE_FINE
from tests.support.pipelines import NOTICES, House, open_house
from vault.client.results import Disclosure
from vault.domain.types import REASON_ORDER, Form, Purpose, Reason
from vault.policy.reference import CasbinEngine
from vault.testing import FakeClock

pytestmark = FAKES_ARE_FINE

VALUES: dict[str, Any] = {
    "given-name": "Ana",
    "email": "ana@b.example",
    "income": "41000",
    "balance": "100",
    "customer-segment": "affluent",
    "vulnerability-note": "needs a chair",
    "device-fingerprint": "abc",
    "biometric-template": b"\x01",
    "transactions-summary": "{}",
    "credit-in-default": False,
}
ASKED = [*VALUES, "mobile-phone", "no-such-attribute"]
ENTITLED = {
    "personalised-offers": "personalization-engine",
    "email-campaigns": "marketing-platform",
    "partner-offers": "marketing-platform",
    "account-servicing": "customer-portal",
    "customer-support": "call-centre",
    "account-security": "customer-portal",
    "fraud-detection": "fraud-detection",
    "aml-screening": "compliance-checks",
    "collections": "collections-desk",
    "product-analytics": "analytics",
    "model-training": "analytics",
    "subject-rights": "privacy-office",
}
PURPOSES = [*ENTITLED, "no-such-purpose"]
INNER = ["marketing", "service", "security", "analytics"]
JURISDICTIONS = [("EU",), ("US-CA",), ("EU", "US-CA"), ("BR",)]
NEGATIVE = ["refused", "withdrawn", "expired", "invalidated"]
ENDED = {
    "refused": Reason.CONSENT_REFUSED,
    "withdrawn": Reason.CONSENT_WITHDRAWN,
    "expired": Reason.CONSENT_EXPIRED,
    "invalidated": Reason.CONSENT_MISSING,
}
STANDS_ABOVE = {"legal-claim", "rights-of-others", "important-public-interest"}
SECOND = 1_000_000


@dataclass(frozen=True)
class Event:
    """A state for a purpose; a grant lasts for `seconds` and refers to a version of its notice."""

    state: str
    purpose: str
    seconds: int = 0
    version: int = 0


GRANTS = st.builds(
    lambda state, purpose, seconds, back: Event(state, purpose, seconds, max(1, NOTICES[purpose][1] - back)),
    st.sampled_from(["given", "renewed"]),
    st.sampled_from(sorted(NOTICES)),
    st.sampled_from([5, 1_000]),
    st.sampled_from([0, 0, 1]),
)
TAKEN_BACK = st.builds(
    Event,
    st.sampled_from([*NEGATIVE, "requested", "objection-lifted", "opted-out", "opted-in"]),
    st.sampled_from([*ENTITLED, *INNER]),
)
MARKETING = ["personalised-offers", "email-campaigns", "partner-offers", "marketing"]
OBJECTIONS = st.builds(Event, st.just("objected"), st.sampled_from([*MARKETING, "analytics", "security"]))
RESTRICTIONS = st.builds(Event, st.sampled_from(["restricted", "lifted"]), st.just(""))
EVENTS = st.lists(st.one_of(GRANTS, GRANTS, TAKEN_BACK, OBJECTIONS, RESTRICTIONS), max_size=6)


# --- the expectation --------------------------------------------------------------------------------------


class Lawyer:
    """Says which bases hold for one customer, from the events alone."""

    def __init__(
        self, house: House, events: Sequence[tuple[int, Event]], where: Sequence[str], now: int
    ) -> None:
        bundle = house.rooms.policy.current.bundle
        self.purposes, self.notices = bundle.purposes, bundle.notices
        self.events = list(events)
        self.where, self.now = where, now
        self.restricted_at = self._restricted_at()

    def _restricted_at(self) -> int | None:
        """The event that restricted; asking for it once more while it is in force changes nothing."""
        since = None
        for place, (_, event) in enumerate(self.events):
            if event.state == "lifted":
                since = None
            elif event.state == "restricted" and since is None:
                since = place
        return since

    def bases(self, purpose: Purpose, category: str) -> tuple[set[str], dict[str, Reason]]:
        """The bases that hold, and why the others do not."""
        why: dict[str, Reason] = {}
        held: set[str] = set()
        declared = [{each.value for each in purpose.declared(place)} for place in self.where]
        for basis in set.intersection(*declared):
            reason = self._against(purpose, basis)
            if reason is None:
                held.add(basis)
            else:
                why[basis] = reason
        reason = self._against_consent(purpose, category)
        if reason is None:
            held.add("consent")
        else:
            why["consent"] = reason
        if purpose.direct_marketing and self._objected_to_marketing():
            return set(), dict.fromkeys([*held, *why, "consent", "opt-out"], Reason.OBJECTED)
        return held, why

    def _against(self, purpose: Purpose, basis: str) -> Reason | None:
        if self.restricted_at is not None and basis not in STANDS_ABOVE and purpose.id != "subject-rights":
            return Reason.NOT_AVAILABLE
        objected = self._last(purpose, ("objected", "objection-lifted")) == "objected"
        if basis == "opt-out":
            if objected:
                return Reason.OBJECTED
            out = self._last(purpose, ("opted-out", "opted-in")) == "opted-out"
            return Reason.OPTED_OUT if out else None
        if basis == "legitimate-interest" and objected and not purpose.objection_overridden:
            return Reason.OBJECTED
        return None

    def _against_consent(self, purpose: Purpose, category: str) -> Reason | None:
        for place in reversed(range(len(self.events))):
            recorded_at, event = self.events[place]
            if event.state in NEGATIVE and event.purpose in (purpose.id, *purpose.ancestors):
                return ENDED[event.state]
            covers = self._covers(event).get(purpose.id)
            if covers:
                return self._of_grant(place, recorded_at, event, purpose, covers, category)
        return Reason.CONSENT_MISSING

    def _of_grant(
        self,
        place: int,
        recorded_at: int,
        event: Event,
        purpose: Purpose,
        covers: frozenset[str],
        category: str,
    ) -> Reason | None:
        if self.restricted_at is not None and place < self.restricted_at:
            return Reason.NOT_AVAILABLE
        if self.now >= recorded_at + event.seconds * SECOND:
            return Reason.CONSENT_EXPIRED
        if event.version < purpose.notice_minimum_version:
            return Reason.NOTICE_OUTDATED
        return None if category in covers else Reason.OUT_OF_SCOPE

    def _covers(self, event: Event) -> dict[str, frozenset[str]]:
        """The leaves a grant covers: at or below its purpose, listed by its notice, with that notice."""
        if event.state not in ("given", "renewed"):
            return {}
        name = NOTICES[event.purpose][0]
        listed = self.notices[name, event.version].covers
        return {
            leaf: categories
            for leaf, categories in listed.items()
            if event.purpose in (leaf, *self.purposes[leaf].ancestors) and self.purposes[leaf].notice == name
        }

    def _last(self, purpose: Purpose, states: tuple[str, str]) -> str:
        concerned = (purpose.id, *purpose.ancestors)
        found = [e.state for _, e in self.events if e.state in states and e.purpose in concerned]
        return found[-1] if found else ""

    def _objected_to_marketing(self) -> bool:
        return any(
            self._last(leaf, ("objected", "objection-lifted")) == "objected"
            for leaf in self.purposes.values()
            if leaf.leaf and leaf.direct_marketing
        )


def expected(
    house: House,
    lawyer: Lawyer,
    casbin: CasbinEngine,
    caller: str,
    purpose: str,
    name: str,
    bound: Form | None,
) -> str:
    """The form, or the reason, that the rules and the law give."""
    bundle = house.rooms.policy.current.bundle
    attribute, node = bundle.attributes.get(name), bundle.purposes.get(purpose)
    if attribute is None or node is None or not casbin.entitled(caller, purpose):
        return Reason.NOT_PERMITTED.value
    held, why = lawyer.bases(node, attribute.category)
    decision = casbin.decide(caller, purpose, name, frozenset(held), bound)
    if decision.form is not None:
        return decision.form.value if name in VALUES else Reason.NOT_SET.value
    if decision.reason is not Reason.BASIS_MISSING:
        return str(decision.reason)
    if lawyer.restricted_at is not None:
        return Reason.NOT_AVAILABLE.value
    reasons = [why.get(basis, Reason.BASIS_MISSING) for basis in decision.wanted]
    return min(reasons, key=REASON_ORDER.__getitem__).value


# --- the comparison ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def house(clock: FakeClock) -> Iterator[House]:
    with tempfile.TemporaryDirectory() as folder, open_house(Path(folder), clock) as opened:
        yield opened


@pytest.fixture(scope="module")
def casbin(house: House) -> CasbinEngine:
    return CasbinEngine(house.rooms.policy.current.bundle)


@pytest.fixture(scope="module")
def customers() -> Iterator[str]:
    return (f"customer-{n}" for n in range(1_000_000))


def live(house: House, clock: FakeClock, number: str, events: Sequence[Event]) -> list[tuple[int, Event]]:
    """Record the events, a second apart."""
    happened = []
    for event in events:
        clock.advance(1)
        if event.state in ("restricted", "lifted"):
            house.restrict(number, lift=event.state == "lifted")
        elif event.state in ("given", "renewed"):
            house.record(
                number,
                event.purpose,
                event.state,
                notice=NOTICES[event.purpose][0],
                notice_version=event.version,
                expires_at=clock.now() + event.seconds * SECOND,
            )
        else:
            house.record(number, event.purpose, event.state)
        happened.append((clock.now(), event))
    return happened


def told(answer: Disclosure) -> dict[str, str]:
    forms = {name: str(each.form) for name, each in answer.attributes.items()}
    return forms | {name: str(each.reason) for name, each in answer.denied.items()}


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    events=EVENTS,
    where=st.sampled_from(JURISDICTIONS),
    later=st.sampled_from([0.0, 3.0, 10.0]),
    stranger=st.sampled_from([*ENTITLED.values(), "auditor"]),
    purposes=st.lists(st.sampled_from(PURPOSES), min_size=3, max_size=6, unique=True),
    bound=st.sampled_from([None, *Form]),
)
def test_what_is_disclosed_is_what_rules_and_consent_give(
    house: House,
    clock: FakeClock,
    casbin: CasbinEngine,
    customers: Iterator[str],
    events: list[Event],
    where: tuple[str, ...],
    later: float,
    stranger: str,
    purposes: list[str],
    bound: Form | None,
) -> None:
    """Form or reason of every attribute, for every purpose asked, are those of the expectation."""
    number = next(customers)
    house.write(number, VALUES, jurisdictions=where)
    happened = live(house, clock, number, events)
    clock.advance(later)
    lawyer = Lawyer(house, happened, where, clock.now())
    questions = [(ENTITLED.get(purpose, stranger), purpose) for purpose in purposes]
    for caller, purpose in [*questions, (stranger, purposes[0])]:
        answer = house.read(caller, number, purpose, ASKED, max_form=bound)
        assert told(answer) == {
            name: expected(house, lawyer, casbin, caller, purpose, name, bound) for name in ASKED
        }
