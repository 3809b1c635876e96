"""Plausible customers of a retail bank, made up: the same seed gives the same people on the same day."""

import datetime
import random
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from faker import Faker

from vault.client import PyValue

FIRST_NUMBER: Final = 100_001


@dataclass(frozen=True, slots=True)
class Country:
    """Where customers live: `locale` names Faker's data; `iban` is False where accounts have none."""

    code: str
    jurisdiction: str
    locale: str
    language: str
    dialling: str
    iban: bool = True


COUNTRIES: Final = (
    Country("DE", "EU", "de_DE", "de", "+49 15"),
    Country("FR", "EU", "fr_FR", "fr", "+33 6"),
    Country("PT", "EU", "pt_PT", "pt", "+351 9"),
    Country("IE", "EU", "en_IE", "en", "+353 8"),
    Country("GB", "GB", "en_GB", "en", "+44 7"),
    Country("US", "US-CA", "en_US", "en", "+1 415", iban=False),
)
_SHARES: Final = (30, 20, 20, 10, 12, 8)
_OCCUPATIONS: Final = ("admin.", "blue-collar", "management", "services", "technician", "self-employed")
_MAIL_DOMAINS: Final = ("example.com", "example.net", "example.org")
"""Reserved (RFC 2606): mail to made-up people reaches nobody."""
_PRODUCTS: Final[Mapping[str, float]] = {
    "savings-account": 0.4,
    "credit-card": 0.5,
    "mortgage": 0.2,
    "home-insurance": 0.15,
    "investment-plan": 0.2,
    "pension-plan": 0.1,
}


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer; the people are made up, and their data stay out of repr all the same."""

    number: str
    country: Country
    values: Mapping[str, PyValue] = field(repr=False)

    @property
    def name(self) -> str:
        return " ".join(str(self.values[part]) for part in ("given-name", "family-name"))


def make_customers(count: int, seed: int, today: datetime.datetime) -> list[Customer]:
    """`count` customers; a larger count begins with the same ones. `today` has a time zone.

    The first two live in the EU, where offers need consent.
    """
    chance = random.Random(seed)  # noqa: S311 - people are made up, nothing is secret
    fakers = {country.locale: Faker(country.locale) for country in COUNTRIES}
    for locale, faker in fakers.items():
        faker.seed_instance(f"{seed} {locale}")
    customers = []
    for place in range(count):
        country = COUNTRIES[place] if place < 2 else chance.choices(COUNTRIES, _SHARES)[0]
        values = _values(country, fakers[country.locale], chance, today)
        customers.append(Customer(f"C-{FIRST_NUMBER + place}", country, values))
    return customers


def _values(
    country: Country, faker: Faker, chance: random.Random, today: datetime.datetime
) -> dict[str, PyValue]:
    age = min(max(round(chance.gauss(45, 16)), 18), 88)
    income = _income(age, chance)
    given, family = faker.first_name(), faker.last_name()
    return {
        "given-name": given,
        "family-name": family,
        **_identity(country, faker, chance, age, today),
        **_contact(country, faker, chance, f"{_ascii(given)}.{_ascii(family)}"),
        **_financial(country, faker, chance, age, income),
        **_behaviour(chance, age, income, today),
    }


def _income(age: int, chance: random.Random) -> Decimal:
    typical = 12_000 if age < 23 else 24_000 if age > 67 else 44_000
    return Decimal(round(chance.lognormvariate(0, 0.45) * typical / 100) * 100).quantize(Decimal("0.01"))


def _identity(
    country: Country, faker: Faker, chance: random.Random, age: int, today: datetime.datetime
) -> dict[str, PyValue]:
    born = today.date() - datetime.timedelta(days=age * 365 + chance.randrange(365))
    occupation = "student" if age < 23 else "retired" if age > 67 else chance.choice(_OCCUPATIONS)
    return {
        "date-of-birth": born,
        "nationality": country.code,
        "national-id": faker.bothify("?########").upper(),
        "street": faker.street_name(),
        "house-number": str(chance.randrange(1, 180)),
        "postcode": faker.postcode(),
        "city": faker.city(),
        "country": country.code,
        "occupation": occupation,
        "kyc-status": "verified",
        "pep-flag": chance.random() < 0.01,
        "sanctions-match": "none",
        "risk-rating": chance.choices(("low", "medium", "high"), (80, 17, 3))[0],
    }


def _contact(country: Country, faker: Faker, chance: random.Random, local: str) -> dict[str, PyValue]:
    return {
        "email": f"{local}{chance.randrange(10, 99)}@{chance.choice(_MAIL_DOMAINS)}",
        "mobile-phone": faker.numerify(f"{country.dialling}## ### ####"),
        "preferred-language": country.language,
    }


def _financial(
    country: Country, faker: Faker, chance: random.Random, age: int, income: Decimal
) -> dict[str, PyValue]:
    products = ["current-account", *(name for name, share in _PRODUCTS.items() if chance.random() < share)]
    values: dict[str, PyValue] = {
        "income": income,
        "balance": Decimal(round(chance.lognormvariate(8.6, 1.3), 2)).quantize(Decimal("0.01")),
        "card-number": faker.numerify("4539%%%%%%%%%%%%"),
        "product-holdings": [
            {"product": name, "since": f"{chance.randrange(2008, 2025)}-{chance.randrange(1, 13):02d}"}
            for name in products
        ],
        "housing-loan": "mortgage" in products,
        "credit-score": chance.randrange(420, 900),
        "transactions-summary": _spending(chance, income),
    }
    return {**values, "iban": faker.iban()} if country.iban else values


def _spending(chance: random.Random, income: Decimal) -> dict[str, Any]:
    month = int(income) // 12
    return {
        kind: month * chance.randrange(low, high) // 100
        for kind, low, high in (("groceries", 8, 20), ("housing", 20, 40), ("travel", 0, 12))
    }


def _behaviour(
    chance: random.Random, age: int, income: Decimal, today: datetime.datetime
) -> dict[str, PyValue]:
    wealthy = income >= 75_000
    segment = "student" if age < 23 else "senior" if age > 67 else "affluent" if wealthy else "mass-market"
    clicks: Sequence[str] = chance.sample([*_PRODUCTS], k=chance.randrange(0, 3))
    return {
        "customer-segment": segment,
        "app-usage": chance.randrange(0, 40),
        "last-login": today - datetime.timedelta(minutes=chance.randrange(1, 60 * 24 * 30)),
        "device-fingerprint": f"{chance.getrandbits(64):016x}",
        "offer-clicks": {name: chance.randrange(1, 5) for name in clicks},
    }


def _ascii(name: str) -> str:
    """A name as it stands in an e-mail address."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(char for char in plain.lower() if char.isalnum()) or "customer"
