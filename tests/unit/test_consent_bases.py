"""Effective bases: one test per sentence of consent.md."""

import pytest

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
    purpose,
    tree,
)
from tests.support.store import NOW, state_entry, subject_of
from vault.consent.bases import effective
from vault.domain.types import SUBJECT_RIGHTS, Basis, ConsentEntry, ConsentState, Reason

CONSENT = frozenset({"consent"})
TREE = tree()


def grant(seq: int, leaf: str = OFFERS, **fields: object) -> ConsentEntry:
    defaults: dict[str, object] = {
        "notice": "offers",
        "notice_version": 2,
        "expires_at": NOW + 1,
        "categories": frozenset({INCOME}),
    }
    return state_entry(leaf, ConsentState.GIVEN, seq, **(defaults | fields))


def held(
    *consents: ConsentEntry, leaf: str = OFFERS, category: str = INCOME, **subject: object
) -> frozenset[str]:
    return effective(TREE, subject_of(1, **subject), consents, leaf, NOW).for_category(category)


def why(
    *consents: ConsentEntry,
    leaf: str = OFFERS,
    wanted: frozenset[str] = CONSENT,
    category: str = INCOME,
    **subject: object,
) -> Reason:
    return effective(TREE, subject_of(1, **subject), consents, leaf, NOW).reason(category, wanted)


def test_a_grant_gives_consent_for_its_categories() -> None:
    """Consent holds for a category in the scope of a grant that is in force."""
    assert held(grant(1)) == {"consent"}


def test_a_renewal_is_a_grant() -> None:
    """Consent renewed holds as consent given does."""
    renewed = state_entry(
        OFFERS,
        ConsentState.RENEWED,
        2,
        notice="offers",
        notice_version=2,
        expires_at=NOW + 1,
        categories=frozenset({INCOME}),
    )
    assert held(state_entry(OFFERS, ConsentState.WITHDRAWN, 1), renewed) == {"consent"}


def test_a_category_outside_the_scope_has_no_consent() -> None:
    """A grant covers the categories its notice listed, no other."""
    assert held(grant(1), category=PHONE) == frozenset()
    assert why(grant(1), category=PHONE) is Reason.OUT_OF_SCOPE


def test_consent_ends_at_its_expiry() -> None:
    """At expires_at itself consent no longer holds."""
    assert why(grant(1, expires_at=NOW)) is Reason.CONSENT_EXPIRED


def test_a_grant_without_expiry_is_none_where_the_purpose_demands_one() -> None:
    """A purpose that demands a lifetime does not accept a grant that never ends."""
    assert why(grant(1, expires_at=0)) is Reason.CONSENT_EXPIRED


def test_a_grant_without_expiry_holds_where_none_is_demanded() -> None:
    """expires_at 0 means never for a purpose without consent_lifetime."""
    assert "consent" in held(grant(1, leaf=PROFILING, expires_at=0), leaf=PROFILING)


def test_an_old_notice_is_outdated() -> None:
    """A grant on a notice version under the purpose's minimum does not hold."""
    assert why(grant(1, notice_version=1)) is Reason.NOTICE_OUTDATED


def test_a_newer_notice_counts() -> None:
    """A notice version above the minimum holds."""
    assert held(grant(1, notice_version=3)) == {"consent"}


def test_another_notice_is_outdated() -> None:
    """Versions of another notice than the purpose's are not compared with its minimum."""
    assert why(grant(1, notice="terms", notice_version=9)) is Reason.NOTICE_OUTDATED


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (ConsentState.REFUSED, Reason.CONSENT_REFUSED),
        (ConsentState.WITHDRAWN, Reason.CONSENT_WITHDRAWN),
        (ConsentState.EXPIRED, Reason.CONSENT_EXPIRED),
        (ConsentState.INVALIDATED, Reason.CONSENT_MISSING),
    ],
)
def test_a_negative_state_ends_consent_with_its_reason(state: ConsentState, reason: Reason) -> None:
    """Each negative consent state denies, and says which one it was."""
    assert why(grant(1), state_entry(OFFERS, state, 2)) is reason


