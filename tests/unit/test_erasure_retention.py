"""What an erasure destroys and what stays, class by class; for what the rest can be read."""

import datetime
from collections.abc import Sequence

import pytest

from vault.domain.types import Basis, KeyClass, Purpose, Subject
from vault.erasing.retention import (
    UNDECLARED,
    Retained,
    evidence_until,
    plan_erasure,
    readable_bases,
)
from vault.store.erasure import Holding

DAY = 86_400
NOW = 1_800_000_000_000_000
TODAY = datetime.date(2027, 1, 15)
"""The day of NOW in UTC."""


def purpose(name: str, *bases: Basis) -> Purpose:
    return Purpose(name, "", "", (), True, {}, {"EU": frozenset(bases), "*": frozenset()})


PURPOSES = {
    one.id: one
    for one in (
        purpose("aml-screening", Basis.LEGAL_OBLIGATION),
        purpose("collections", Basis.CONTRACT, Basis.LEGAL_CLAIM),
        purpose("personalised-offers"),
        purpose("subject-rights", Basis.LEGAL_OBLIGATION),
    )
}
CLASSES = {
    "contact": KeyClass("contact"),
    "identity": KeyClass("identity", "AML", ("aml-screening",), 5 * 365 * DAY, "relationship-end"),
    "calls": KeyClass("calls", "MiFID", ("aml-screening",), 30 * DAY, "last-write"),
    "evidence": KeyClass("evidence", "GDPR 7", ("subject-rights",), 6 * 365 * DAY, "last-write"),
}
AML = ("aml-screening", "subject-rights")


def subject(hold: str = "", jurisdictions: tuple[str, ...] = ("EU",)) -> Subject:
    return Subject(bytes(16), "p", jurisdictions, legal_hold=hold)


def held(key_class: str, values: int = 1, newest: int = NOW, keys: int = 1) -> Holding:
    return Holding(key_class, keys, values, newest)


def midnight_after(day: datetime.date) -> int:
    return int((day - datetime.date(1970, 1, 1)).days + 1) * DAY * 1_000_000


ENDED = TODAY - datetime.timedelta(days=5 * 365)
CASES = [
    ("no ground", held("contact"), None, "", []),
    ("relationship goes on", held("identity"), None, "", [Retained("identity", "AML", False, None, AML)]),
    (
        "ended yesterday",
        held("identity"),
        TODAY - datetime.timedelta(days=1),
        "",
        [
            Retained(
                "identity",
                "AML",
                False,
                midnight_after(TODAY - datetime.timedelta(days=1)) + 5 * 365 * DAY * 1_000_000,
                AML,
            )
        ],
    ),
    (
        "the last day of the period",
        held("identity"),
        ENDED,
        "",
        [Retained("identity", "AML", False, midnight_after(TODAY), AML)],
    ),
    ("the period is over", held("identity"), ENDED - datetime.timedelta(days=1), "", []),
    (
        "last write is recent",
        held("calls", newest=NOW - 30 * DAY * 1_000_000 + 1),
        None,
        "",
        [Retained("calls", "MiFID", False, NOW + 1, AML)],
    ),
    ("last write is long ago", held("calls", newest=NOW - 30 * DAY * 1_000_000), None, "", []),
    ("last write does not ask for the end", held("calls", newest=1), TODAY, "", []),
    ("only cleared values", held("identity", values=0), None, "", []),
    (
        "undeclared class",
        held("vanished"),
        None,
        "",
        [Retained("vanished", UNDECLARED, False, None, ("subject-rights",))],
    ),
    (
        "hold without a ground",
        held("contact"),
        None,
        "Case 7",
        [Retained("contact", "Case 7", True, None, ("collections", "subject-rights"))],
    ),
    (
        "hold beside a ground",
        held("identity"),
        None,
        "Case 7",
        [
            Retained("identity", "AML", False, None, AML),
            Retained("identity", "Case 7", True, None, ("collections", "subject-rights")),
        ],
    ),
    (
        "hold keeps cleared values too",
        held("contact", values=0),
        None,
        "Case 7",
        [Retained("contact", "Case 7", True, None, ("collections", "subject-rights"))],
    ),
]


