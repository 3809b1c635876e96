"""Which attribute a column may be: by its name first, then by whether its texts fit."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vault.cli.importing.columns import DATE_FORMATS, Column
from vault.cli.importing.convert import Cell, CellError
from vault.cli.importing.mapping import AttributeSource
from vault.domain.types import Attribute, ValueType

_ALIASES: Final[Mapping[str, str]] = {
    "address-line-2": "address2 addressline2 addr2",
    "balance": "accountbalance currentbalance saldo",
    "birth-date-as-stated": "",
    "city": "town ort",
    "credit-in-default": "default defaulted indefault",
    "credit-score": "score ficoscore",
    "country": "countrycode",
    "days-since-previous-contact": "pdays",
    "date-of-birth": "dob birthdate dateofbirth birthday born geburtsdatum",
    "education": "educationlevel",
    "email": "mail emailaddress",
    "family-name": "surname lastname lname familyname nachname apellido",
    "given-name": "firstname forename fname givenname vorname nombre",
    "house-number": "streetnumber houseno number",
    "housing-loan": "housing mortgage",
    "iban": "accountiban",
    "income": "salary annualincome yearlyincome",
    "last-contact-channel": "contact contacttype channel",
    "marital-status": "marital civilstatus",
    "mobile-phone": "phone telephone mobile phonenumber tel cell",
    "national-id": "ssn socsecid socialsecuritynumber nationalid identitynumber passport",
    "occupation": "job profession beruf",
    "personal-loan": "loan",
    "previous-outcome": "poutcome",
    "postcode": "zip zipcode postalcode plz",
    "preferred-language": "language lang locale",
    "state": "province region",
    "street": "address address1 addressline1 streetname strasse",
    "suburb": "district quarter",
    "tax-id": "tin taxnumber nif",
}
_CUSTOMER: Final = re.compile(
    r"(?:customer|client|cust|subject|person|member|rec|record|account|user)?[ _.-]*"
    r"(?:id|no|nr|num|number|key|code)",
    re.IGNORECASE,
)
_ALIKE: Final = 0.85
_PART_SCORE: Final = 0.75
_LEAST_FIT: Final = 0.8
_TRIED_TEXTS: Final = 1_000
_NUMBERS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"number": {"point": ","}},
    {"number": {"point": ",", "group": "."}},
    {"number": {"group": ","}},
)
_TIMESTAMPS: Final = ("iso", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "unix", "unix-ms")


@dataclass(frozen=True, slots=True)
class Guess:
    """A column that may be an attribute. `fit` is the share of its texts that become values."""

    column: str
    attribute: str
    missing: tuple[str, ...]
    convert: Mapping[str, Any]
    score: float
    fit: float


def guess_attributes(columns: Mapping[str, Column], attributes: Mapping[str, Attribute]) -> dict[str, Guess]:
    """By column the best guess, each attribute once; the surest names choose first."""
    candidates = [
        (score, column, attribute)
        for column in columns
        for attribute in attributes
        if (score := name_score(column, attribute, attributes))
    ]
    found: dict[str, Guess] = {}
    taken: set[str] = set()
    for score, column, attribute in sorted(candidates, key=lambda each: (-each[0], each[1], each[2])):
        if column in found or attribute in taken:
            continue
        guess = _fitted(columns[column], attributes[attribute], score)
        if guess is not None:
            found[column] = guess
            taken.add(attribute)
    return found


def guess_customer_number(columns: Mapping[str, Column]) -> str:
    """A column that names a customer by its name and never twice in the sample, else ''."""
    unique = [name for name, column in columns.items() if column.rows and column.unique]
    return next((name for name in unique if _CUSTOMER.fullmatch(name)), "")


def name_score(column: str, attribute: str, attributes: Mapping[str, Attribute]) -> float:
    """How alike the names are: 1 for equal ones, 0 for names that have too little in common."""
    plain = _plain(column)
    if plain == _plain(attribute) or plain in _ALIASES.get(attribute, "").split():
        return 1.0
    words = _words(column)
    # `duration` is last-contact-duration when no other attribute has that word
    if words and words <= _words(attribute) and sum(words <= _words(other) for other in attributes) == 1:
        return _PART_SCORE
    ratio = difflib.SequenceMatcher(None, plain, _plain(attribute)).ratio()
    return ratio if ratio >= _ALIKE else 0.0


def _fitted(column: Column, attribute: Attribute, score: float) -> Guess | None:
    missing = tuple(word for word in column.missing_words() if word not in attribute.allowed)
    best: Guess | None = None
    for convert in _conversions(column, attribute, missing):
        fit = _fit(column, attribute, missing, convert)
        if best is None or fit > best.fit:
            best = Guess(column.name, attribute.id, missing, convert, score, fit)
    return best if best is not None and best.fit >= _LEAST_FIT else None


def _conversions(column: Column, attribute: Attribute, missing: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if attribute.type is ValueType.BOOL:
        words = column.truth_words(missing)
        yield {} if words == {"true": True, "false": False} else {"boolean": words}
    elif attribute.type is ValueType.DATE:
        yield from ({} if form == DATE_FORMATS[0] else {"date": form} for form in DATE_FORMATS)
    elif attribute.type is ValueType.TIMESTAMP:
        yield from ({} if form == "iso" else {"timestamp": form} for form in _TIMESTAMPS)
    elif attribute.type in (ValueType.INT64, ValueType.DECIMAL, ValueType.DOUBLE):
        yield from _NUMBERS
    elif attribute.type is ValueType.STRING:
        yield from ({}, {"case": "lower"}, {"case": "upper"})
    else:
        yield {}


def _fit(column: Column, attribute: Attribute, missing: tuple[str, ...], convert: Mapping[str, Any]) -> float:
    source = AttributeSource.model_validate(
        {"column": column.name, "missing": list(missing), "convert": convert}
    )
    cell = Cell(source, attribute, trim=True)
    tried = column.values(missing).most_common(_TRIED_TEXTS)
    fitting = sum(count for text, count in tried if _becomes_value(cell, column.name, text))
    return fitting / total if (total := sum(count for _, count in tried)) else 1.0


def _becomes_value(cell: Cell, column: str, text: str) -> bool:
    try:
        cell.value({column: text}, 1)
    except CellError:
        return False
    return True


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+|[0-9]+", name.lower()))
