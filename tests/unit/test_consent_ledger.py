"""Recording consent: what is refused, what a grant covers, what is written, what is answered."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.consent import (
    EMAIL,
    FRAUD,
    INCOME,
    MARKETING,
    NEWSLETTER,
    OFFERS,
    PROFILING,
    notices,
    offers_notice,
    purpose,
    tree,
)
from tests.support.store import (
    NOW,
    TENANT,
    add_subjects,
    any_database_at,
    consents_of,
    count,
    lanes_in,
    subject_of,
)
from vault.consent.events import EventStamp, build_event, grant_scope
from vault.consent.ledger import ConsentRequest, ConsentResult, Ledger
from vault.domain.errors import InvalidArgumentError, NotFoundError
from vault.domain.system import SystemRandomness
from vault.domain.types import ConsentEvent, ConsentState, Lane, Reason
from vault.store.consents import SqlConsentRepository
from vault.store.database import Database
from vault.testing import FakeClock

HOUR = 3_600_000_000
DAY = 24 * HOUR
SUBJECT = subject_of(1).id
GRANT = ConsentRequest(
    purpose=OFFERS,
    state=ConsentState.GIVEN,
    channel="app",
    notice="offers",
    notice_version=2,
    language="pt",
    jurisdiction="EU",
    expires_at=NOW + HOUR,
)


@pytest.fixture
def database(tmp_path: Path, every_store: str) -> Iterator[Database]:
    with any_database_at(tmp_path / "vault.db") as opened:
        with opened.write() as connection:
            add_subjects(connection, 1, 2)
        yield opened


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


def record(
    database: Database, clock: FakeClock, request: ConsentRequest, subject: bytes = SUBJECT
) -> ConsentResult:
    ledger = Ledger(SqlConsentRepository(), clock, SystemRandomness())
    with database.write() as connection:
        return ledger.record(connection, tree(), notices(), TENANT, subject, request, "portal")


def events(database: Database) -> list[ConsentEvent]:
    with database.read() as connection:
        return SqlConsentRepository().events(connection, TENANT, SUBJECT, 0, 100)


def violated(database: Database, clock: FakeClock, **fields: object) -> set[str]:
    with pytest.raises(InvalidArgumentError) as refused:
        record(database, clock, replace(GRANT, **fields))  # type: ignore[arg-type]
    assert events(database) == []
    return {violation.field for violation in refused.value.violations}


def test_a_grant_is_one_event_with_its_scope(database: Database, clock: FakeClock) -> None:
    """The ledger keeps every field of the event, the digest of the text shown and the expanded scope."""
    result = record(database, clock, GRANT)
    assert events(database) == [result.event]
    assert result.event.scope == {OFFERS: frozenset({INCOME, EMAIL})}
    assert result.event.notice_sha256 == "f" * 64
    assert (result.event.valid_from, result.event.recorded_by) == (NOW, "portal")


def test_the_token_names_the_event(database: Database, clock: FakeClock) -> None:
    """The token holds the event's id and its seq, which counts from 1."""
    first, second = record(database, clock, GRANT), record(database, clock, GRANT)
    assert (first.token.event_id, first.token.seq) == (first.event.id, 1)
    assert second.token.seq == 2


def test_a_grant_above_covers_the_leaves_its_notice_lists(database: Database, clock: FakeClock) -> None:
    """A grant for an inner purpose gives one state row per leaf that the notice version covers."""
    record(database, clock, replace(GRANT, purpose=MARKETING))
    rows = {entry.purpose: entry.categories for entry in consents_of(database, SUBJECT)}
    assert rows == {OFFERS: frozenset({INCOME, EMAIL}), PROFILING: frozenset({EMAIL})}


def test_a_grant_replaces_a_row_whole_and_leaves_others(database: Database, clock: FakeClock) -> None:
    """A later grant for one leaf replaces that leaf's row and no other."""
    record(database, clock, replace(GRANT, purpose=MARKETING))
    record(database, clock, replace(GRANT, notice_version=3))
    seqs = {entry.purpose: (entry.seq, entry.notice_version) for entry in consents_of(database, SUBJECT)}
    assert seqs == {OFFERS: (2, 3), PROFILING: (1, 2)}