@pytest.mark.parametrize(
    ("holding", "ended_on", "hold", "expected"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_a_class_stays_while_its_ground_runs_or_a_hold_is_on(
    holding: Holding, ended_on: datetime.date | None, hold: str, expected: Sequence[Retained]
) -> None:
    """Each class is destroyed, or stays with every reason why, to the microsecond."""
    plan = plan_erasure(CLASSES, PURPOSES, subject(hold), ended_on, [holding], NOW)
    assert list(plan.retained) == expected
    assert [one.key_class for one in plan.erased] == ([] if expected else [holding.key_class])
    assert plan.whole is not bool(expected)


def test_what_is_not_held_is_not_listed() -> None:
    """A class that holds nothing is neither destroyed nor kept; with nothing left the erasure is whole."""
    plan = plan_erasure(CLASSES, PURPOSES, subject(), None, [], NOW)
    assert (plan.erased, plan.retained, plan.whole) == ((), (), True)


def test_a_hold_keeps_a_customer_of_whom_nothing_is_held() -> None:
    """Nothing may be destroyed: neither the lookup row nor the ledger."""
    assert not plan_erasure(CLASSES, PURPOSES, subject("Case 7"), None, [], NOW).whole


def test_with_two_jurisdictions_a_claim_must_hold_in_both() -> None:
    """A purpose for which legal-claim is declared in one alone does not read what a hold keeps."""
    plan = plan_erasure(CLASSES, PURPOSES, subject("Case 7", ("EU", "CH")), None, [held("contact")], NOW)
    assert plan.retained[0].purposes == ("subject-rights",)


@pytest.mark.parametrize(
    ("key_class", "asked", "hold", "expected"),
    [
        ("identity", "aml-screening", False, {"legal-obligation"}),
        ("identity", "personalised-offers", False, set()),
        ("identity", "collections", False, set()),
        ("identity", "collections", True, {"legal-claim"}),
        ("identity", "aml-screening", True, {"legal-obligation", "legal-claim"}),
        ("identity", "subject-rights", False, {"legal-obligation"}),
        ("contact", "aml-screening", False, set()),
        ("contact", "aml-screening", True, {"legal-claim"}),
        ("vanished", "aml-screening", False, set()),
        ("vanished", "subject-rights", False, {"legal-obligation"}),
    ],
)
def test_what_stays_is_read_for_its_ground_alone(
    key_class: str, asked: str, hold: bool, expected: set[str]
) -> None:
    """The ground's purposes under legal-obligation, the customer's own rights, and a claim under a hold."""
    assert readable_bases(CLASSES, key_class, asked, legal_hold=hold) == expected


PERIOD = 6 * 365 * DAY * 1_000_000


@pytest.mark.parametrize(
    ("key_class", "ended_on", "expected"),
    [
        (CLASSES["evidence"], None, NOW + PERIOD),
        (CLASSES["evidence"], ENDED, NOW + PERIOD),
        (None, None, 0),
        (KeyClass("evidence"), None, 0),
        (KeyClass("evidence", "G", (), 6 * 365 * DAY, "relationship-end"), None, NOW + PERIOD),
        (
            KeyClass("evidence", "G", (), 6 * 365 * DAY, "relationship-end"),
            ENDED,
            midnight_after(ENDED) + PERIOD,
        ),
        (KeyClass("evidence", "G", (), DAY, "relationship-end"), ENDED, 0),
    ],
)
def test_evidence_is_kept_for_its_own_ground(
    key_class: KeyClass | None, ended_on: datetime.date | None, expected: int
) -> None:
    """Counted from the sealing, or from the end of the relationship where that is known; without a ground, or
    after it, there is none."""
    assert evidence_until(key_class, ended_on, NOW) == expected
