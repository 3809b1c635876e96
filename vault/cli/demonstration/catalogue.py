"""What the bank of the demo sells, and to whom each offer speaks."""

from dataclasses import dataclass
from typing import Final

from vault.cli.demonstration.signals import Signal, born_in, clicked, from_band, holds, one_of


@dataclass(frozen=True, slots=True)
class Offer:
    """One offer.

    `base` is how well it sells to anybody. Without the attributes in `needs` it is not made: a mortgage
    shown to somebody whose income is unknown is a promise the bank may not keep. One that needs nothing may
    be shown to everybody.
    """

    product: str
    title: str
    base: int
    signals: tuple[Signal, ...] = ()
    needs: frozenset[str] = frozenset()


CATALOGUE: Final = (
    Offer(
        "savings-account",
        "Instant savings, 2.1 %",
        30,
        (
            Signal("balance", 20, from_band(5_000), "balance {} lies idle"),
            Signal("customer-segment", 10, one_of("youth", "student"), "popular with the group {}"),
            Signal("offer-clicks", 15, clicked("savings-account"), "opened this offer lately"),
        ),
    ),
    Offer(
        "credit-card",
        "Everyday credit card",
        25,
        (
            Signal("income", 15, from_band(15_000), "income {} carries the limit"),
            Signal("offer-clicks", 15, clicked("credit-card"), "opened this offer lately"),
            Signal("app-usage", 5, from_band(5), "uses the app, sessions {}"),
        ),
    ),
    Offer(
        "home-insurance",
        "Home insurance",
        20,
        (
            Signal("product-holdings", 30, holds("mortgage"), "has a mortgage with us"),
            Signal("offer-clicks", 15, clicked("home-insurance"), "opened this offer lately"),
        ),
    ),
    Offer(
        "mortgage",
        "Mortgage, fixed for ten years",
        10,
        (
            Signal("income", 30, from_band(40_000), "income {} carries the instalments"),
            Signal("date-of-birth", 15, born_in(1980, 1999), "born in the {}: the years of first homes"),
            Signal("offer-clicks", 15, clicked("mortgage"), "opened this offer lately"),
        ),
        needs=frozenset({"income", "date-of-birth"}),
    ),
    Offer(
        "gold-card",
        "Gold card with travel cover",
        10,
        (
            Signal("income", 30, from_band(60_000), "income {}"),
            Signal("customer-segment", 15, one_of("affluent", "private-banking"), "customer group {}"),
            Signal("product-holdings", 10, holds("credit-card"), "has the everyday card: a step up"),
        ),
        needs=frozenset({"income"}),
    ),
    Offer(
        "investment-plan",
        "Investment plan from 50 a month",
        15,
        (
            Signal("balance", 25, from_band(20_000), "balance {} could be invested"),
            Signal("income", 10, from_band(25_000), "income {} leaves room to save"),
            Signal("offer-clicks", 15, clicked("investment-plan"), "opened this offer lately"),
        ),
        needs=frozenset({"income"}),
    ),
    Offer(
        "pension-plan",
        "Pension plan",
        15,
        (
            Signal("date-of-birth", 20, born_in(1960, 1989), "born in the {}"),
            Signal("occupation", 10, one_of("self-employed"), "{}: no employer pays in"),
        ),
        needs=frozenset({"date-of-birth"}),
    ),
    Offer(
        "student-loan",
        "Student loan",
        5,
        (Signal("customer-segment", 45, one_of("student"), "customer group {}"),),
        needs=frozenset({"customer-segment"}),
    ),
    Offer(
        "private-banking",
        "A banker of your own",
        5,
        (
            Signal("income", 25, from_band(90_000), "income {}"),
            Signal("balance", 35, from_band(100_000), "balance {}"),
        ),
        needs=frozenset({"income", "balance"}),
    ),
)
"""In the order of the bank's shop window, which decides between equal scores."""