@pytest.mark.parametrize(
    ("state", "lane"),
    [
        (ConsentState.WITHDRAWN, Lane.CONSENT),
        (ConsentState.REFUSED, Lane.CONSENT),
        (ConsentState.OBJECTED, Lane.OBJECTION),
        (ConsentState.OBJECTION_LIFTED, Lane.OBJECTION),
        (ConsentState.OPTED_OUT, Lane.OPT_OUT),
        (ConsentState.OPTED_IN, Lane.OPT_OUT),
    ],
)
def test_other_events_write_one_row_at_their_own_purpose(
    database: Database, clock: FakeClock, state: ConsentState, lane: Lane
) -> None:
    """What is no grant writes one row, at the purpose it names, in its lane."""
    record(database, clock, ConsentRequest(MARKETING, state, "gpc"))
    assert lanes_in(consents_of(database, SUBJECT)) == {(MARKETING, lane)}


def test_a_request_for_consent_changes_no_state(database: Database, clock: FakeClock) -> None:
    """`requested` is in the ledger and in no state row; double opt-in is two events."""
    record(database, clock, ConsentRequest(OFFERS, ConsentState.REQUESTED, "mail"))
    assert consents_of(database, SUBJECT) == ()
    record(database, clock, GRANT)
    assert [event.state for event in events(database)] == [ConsentState.REQUESTED, ConsentState.GIVEN]


def test_the_answer_shows_that_a_grant_lifts_no_objection(database: Database, clock: FakeClock) -> None:
    """A grant after an objection is recorded, and the effective state says objected."""
    record(database, clock, ConsentRequest(NEWSLETTER, ConsentState.OBJECTED, "phone"))
    (shown,) = record(database, clock, GRANT).effective
    assert (shown.reason, shown.objected, shown.categories) == (Reason.OBJECTED, True, frozenset())


def test_the_answer_shows_what_holds_below_the_purpose(database: Database, clock: FakeClock) -> None:
    """The effective state has each leaf at or below the purpose, with categories, expiry and bases."""
    shown = {one.purpose: one for one in record(database, clock, replace(GRANT, purpose=MARKETING)).effective}
    assert sorted(shown) == sorted([OFFERS, NEWSLETTER, PROFILING])
    assert shown[OFFERS].categories == {INCOME, EMAIL}
    assert shown[OFFERS].expires_at == NOW + HOUR
    assert shown[NEWSLETTER].reason is Reason.CONSENT_MISSING
    assert shown[PROFILING].bases == {"consent", "legitimate-interest"}


def test_a_withdrawal_is_shown_at_once(database: Database, clock: FakeClock) -> None:
    """After `withdraw` the effective state says so, in the same transaction."""
    record(database, clock, GRANT)
    ledger = Ledger(SqlConsentRepository(), clock, SystemRandomness())
    with database.write() as connection:
        result = ledger.withdraw(
            connection, tree(), notices(), TENANT, SUBJECT, MARKETING, "portal", channel="app"
        )
    assert {one.purpose: one.reason for one in result.effective}[OFFERS] is Reason.CONSENT_WITHDRAWN


def test_expiry_is_evaluated_not_swept(database: Database, clock: FakeClock) -> None:
    """Once the clock reaches expires_at the same rows give no consent any more."""
    record(database, clock, GRANT)
    clock.advance(3_600)
    shown = record(database, clock, ConsentRequest(OFFERS, ConsentState.REQUESTED, "app")).effective
    assert shown[0].reason is Reason.CONSENT_EXPIRED


def test_a_subject_not_there_is_not_found(database: Database, clock: FakeClock) -> None:
    """The ledger makes no subjects."""
    with pytest.raises(NotFoundError):
        record(database, clock, GRANT, subject_of(99).id)


