"""The personalization engine: ranks offers from what the vault gave it, and can say why.

It holds no rule about privacy. What was withheld it does not have, so it does with less: an offer that needs
a withheld attribute is not made, and where nothing was given everybody's offers are shown in the shop
window's order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vault.cli.demonstration.catalogue import CATALOGUE, Offer
from vault.cli.demonstration.signals import products_of
from vault.client import Disclosure, PyValue

PURPOSE: Final = "personalised-offers"
HOLDINGS: Final = "product-holdings"
WANTED: Final = (
    "given-name",
    "email",
    "income",
    "balance",
    "product-holdings",
    "date-of-birth",
    "customer-segment",
    "occupation",
    "app-usage",
    "offer-clicks",
)
"""What it asks for: what a signal looks at, and a name and an address for the greeting."""
_RANKED_BY: Final = frozenset(
    {HOLDINGS, *(signal.attribute for offer in CATALOGUE for signal in offer.signals)}
)


@dataclass(frozen=True, slots=True)
class Reason:
    """Points, and what they were given for."""

    points: int
    because: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """An offer with its score, which is the sum of its reasons."""

    offer: Offer
    reasons: tuple[Reason, ...]

    @property
    def score(self) -> int:
        return sum(reason.points for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Offers, best first. `notes` say what the ranking had to do without."""

    offers: tuple[Ranked, ...]
    personalised: bool
    notes: tuple[str, ...]


def rank_for(disclosure: Disclosure, limit: int = 4) -> Ranking:
    """Rank from the answer to one read."""
    given = {name: each.value for name, each in disclosure.attributes.items() if each.value is not None}
    withheld = {name: denial.reason.value for name, denial in disclosure.denied.items()}
    return rank(given, withheld, limit)


def rank(given: Mapping[str, PyValue], withheld: Mapping[str, str], limit: int = 4) -> Ranking:
    """The best `limit` offers for a customer of whom `given` is known; `withheld` maps names to reasons."""
    scored = [_score(offer, given) for offer in _possible(given)]
    personalised = any(len(each.reasons) > 1 for each in scored)
    # sorted() is stable: equal scores keep the order of the catalogue
    best = sorted(scored, key=lambda each: -each.score)[:limit]
    return Ranking(tuple(best), personalised, tuple(_notes(withheld)))


def _possible(given: Mapping[str, PyValue], catalogue: Sequence[Offer] = CATALOGUE) -> Iterator[Offer]:
    """Offers that can be made on what is known, without those the customer is known to have."""
    held = products_of(given.get(HOLDINGS))
    for offer in catalogue:
        if offer.needs <= given.keys() and offer.product not in held:
            yield offer


def _score(offer: Offer, given: Mapping[str, PyValue]) -> Ranked:
    reasons = [Reason(offer.base, "base" if offer.needs else "for everybody")]
    for signal in offer.signals:
        value = given.get(signal.attribute)
        if value is not None and signal.fits(value):
            reasons.append(Reason(signal.points, signal.reason(value)))
    return Ranked(offer, tuple(reasons))


def _notes(withheld: Mapping[str, str]) -> Iterator[str]:
    """One line per reason: the reader wants to know what is missing, and what could bring it back."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in withheld.items():
        if name in _RANKED_BY:
            by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield f"ranked without {', '.join(names)}: {reason}"