def test_no_event_is_no_consent() -> None:
    """Without any event the reason is that consent is missing."""
    assert why() is Reason.CONSENT_MISSING


def test_a_request_changes_nothing() -> None:
    """`requested` is neither a grant nor the end of one."""
    assert held(grant(1), state_entry(MARKETING, ConsentState.REQUESTED, 2)) == {"consent"}
    assert why(state_entry(OFFERS, ConsentState.REQUESTED, 1)) is Reason.CONSENT_MISSING


def test_a_state_not_known_is_no_consent() -> None:
    """A state that this release does not know gives nothing."""
    delegated = str.__new__(ConsentState, "delegated")
    strange = grant(2)._replace(state=delegated)
    assert why(grant(1), strange) is Reason.CONSENT_MISSING


def test_a_withdrawal_above_binds_the_leaf() -> None:
    """Negative events inherit from ancestors."""
    assert why(grant(1), state_entry(MARKETING, ConsentState.WITHDRAWN, 2)) is Reason.CONSENT_WITHDRAWN


def test_a_later_grant_turns_its_leaf_on_again() -> None:
    """After a withdrawal above, a grant for one leaf turns on that one alone."""
    consents = (state_entry(MARKETING, ConsentState.WITHDRAWN, 2), grant(3))
    assert held(*consents) == {"consent"}
    assert why(*consents, leaf=PROFILING) is Reason.CONSENT_WITHDRAWN


def test_a_grant_does_not_inherit() -> None:
    """A grant row at an inner purpose, should one ever stand there, gives its leaves nothing."""
    assert why(grant(1, leaf=MARKETING)) is Reason.CONSENT_MISSING


def test_seq_orders_not_the_order_of_rows() -> None:
    """Later means a higher seq, whatever order the rows come in."""
    consents = (state_entry(MARKETING, ConsentState.WITHDRAWN, 2), grant(1))
    assert why(*consents) is Reason.CONSENT_WITHDRAWN
    assert why(*reversed(consents)) is Reason.CONSENT_WITHDRAWN


@pytest.mark.parametrize(
    ("earlier", "later", "wanted"),
    [
        (ConsentState.OPTED_OUT, ConsentState.OPTED_IN, frozenset({"opt-out"})),
        (ConsentState.OPTED_IN, ConsentState.OPTED_OUT, frozenset()),
        (ConsentState.OBJECTED, ConsentState.OBJECTION_LIFTED, frozenset({"opt-out"})),
        (ConsentState.OBJECTION_LIFTED, ConsentState.OBJECTED, frozenset()),
    ],
)
def test_seq_orders_every_lane(earlier: ConsentState, later: ConsentState, wanted: frozenset[str]) -> None:
    """In the objection and opt-out lanes too the highest seq wins, whatever order the rows come in."""
    consents = (state_entry(MARKETING, earlier, 1), state_entry(PROFILING, later, 2))
    assert held(*consents, leaf=PROFILING, jurisdictions=("US-CA",)) == wanted
    assert held(*reversed(consents), leaf=PROFILING, jurisdictions=("US-CA",)) == wanted


def test_opt_out_holds_until_opted_out() -> None:
    """In an opt-out regime the basis holds without any event, and falls when the customer opts out."""
    california = {"jurisdictions": ("US-CA",), "leaf": PROFILING}
    assert held(**california) == {"opt-out"}
    out = state_entry(PROFILING, ConsentState.OPTED_OUT, 1)
    assert held(out, **california) == frozenset()
    assert why(out, wanted=frozenset({"opt-out"}), **california) is Reason.OPTED_OUT


def test_opting_in_at_a_leaf_undoes_opting_out_above() -> None:
    """In the opt-out lane both signs inherit and the highest seq wins."""
    out, back = (
        state_entry(MARKETING, ConsentState.OPTED_OUT, 1),
        state_entry(PROFILING, ConsentState.OPTED_IN, 2),
    )
    assert held(out, back, leaf=PROFILING, jurisdictions=("US-CA",)) == {"opt-out"}


