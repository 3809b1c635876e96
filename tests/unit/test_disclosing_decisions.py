"""Decisions that reads share: for whom they hold, and what is remembered of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.pipelines import House, open_house
from vault.consent.bases import EffectiveBases
from vault.disclosing import decisions
from vault.disclosing.decisions import DecisionMaker
from vault.domain.errors import PurposeNotLeafError
from vault.domain.types import Form, Reason
from vault.reads import Read
from vault.server.wire import ResponseWriter

OFFERS = "personalised-offers"
ENGINE = "personalization-engine"
CONSENT = EffectiveBases(consent=None, scope=frozenset({"pd:EmailAddress"}), events=("event-1",))
SAME = EffectiveBases(consent=None, scope=frozenset({"pd:EmailAddress"}), events=("event-2",))
WITHDRAWN = EffectiveBases(consent=Reason.CONSENT_WITHDRAWN)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(Path(tmp_path_factory.mktemp("house"))) as opened:
        yield opened


@pytest.fixture
def maker(house: House) -> DecisionMaker:
    return DecisionMaker(house.rooms.policy.current, ResponseWriter())


def ask(house: House, *attributes: str, number: str = "c1", form: Form | None = None) -> Read:
    return house.ask(ENGINE, number, OFFERS, attributes or ("email", "iban"), max_form=form)


def test_reads_of_customers_with_the_same_bases_share_their_decisions(
    house: House, maker: DecisionMaker
) -> None:
    """Whoever the customer is, and whichever event gave the consent."""
    first = maker.of(ask(house, number="c1"), CONSENT, entitled=True)
    assert maker.of(ask(house, number="c2"), SAME, entitled=True) is first


@pytest.mark.parametrize(
    ("held", "entitled", "form"),
    [(WITHDRAWN, True, None), (None, True, None), (CONSENT, False, None), (CONSENT, True, Form.EXISTS)],
    ids=["consent", "no such customer", "not entitled", "bound"],
)
def test_whatever_decides_is_part_of_the_question(
    house: House, maker: DecisionMaker, held: EffectiveBases | None, entitled: bool, form: Form | None
) -> None:
    """Other bases, another bound, no customer, no right: other decisions, also after the first ones."""
    email = maker.of(ask(house), CONSENT, entitled=True).each[0]
    other = maker.of(ask(house, form=form), held, entitled=entitled).each[0]
    assert email.form is not None
    assert other.form is not email.form


def test_long_lists_and_more_than_the_bound_are_not_kept(house: House, maker: DecisionMaker) -> None:
    """Whoever asks chooses the names: memory has a bound, and decisions are made anew beyond it."""
    most = decisions._REMEMBERED
    declared = sorted(house.rooms.policy.current.bundle.attributes)
    maker.of(ask(house, *declared[:20] * 2), CONSENT, entitled=True)
    assert maker._lists == {}
    maker._each.clear()
    read, sizes = ask(house, "email"), set()
    for number in range(most + 5):
        maker.of(read, EffectiveBases(frozenset({f"basis-{number}"}), consent=None), entitled=True)
        sizes.add((len(maker._lists), len(maker._each)))
    assert max(sizes) == (most, most)
    assert (len(maker._lists), len(maker._each)) == (5, 5)


def test_names_that_nobody_declared_are_not_kept(house: House, maker: DecisionMaker) -> None:
    """Nor a list with one of them, whatever else is in it."""
    maker.of(ask(house, "email", "name-1"), CONSENT, entitled=True)
    assert maker._lists == {}
    assert [decided.name for decided in maker._each.values()] == ["email"]


def test_names_of_purposes_that_nobody_declared_are_not_kept(house: House, maker: DecisionMaker) -> None:
    """The same for purposes."""
    maker.entitled(ask(house))
    for number in range(5):
        assert not maker.entitled(replace(ask(house), purpose=f"purpose-{number}"))
    assert len(maker._entitled) == 1


def test_an_inner_purpose_is_refused_every_time(house: House, maker: DecisionMaker) -> None:
    """The second answer is the first one."""
    for _ in range(2):
        with pytest.raises(PurposeNotLeafError):
            maker.entitled(replace(ask(house), purpose="marketing"))


def test_another_bundle_means_other_decisions(house: House) -> None:
    """The pipeline forgets with the bundle what was decided under it."""
    pipeline = house.pipelines.disclosure
    before = pipeline._decision_maker()
    assert pipeline._decision_maker() is before
    current = house.rooms.policy.current
    try:
        house.rooms.policy.adopt(replace(current))
        assert pipeline._decision_maker() is not before
    finally:
        house.rooms.policy.adopt(current)
