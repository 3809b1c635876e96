"""The smallest policies folder that the fault tests need: it loads in a tenth of the time of the real one.

Callers, attributes and purposes are called as in the repository's own policies.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vault.policy.model import MODEL

_PURPOSES: Final = """\
purposes:
  marketing:
    dpv: dpv:Marketing
    descriptions: {en: "Tell you about what we sell."}
  personalised-offers:
    parent: marketing
    dpv: dpv:PersonalisedAdvertising
    descriptions: {en: "Choose offers that fit you."}
    bases: {"*": []}
    notice: offers
    notice_minimum_version: 2
  fraud-detection:
    dpv: dpv:FraudPreventionAndDetection
    descriptions: {en: "Keep fraud away."}
    bases: {"*": [legitimate-interest]}
"""
_ATTRIBUTES: Final = """\
categories:
  pd:PersonalData: {}
  pd:EmailAddress: {parent: pd:PersonalData}
  pd:Income: {parent: pd:PersonalData}
key_classes:
  contact: {}
  financial: {}
attributes:
  email: {type: string, category: pd:EmailAddress, key_class: contact, forms: [clear, exists]}
  income: {type: int64, category: pd:Income, key_class: financial, forms: [clear, exists]}
"""
_CALLERS: Final = """\
roles:
  everyone: "Every caller"
callers:
"""
_CALLER: Final = """\
  {name}:
    tenant: retail
    description: "{name}"
    identities: [{{spiffe: "spiffe://bank.example/{name}"}}]
"""
_NAMES: Final = (
    "personalization-engine",
    "fraud-detection",
    "customer-portal",
    "importer",
    "privacy-office",
    "auditor",
)
_RULES: Final = """\
p, offers-email, personalization-engine, personalised-offers, email, read.clear, consent, allow
p, offers-income, personalization-engine, personalised-offers, income, read.clear, consent, allow
p, fraud-email, fraud-detection, fraud-detection, email, read.clear, legitimate-interest, allow
p, fraud-income, fraud-detection, fraud-detection, income, read.clear, legitimate-interest, allow
p, write-email, importer, administration, email, write, operation, allow
p, write-income, importer, administration, income, write, operation, allow
p, write-jurisdictions, importer, administration, none, subject.jurisdictions, operation, allow
p, consent-record, customer-portal, administration, none, consent.record, operation, allow
p, consent-withdraw, customer-portal, administration, none, consent.withdraw, operation, allow
p, rights-restrict, privacy-office, administration, none, subject.restrict, operation, allow
p, rights-object, privacy-office, administration, none, subject.object, operation, allow
p, audit-read, auditor, administration, none, audit.read, operation, allow
"""
_NOTICE: Final = """\
---
title: Offers made for you
covers:
  personalised-offers: [pd:EmailAddress, pd:Income]
---
We look at your income.
"""
FILES: Final[Mapping[str, str]] = {
    "model.conf": MODEL,
    "policy.csv": _RULES + "".join(f"g, {name}, everyone\n" for name in _NAMES),
    "purposes.yaml": _PURPOSES,
    "attributes.yaml": _ATTRIBUTES,
    "callers.yaml": _CALLERS + "".join(_CALLER.format(name=name) for name in _NAMES),
    "notices/offers/2/en.md": _NOTICE,
}


def write_policies(folder: Path, changed: Mapping[str, str] | None = None) -> Path:
    """The folder with all files, those in `changed` (path -> text) instead."""
    for path, text in {**FILES, **(changed or {})}.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return folder