def test_an_objection_takes_opt_out_away() -> None:
    """The opt-out basis falls with an objection too."""
    objected = state_entry(PROFILING, ConsentState.OBJECTED, 1)
    assert (
        why(objected, leaf=PROFILING, wanted=frozenset({"opt-out"}), jurisdictions=("US-CA",))
        is Reason.OBJECTED
    )


def test_opting_out_leaves_consent_alone() -> None:
    """The lanes are independent of each other."""
    assert held(grant(1), state_entry(OFFERS, ConsentState.OPTED_OUT, 2)) == {"consent"}


def test_with_two_jurisdictions_the_stricter_default_holds() -> None:
    """Opt-in wins over opt-out where the subject has both."""
    both = {"jurisdictions": ("EU", "US-CA"), "leaf": PROFILING}
    assert held(**both) == frozenset()
    assert why(wanted=frozenset({"opt-out"}), **both) is Reason.BASIS_MISSING


def test_a_declared_basis_holds_for_all_categories() -> None:
    """Contract holds for any category, where each jurisdiction declares it."""
    assert held(leaf=ACCOUNTS, category=PHONE, jurisdictions=("EU", "GB")) == {"contract"}
    assert held(leaf=ACCOUNTS, category=PHONE, jurisdictions=("EU", "CH")) == frozenset()


def test_a_subject_without_jurisdictions_has_no_declared_basis() -> None:
    """No jurisdiction is not all jurisdictions."""
    assert held(leaf=FRAUD, jurisdictions=()) == frozenset()


def test_legitimate_interest_falls_with_an_objection() -> None:
    """An objection to the purpose or an ancestor ends legitimate interest."""
    objected = state_entry(MARKETING, ConsentState.OBJECTED, 1)
    assert held(leaf=PROFILING) == {"legitimate-interest"}
    assert why(objected, leaf=PROFILING, wanted=frozenset({"legitimate-interest"})) is Reason.OBJECTED


def test_a_lifted_objection_is_none() -> None:
    """objection-lifted with a higher seq restores legitimate interest."""
    objected = state_entry(MARKETING, ConsentState.OBJECTED, 1)
    lifted = state_entry(PROFILING, ConsentState.OBJECTION_LIFTED, 2)
    assert held(objected, lifted, leaf=PROFILING) == {"legitimate-interest"}


def test_an_overridden_objection_leaves_legitimate_interest() -> None:
    """purposes.yaml can declare that an objection does not count (fraud)."""
    assert "legitimate-interest" in held(state_entry(FRAUD, ConsentState.OBJECTED, 1), leaf=FRAUD)


def test_a_grant_does_not_lift_an_objection() -> None:
    """Consent given later holds beside an objection elsewhere, legitimate interest stays fallen."""
    objected = state_entry(PROFILING, ConsentState.OBJECTED, 1)
    assert held(objected, grant(2, leaf=PROFILING), leaf=PROFILING) == {"consent"}


@pytest.mark.parametrize("at", [OFFERS, NEWSLETTER, MARKETING])
def test_an_objection_to_direct_marketing_ends_every_basis(at: str) -> None:
    """An objection to the leaf, an ancestor or any direct-marketing leaf ends all bases, consent too."""
    objected = state_entry(at, ConsentState.OBJECTED, 1)
    assert held(objected, grant(2)) == frozenset()
    assert why(objected, grant(2)) is Reason.OBJECTED


def test_an_objection_to_another_purpose_leaves_direct_marketing() -> None:
    """An objection to a leaf that is no direct marketing does not reach the ones that are."""
    assert held(grant(1), state_entry(PROFILING, ConsentState.OBJECTED, 2)) == {"consent"}


