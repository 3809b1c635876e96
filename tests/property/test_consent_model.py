"""Effective bases against a naive model that replays the whole ledger, sentence by sentence of consent.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.consent import (
    ACCOUNTS,
    EMAIL,
    FRAUD,
    INCOME,
    MARKETING,
    NEWSLETTER,
    OFFERS,
    PHONE,
    PROFILING,
    notices,
    purpose,
    tree,
)
from tests.support.store import NOW, subject_of
from vault.consent.bases import effective
from vault.consent.events import ConsentRequest, EventStamp, build_event
from vault.domain.errors import InvalidArgumentError
from vault.domain.types import (
    Basis,
    ConsentEntry,
    ConsentEvent,
    ConsentState,
    Lane,
    Purpose,
    Reason,
    Subject,
)

LEAVES = (OFFERS, NEWSLETTER, PROFILING, FRAUD, ACCOUNTS)
CATEGORIES = (INCOME, EMAIL, PHONE)
TREE = tree()
NEGATIVE = (
    ConsentState.REFUSED,
    ConsentState.WITHDRAWN,
    ConsentState.EXPIRED,
    ConsentState.INVALIDATED,
    ConsentState.OBJECTED,
    ConsentState.OPTED_OUT,
)
SECOND = 1_000_000


@dataclass(frozen=True)
class Restriction:
    """The subject's restriction, or its end, at a place in the ledger."""

    on: bool


def requests(states: Sequence[ConsentState] = tuple(ConsentState)) -> st.SearchStrategy[ConsentRequest]:
    return st.builds(
        lambda state, purpose_id, version, lasts: ConsentRequest(
            purpose=purpose_id,
            state=state,
            channel="app",
            notice="offers" if state.grants else "",
            notice_version=version if state.grants else 0,
            language="en" if state.grants else "",
            expires_at=NOW + lasts * SECOND if state.grants and lasts else 0,
        ),
        st.sampled_from(states),
        st.sampled_from([MARKETING, *LEAVES]),
        st.integers(1, 3),
        st.sampled_from([0, 5, 50]),
    )


steps = st.lists(st.one_of(requests(), requests(), st.builds(Restriction, st.booleans())), max_size=12)
jurisdictions = st.sampled_from([("EU",), ("US-CA",), ("GB",), ("EU", "GB"), ("EU", "US-CA")])
moments = st.sampled_from([NOW, NOW + 5 * SECOND, NOW + 6 * SECOND, NOW + 100 * SECOND])


class Ledger:
    """The real functions, with a dict for consent_state; and the plain list of events for the model."""

    def __init__(self, places: tuple[str, ...]) -> None:
        self.subject = subject_of(1, jurisdictions=places)
        self.rows: dict[tuple[str, Lane], ConsentEntry] = {}
        self.events: list[ConsentEvent] = []
        self.seq = 0

    def take(self, step: ConsentRequest | Restriction) -> None:
        if isinstance(step, Restriction):
            self._restrict(step.on)
            return
        try:
            event, rows = build_event(
                TREE, notices(), step, EventStamp(f"event-{self.seq + 1}", self.seq + 1, "portal", NOW)
            )
        except InvalidArgumentError:
            return
        self.seq += 1
        self.events.append(event)
        self.rows |= {(row.purpose, row.lane): row for row in rows}

    def _restrict(self, on: bool) -> None:
        self.seq += 1
        place = (self.subject.restricted_seq or self.seq) if on else 0
        self.subject = subject_of(1, jurisdictions=self.subject.jurisdictions, restricted_seq=place)

    def bases(
        self, leaf: str, category: str, now: int, purposes: Mapping[str, Purpose] = TREE
    ) -> frozenset[str]:
        rows = tuple(self.rows.values())
        return effective(purposes, self.subject, rows, leaf, now).for_category(category)


def ledger_of(taken: Sequence[ConsentRequest | Restriction], places: tuple[str, ...]) -> Ledger:
    ledger = Ledger(places)
    for step in taken:
        ledger.take(step)
    return ledger


def latest(events: Sequence[ConsentEvent]) -> ConsentEvent | None:
    return max(events, key=lambda event: event.seq, default=None)


def model_lane(events: Sequence[ConsentEvent], leaf: Purpose, lane: Lane) -> ConsentState | None:
    """ "The highest seq of leaf and ancestors wins."""
    found = latest(
        [one for one in events if one.state.lane is lane and one.purpose in (leaf.id, *leaf.ancestors)]
    )
    return found.state if found else None


def model_consent(
    events: Sequence[ConsentEvent], leaf: Purpose, category: str, now: int
) -> ConsentEvent | None:
    """The event by which consent holds, or None."""
    found = latest(
        [
            one
            for one in events
            if one.state.lane is Lane.CONSENT
            and one.state is not ConsentState.REQUESTED
            and (leaf.id in one.scope if one.state.grants else one.purpose in (leaf.id, *leaf.ancestors))
        ]
    )
    if found is None or not found.state.grants:
        return None
    timely = now < found.expires_at if found.expires_at else not leaf.consent_lifetime_seconds
    noticed = leaf.notice in ("", found.notice) and found.notice_version >= leaf.notice_minimum_version
    return found if timely and noticed and category in found.scope[leaf.id] else None


