"""Steps 1 to 5: what callers get, and what they do not."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from vault.cli.demonstration.callers import ENGINE, FRAUD, PORTAL
from vault.cli.demonstration.engine import HOLDINGS, PURPOSE, WANTED, rank_for
from vault.cli.demonstration.people import Customer
from vault.cli.demonstration.signals import band_floor
from vault.cli.demonstration.stage import Stage, denied_for
from vault.client import DenialReason, Disclosure, Form, PyValue

NOT_ITS_BUSINESS: Final = ("credit-score", "iban")
"""What the engine asks for in vain: no rule gives it these for any purpose."""
OTHER_PURPOSE: Final = "credit-decision"
FRAUD_PURPOSE: Final = "fraud-detection"
_FRAUD_CLEAR: Final = ("given-name", "date-of-birth", "email", "mobile-phone", "iban", "device-fingerprint")
_FRAUD_LESS: Final[Mapping[str, Form]] = {
    "balance": Form.GENERALISE,
    "national-id": Form.MASK,
    "card-number": Form.PSEUDONYMISE,
}
_PSEUDONYM_BYTES: Final = 32


def with_consent(stage: Stage) -> None:
    """Step 1: the engine gets what policy and consent allow."""
    customer = stage.consented
    answer = stage.ask(ENGINE, customer, PURPOSE, (*WANTED, *NOT_ITS_BUSINESS))
    ranking = rank_for(answer)
    stage.ranking(ranking)
    stage.check("everything it needs came back", set(answer.attributes) == set(WANTED))
    stage.check(
        "income came as a band that holds the true income, never as a number",
        _form(answer, "income") is Form.GENERALISE and _in_band(answer.value("income"), customer),
    )
    stage.check("product holdings came in clear", _is_clear(answer, HOLDINGS, customer))
    stage.check(
        "the e-mail address came masked",
        _form(answer, "email") is Form.MASK and _masks(answer.value("email"), customer.values["email"]),
    )
    stage.check(
        f"{' and '.join(NOT_ITS_BUSINESS)} were denied: not-permitted, consent or not",
        denied_for(answer, NOT_ITS_BUSINESS, DenialReason.NOT_PERMITTED),
    )
    stage.check("the ranking is made for this customer", ranking.personalised)


def without_consent(stage: Stage) -> None:
    """Step 2: a customer who never consented."""
    answer = stage.ask(ENGINE, stage.unasked, PURPOSE, WANTED)
    _nothing_given(stage, answer, DenialReason.CONSENT_MISSING)


def after_withdrawal(stage: Stage) -> None:
    """Step 3: the customer of step 1 withdraws, and the next read knows it."""
    customer = stage.consented
    receipt = stage.clients[PORTAL].withdraw_consent(customer.number, purpose=PURPOSE, channel="app")
    stage.screen.say(f"{PORTAL} withdraws the consent of {customer.number}: event {receipt.event_id}")
    effective = receipt.effective.get(PURPOSE)
    stage.check("the receipt says so", effective is not None and not effective.consented)
    answer = stage.ask(ENGINE, customer, PURPOSE, WANTED)
    _nothing_given(stage, answer, DenialReason.CONSENT_WITHDRAWN)


def without_rule(stage: Stage) -> None:
    """Step 4: the contract is a basis for credit decisions, and still the engine has no rule for them."""
    attributes = ("income", "balance", "credit-score")
    answer = stage.ask(ENGINE, stage.consented, OTHER_PURPOSE, attributes)
    stage.check(
        "everything was denied: not-permitted",
        not answer.attributes and denied_for(answer, attributes, DenialReason.NOT_PERMITTED),
    )


def on_its_own_basis(stage: Stage) -> None:
    """Step 5: fraud detection does not rest on consent, so withdrawing changes nothing for it."""
    customer = stage.consented
    clear = tuple(name for name in _FRAUD_CLEAR if name in customer.values)
    answer = stage.ask(FRAUD, customer, FRAUD_PURPOSE, (*clear, *_FRAUD_LESS, "income"))
    stage.check(
        "who the customer is, and how to reach them, came in clear",
        all(_is_clear(answer, name, customer) for name in clear),
    )
    stage.check(
        "balance, national id and card number came as a band, a mask and a pseudonym",
        all(_form(answer, name) is form for name, form in _FRAUD_LESS.items())
        and _masks(answer.value("national-id"), customer.values["national-id"])
        and len(_bytes(answer.value("card-number"))) == _PSEUDONYM_BYTES,
    )
    stage.check(
        "income is no matter of fraud detection: not-permitted",
        denied_for(answer, ("income",), DenialReason.NOT_PERMITTED),
    )


def _nothing_given(stage: Stage, answer: Disclosure, reason: DenialReason) -> None:
    ranking = rank_for(answer)
    stage.ranking(ranking)
    stage.check(
        f"everything was denied: {reason.value}",
        not answer.attributes and denied_for(answer, WANTED, reason),
    )
    stage.check(
        "the engine shows what it shows to everybody",
        bool(ranking.offers) and not ranking.personalised,
    )


def _form(answer: Disclosure, name: str) -> Form | None:
    found = answer.attributes.get(name)
    return found.form if found else None


def _is_clear(answer: Disclosure, name: str, customer: Customer) -> bool:
    return _form(answer, name) is Form.CLEAR and answer.value(name) == customer.values.get(name)


def _in_band(band: PyValue | None, customer: Customer) -> bool:
    """Whether `25000-40000` or `>=90000` holds the customer's income."""
    income, floor = customer.values["income"], band_floor(band)
    ceiling = re.fullmatch(r"-?[0-9]+-([0-9]+)", str(band))
    assert isinstance(income, Decimal)  # noqa: S101 - our own customers have an income
    return floor is not None and floor <= income and (ceiling is None or income < int(ceiling[1]))


def _masks(masked: PyValue | None, value: PyValue) -> bool:
    """Whether most of the value is hidden."""
    text, whole = str(masked), str(value)
    shown = len(text.replace("*", ""))
    return "*" in text and text != whole and whole[1:-4] not in text and shown < len(whole) / 2


def _bytes(value: PyValue | None) -> bytes:
    return value if isinstance(value, bytes) else b""