def test_the_ledgers_of_two_subjects_are_apart(database: Database, clock: FakeClock) -> None:
    """Each subject has its own seq and its own state."""
    record(database, clock, GRANT)
    assert record(database, clock, GRANT, subject_of(2).id).token.seq == 1
    assert len(events(database)) == 1


def test_a_refused_request_writes_nothing(database: Database, clock: FakeClock) -> None:
    """After a violation there is no event, no state, and the seq is free again."""
    violated(database, clock, purpose="unknown-purpose")
    with database.read() as connection:
        assert count(connection, "consent_state") == 0
    assert record(database, clock, GRANT).token.seq == 1


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"purpose": "unknown-purpose"}, {"purpose"}),
        ({"notice": ""}, {"notice", "notice_version", "language"}),
        ({"notice": "unknown-notice"}, {"notice"}),
        ({"notice_version": 9}, {"notice_version"}),
        ({"notice_version": 0}, {"notice_version"}),
        ({"language": "fi"}, {"language"}),
        ({"language": ""}, {"language"}),
        ({"valid_from": NOW + 1}, {"valid_from"}),
        ({"valid_from": -1}, {"valid_from"}),
        ({"expires_at": 0}, {"expires_at"}),
        ({"expires_at": NOW}, {"expires_at"}),
        ({"expires_at": NOW + DAY + 1}, {"expires_at"}),
        ({"purpose": FRAUD}, {"notice"}),
        ({"channel": ""}, {"channel"}),
        ({"channel": "x" * 65}, {"channel"}),
        ({"evidence": "x" * 257}, {"evidence"}),
        ({"state": ConsentState.REFUSED}, {"expires_at"}),
        ({"purpose": "unknown-purpose", "language": "fi", "channel": ""}, {"purpose", "language", "channel"}),
    ],
)
def test_a_wrong_field_is_named(
    database: Database, clock: FakeClock, fields: dict[str, object], names: set[str]
) -> None:
    """A request that cannot stand is refused, with a violation per wrong field."""
    assert violated(database, clock, **fields) == names


def test_the_longest_lifetime_is_accepted(database: Database, clock: FakeClock) -> None:
    """expires_at may be consent_lifetime after the recording, exactly."""
    assert record(database, clock, replace(GRANT, expires_at=NOW + DAY)).event.expires_at == NOW + DAY


def test_the_shortest_lifetime_of_the_covered_leaves_counts() -> None:
    """A grant above must end within the lifetime of every leaf it covers."""
    purposes = tree(purpose("partner-offers", MARKETING, consent_lifetime_seconds=3_600))
    covers = {"partner-offers": frozenset({EMAIL}), OFFERS: frozenset({INCOME})}
    listed = {("offers", 2): offers_notice(**covers)}
    stamp = EventStamp("event-1", 1, "portal", NOW)
    request = replace(GRANT, purpose=MARKETING, expires_at=NOW + HOUR)
    assert set(build_event(purposes, listed, request, stamp)[0].scope) == {OFFERS, "partner-offers"}
    with pytest.raises(InvalidArgumentError):
        build_event(purposes, listed, replace(request, expires_at=NOW + HOUR + 1), stamp)


def test_no_lifetime_is_demanded_of_other_leaves(database: Database, clock: FakeClock) -> None:
    """A grant for a leaf without consent_lifetime may last for ever, whatever its siblings demand."""
    assert record(database, clock, replace(GRANT, purpose=PROFILING, expires_at=0)).event.expires_at == 0


def test_a_leaf_with_another_notice_is_not_covered() -> None:
    """A leaf whose purpose names another notice stays out of a grant, even where this notice lists it."""
    purposes = tree(purpose("partner-offers", MARKETING, notice="partners"))
    notice = offers_notice(**{"partner-offers": frozenset({EMAIL}), OFFERS: frozenset({INCOME})})
    assert grant_scope(purposes, MARKETING, notice) == {OFFERS: frozenset({INCOME})}
