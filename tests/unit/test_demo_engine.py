"""The demo's engine: it ranks what it was given, says why, and does with less."""

from vault.cli.demonstration.catalogue import CATALOGUE
from vault.cli.demonstration.engine import WANTED, rank
from vault.cli.demonstration.signals import band_floor, born_in, from_band, products_of

KNOWN = {
    "income": "60000-90000",
    "date-of-birth": "1980s",
    "customer-segment": "affluent",
    "product-holdings": [{"product": "credit-card", "since": "2020-01"}],
    "offer-clicks": {"mortgage": 2},
}


def products(ranking: object) -> list[str]:
    return [each.offer.product for each in ranking.offers]  # type: ignore[attr-defined]


def test_score_is_the_sum_of_its_reasons() -> None:
    """What an offer scores can be added up from the reasons shown."""
    best = rank(KNOWN, {}).offers[0]

    assert best.offer.product == "mortgage"
    assert best.score == sum(reason.points for reason in best.reasons) == 70


def test_click_on_an_offer_counts_for_it() -> None:
    """The same customer without clicks gives the mortgage a lower score."""
    without = {name: value for name, value in KNOWN.items() if name != "offer-clicks"}
    score = {each.offer.product: each.score for each in rank(KNOWN, {}, len(CATALOGUE)).offers}
    less = {each.offer.product: each.score for each in rank(without, {}, len(CATALOGUE)).offers}

    assert score["mortgage"] - less["mortgage"] == 15


def test_what_the_customer_has_is_not_offered() -> None:
    """A product held is left out where holdings are known."""
    assert "credit-card" not in products(rank(KNOWN, {}, len(CATALOGUE)))


def test_offer_that_needs_a_withheld_attribute_is_not_made() -> None:
    """Without the income there is neither mortgage nor gold card, and the notes say what was missing."""
    known = {name: value for name, value in KNOWN.items() if name != "income"}
    ranking = rank(known, {"income": "out-of-scope"}, len(CATALOGUE))

    assert not {"mortgage", "gold-card", "investment-plan"} & {*products(ranking)}
    assert ranking.personalised
    assert ranking.notes == ("ranked without income: out-of-scope",)


def test_without_anything_everybodys_offers_come_in_order() -> None:
    """Where all was withheld, offers that need nothing are shown by their base, and nothing is personal."""
    ranking = rank({}, dict.fromkeys(WANTED, "consent-missing"))

    assert products(ranking) == ["savings-account", "credit-card", "home-insurance"]
    assert not ranking.personalised
    assert ranking.notes[0].endswith(": consent-missing")


def test_every_signal_looks_at_what_the_engine_asks_for() -> None:
    """No signal waits for an attribute that is never asked for."""
    assert {signal.attribute for offer in CATALOGUE for signal in offer.signals} <= {*WANTED}


def test_bands_are_read_by_their_lower_bound() -> None:
    """Each spelling of a band gives its lower bound, and what is no band gives none."""
    bands = ["<0", "25000-40000", ">=90000", "25000", "", "60000.00"]
    assert [band_floor(band) for band in bands] == [None, 25_000, 90_000, 25_000, None, None]
    assert from_band(40_000)("40000-60000")
    assert not from_band(40_000)("25000-40000")


def test_decades_and_holdings_of_another_shape_fit_nothing() -> None:
    """A value that is not what a signal expects scores nothing, and raises nothing."""
    assert not born_in(1980, 1999)("1984-05-07")
    assert products_of("mortgage") == products_of(["mortgage"]) == frozenset()