def model_bases(
    events: Sequence[ConsentEvent], subject: Subject, leaf: Purpose, category: str, now: int
) -> set[str]:
    def objected(to: Purpose) -> bool:
        return model_lane(events, to, Lane.OBJECTION) is ConsentState.OBJECTED

    marketing = [one for one in TREE.values() if one.leaf and one.direct_marketing]
    if leaf.direct_marketing and any(objected(one) for one in marketing):
        return set()
    bases = {
        basis.value
        for basis in Basis
        if all(basis in leaf.declared(place) for place in subject.jurisdictions)
    }
    if objected(leaf) or model_lane(events, leaf, Lane.OPT_OUT) is ConsentState.OPTED_OUT:
        bases.discard("opt-out")
    if objected(leaf) and not leaf.objection_overridden:
        bases.discard("legitimate-interest")
    consent = model_consent(events, leaf, category, now)
    if subject.restricted_seq:
        bases &= {"legal-claim", "rights-of-others", "important-public-interest"}
    if consent is not None and consent.seq > subject.restricted_seq:
        bases.add("consent")
    return bases


@given(steps, jurisdictions, moments)
@settings(max_examples=400, deadline=None)
def test_bases_are_those_of_a_replay_of_the_ledger(
    taken: list[ConsentRequest | Restriction], places: tuple[str, ...], now: int
) -> None:
    """State rows and one pass give what replaying every event by the rules gives."""
    ledger = ledger_of(taken, places)
    for leaf in LEAVES:
        for category in CATEGORIES:
            expected = model_bases(ledger.events, ledger.subject, TREE[leaf], category, now)
            assert ledger.bases(leaf, category, now) == expected, (leaf, category)


@given(steps, jurisdictions, moments, requests(NEGATIVE) | st.just(Restriction(True)))
@settings(max_examples=400, deadline=None)
def test_no_negative_event_or_restriction_adds_a_basis(
    taken: list[ConsentRequest | Restriction],
    places: tuple[str, ...],
    now: int,
    last: ConsentRequest | Restriction,
) -> None:
    """Withdrawing, refusing, objecting, opting out or restricting only ever takes away."""
    ledger = ledger_of(taken, places)
    asked = [(leaf, category) for leaf in LEAVES for category in CATEGORIES]
    before = {(leaf, category): ledger.bases(leaf, category, now) for leaf, category in asked}
    ledger.take(last)
    for leaf, category in asked:
        assert ledger.bases(leaf, category, now) <= before[leaf, category]


@given(steps, jurisdictions, st.sampled_from([MARKETING, *LEAVES]))
@settings(max_examples=200, deadline=None)
def test_a_withdrawal_ends_consent_at_and_below_its_purpose(
    taken: list[ConsentRequest | Restriction], places: tuple[str, ...], at: str
) -> None:
    """After a withdrawal no leaf at or below it has consent, for any category."""
    ledger = ledger_of([*taken, ConsentRequest(at, ConsentState.WITHDRAWN, "app")], places)
    for leaf in LEAVES:
        if leaf == at or at in TREE[leaf].ancestors:
            assert all("consent" not in ledger.bases(leaf, category, NOW) for category in CATEGORIES)


@given(steps, jurisdictions)
@settings(max_examples=200, deadline=None)
def test_a_leaf_added_later_is_in_no_old_grant(
    taken: list[ConsentRequest | Restriction], places: tuple[str, ...]
) -> None:
    """A leaf that joins the tree below a granted purpose has no consent and changes no other leaf."""
    ledger = ledger_of(taken, places)
    wider = tree(purpose("partner-offers", MARKETING))
    for category in CATEGORIES:
        assert ledger.bases("partner-offers", category, NOW, wider) == frozenset()
        for leaf in LEAVES:
            assert ledger.bases(leaf, category, NOW, wider) == ledger.bases(leaf, category, NOW)


@given(steps, jurisdictions, moments, st.sampled_from(LEAVES), st.sampled_from(CATEGORIES))
@settings(max_examples=200, deadline=None)
def test_a_denial_has_a_reason_of_the_basis_kind(
    taken: list[ConsentRequest | Restriction], places: tuple[str, ...], now: int, leaf: str, category: str
) -> None:
    """Whatever is wanted and not held gets a reason between not-available and basis-missing."""
    ledger = ledger_of(taken, places)
    bases = effective(TREE, ledger.subject, tuple(ledger.rows.values()), leaf, now)
    order = list(Reason)
    for wanted in {"consent", "contract", "opt-out", "legitimate-interest"} - bases.for_category(category):
        reason = bases.reason(category, frozenset({wanted}))
        assert order.index(Reason.NOT_AVAILABLE) <= order.index(reason) <= order.index(Reason.BASIS_MISSING)
        assert (reason is Reason.NOT_AVAILABLE) == bool(ledger.subject.restricted_seq)