def test_lifting_at_one_leaf_does_not_reach_the_other_marketing_leaves() -> None:
    """After an objection above, lifting it at one marketing leaf leaves the objection to the others."""
    objected = state_entry(MARKETING, ConsentState.OBJECTED, 1)
    lifted = state_entry(OFFERS, ConsentState.OBJECTION_LIFTED, 2)
    assert why(objected, lifted, grant(3)) is Reason.OBJECTED


def test_a_restricted_subject_keeps_what_survives() -> None:
    """Restriction leaves legal claim and takes legitimate interest."""
    assert held(leaf=FRAUD, restricted_seq=1) == {"legal-claim"}


def test_consent_before_a_restriction_does_not_hold() -> None:
    """Consent given before the restriction is suspended, and the caller is not told why."""
    assert why(grant(1), restricted_seq=2) is Reason.NOT_AVAILABLE


def test_consent_after_a_restriction_holds() -> None:
    """Consent given after the restriction holds (GDPR 18(2))."""
    assert held(grant(3), restricted_seq=2) == {"consent"}


@pytest.mark.parametrize("category", [INCOME, PHONE])
def test_every_denial_of_a_restricted_subject_is_not_available(category: str) -> None:
    """Restriction is sensitive: whatever is missing, the reason is not-available."""
    assert (
        why(grant(3), restricted_seq=2, category=category, wanted=frozenset({"contract"}))
        is Reason.NOT_AVAILABLE
    )


def test_a_restriction_does_not_touch_the_subjects_own_rights() -> None:
    """A restricted subject's own rights go on being served, under the bases declared for them."""
    rights = tree(purpose(SUBJECT_RIGHTS, bases={"*": frozenset({Basis.LEGAL_OBLIGATION})}))
    bases = effective(rights, subject_of(1, restricted_seq=1), (), SUBJECT_RIGHTS, NOW)
    assert bases.for_category(INCOME) == {"legal-obligation"}


@pytest.mark.parametrize("leaf", ["unknown-purpose", MARKETING])
def test_what_is_no_leaf_has_no_basis(leaf: str) -> None:
    """An unknown purpose and an inner node have no basis at all, even with a grant row in their name."""
    assert held(grant(1, leaf=leaf), leaf=leaf) == frozenset()
    assert why(grant(1, leaf=leaf), leaf=leaf) is Reason.BASIS_MISSING


def test_the_first_reason_of_the_wanted_bases_is_told() -> None:
    """Of several wanted bases the reason listed first in api.md wins."""
    wanted = frozenset({"consent", "contract", "opt-out"})
    assert why(wanted=wanted) is Reason.CONSENT_MISSING
    assert why(wanted=frozenset({"contract"})) is Reason.BASIS_MISSING


def test_a_bundle_cannot_declare_consent() -> None:
    """`consent`, `any` and `operation` in a purpose's bases give nothing."""
    odd = tree(purpose("odd", bases={"*": frozenset({Basis.CONSENT, Basis.ANY, Basis.OPERATION})}))
    assert effective(odd, subject_of(1), (), "odd", NOW).for_category(EMAIL) == frozenset()


def test_events_name_what_is_in_force() -> None:
    """The audit record gets the ids of the entries in force for the leaf, each once."""
    consents = (
        grant(2),
        state_entry(MARKETING, ConsentState.WITHDRAWN, 1),
        state_entry(MARKETING, ConsentState.OPTED_OUT, 3),
        state_entry(FRAUD, ConsentState.WITHDRAWN, 4),
    )
    assert effective(TREE, subject_of(1), consents, OFFERS, NOW).events == ("event-2", "event-3")


def test_the_objection_elsewhere_is_named() -> None:
    """Where an objection to another marketing leaf decides, its event is named."""
    consents = (state_entry(NEWSLETTER, ConsentState.OBJECTED, 1), grant(2))
    assert effective(TREE, subject_of(1), consents, OFFERS, NOW).events == ("event-2", "event-1")


def test_bases_are_plain_strings() -> None:
    """Engine and records get str, not members of an enum."""
    assert {type(basis) for basis in held(grant(1, leaf=PROFILING), leaf=PROFILING)} == {str}
