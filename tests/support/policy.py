"""A small, complete policies folder in memory, and ways to change one thing of it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from vault.policy.bundle import Bundle, bundle_from_files
from vault.policy.model import MODEL
from vault.policy.problems import PolicyError, PolicyProblem

PURPOSES = """\
purposes:
  marketing:
    dpv: dpv:Marketing
    descriptions: {en: "Tell you about what we sell.", pt: "Falar do que vendemos."}
  personalised-offers:
    parent: marketing
    dpv: dpv:PersonalisedAdvertising
    descriptions: {en: "Choose offers that fit you."}
    bases: {US-CA: [opt-out], "*": []}
    consent_lifetime: 730d
    direct_marketing: true
    notice: offers
    notice_minimum_version: 2
  fraud-detection:
    dpv: dpv:FraudPreventionAndDetection
    descriptions: {en: "Keep fraud away."}
    bases: {"*": [legitimate-interest]}
    objection_overridden: "Compelling grounds: payment fraud (GDPR 21(1), recital 47)."
  account-service:
    dpv: dpv:ServiceProvision
    descriptions: {en: "Run your account."}
    bases: {"*": [contract, legal-obligation]}
"""
ATTRIBUTES = """\
categories:
  pd:PersonalData: {}
  pd:Contact: {parent: pd:PersonalData}
  pd:EmailAddress: {parent: pd:Contact}
  pd:Financial: {parent: pd:PersonalData}
  pd:Income: {parent: pd:Financial}
  pd:SpecialCategory: {parent: pd:PersonalData}
key_classes:
  contact: {}
  financial: {ground: "Money laundering", purposes: [account-service], period: 5y, from: relationship-end}
attributes:
  email:
    type: string
    category: pd:EmailAddress
    key_class: contact
    validation: {pattern: '[^@\\s]+@[^@\\s]+', max_bytes: 254}
    forms: [clear, {mask: {style: email}}, {pseudonymise: {scope: caller}}, exists]
    retention: 10y
  income:
    type: decimal
    scale: 2
    category: pd:Income
    key_class: financial
    forms: [clear, {generalise: {bands: ["0", "20000", "40000", "80000"]}}, exists]
  birth-date:
    type: date
    category: pd:PersonalData
    key_class: contact
    forms: [{generalise: {to: year}}, {mask: {keep_first: 4}}, exists]
  health-note:
    type: string
    category: pd:SpecialCategory
    key_class: contact
    forms: [clear, exists]
"""
CALLERS = """\
roles:
  marketing: "Systems that address customers"
  everyone: "All services"
  auditor: "Reads the log"
callers:
  engine:
    tenant: retail
    description: "Ranks offers"
    identities:
      - spiffe: spiffe://bank.example/engine
      - dns: engine.bank.example
      - jwt: {issuer: "https://idp.bank.example", subject: engine}
    quotas: {subjects_per_hour: {personalised-offers: 100000, "*": 10000}}
  fraud:
    tenant: retail
    description: "Finds fraud"
    identities: [{spiffe: spiffe://bank.example/fraud}]
  audit-desk:
    tenant: retail
    description: "Auditors"
    identities: [{dns: audit.bank.example}]
"""
RULES = """\
# reads
p, offers-income, marketing, personalised-offers, pd:Income, read.generalise, consent, allow
p, offers-email, marketing, personalised-offers, pd:EmailAddress, read.mask, consent, allow
p, offers-email-us, marketing, personalised-offers, pd:EmailAddress, read.mask, opt-out, allow
p, fraud-email, fraud, fraud-detection, email, read.clear, legitimate-interest, allow
p, fraud-search, fraud, fraud-detection, email, search, legitimate-interest, allow
p, service-birth, everyone, account-service, birth-date, read.generalise, contract, allow
p, service-special, everyone, account-service, pd:SpecialCategory, read.clear, contract, allow
p, no-special, marketing, account-service, pd:SpecialCategory, read.exists, any, deny
# acts
p, engine-write, engine, administration, pd:Contact, write, operation, allow
p, audit, auditor, administration, none, audit.read, operation, allow
# roles
g, engine, marketing
g, marketing, everyone
g, fraud, everyone
g, audit-desk, auditor
"""
NOTICE = """\
---
title: Offers made for you
covers:
  personalised-offers: [pd:Income, pd:EmailAddress]
---
We look at your income band.
"""
TESTS = """\
tests:
  - name: the engine gets an income band with consent
    caller: engine
    purpose: personalised-offers
    bases: [consent]
    expect: {income: generalise, email: mask, health-note: not-permitted}
  - name: without consent the reason is the missing basis
    caller: engine
    purpose: personalised-offers
    bases: []
    max_form: mask
    expect: {income: basis-missing}
  - {name: the auditor reads the log, caller: audit-desk, act: audit.read, expect: allow}
  - {name: the engine does not, caller: engine, act: audit.read, expect: deny}
  - {name: fraud searches, caller: fraud, act: search, purpose: fraud-detection, bases: [legitimate-interest],
     data: email, expect: allow}
"""


def example_files(**changed: str) -> dict[str, bytes]:
    """The example as path -> bytes. Keywords replace whole files: `rules`, `purposes`, `attributes` ..."""
    texts = {
        "model.conf": MODEL,
        "policy.csv": changed.get("rules", RULES),
        "purposes.yaml": changed.get("purposes", PURPOSES),
        "attributes.yaml": changed.get("attributes", ATTRIBUTES),
        "callers.yaml": changed.get("callers", CALLERS),
        "notices/offers/2/en.md": changed.get("notice", NOTICE),
        "tests/example.yaml": changed.get("tests", TESTS),
    }
    return {path: text.encode() for path, text in texts.items()}


def example_bundle(**changed: str) -> Bundle:
    """The example, loaded; keywords as in `example_files`."""
    return bundle_from_files(example_files(**changed))


def edited(path: str, old: str, new: str) -> dict[str, bytes]:
    """The example with the first `old` of one file replaced."""
    files = example_files()
    text = files[path].decode()
    assert old in text, f"the example no longer has {old!r}"
    files[path] = text.replace(old, new, 1).encode()
    return files


def problems_of(files: Mapping[str, bytes]) -> tuple[PolicyProblem, ...]:
    """Every problem that loading these files gives."""
    with pytest.raises(PolicyError) as caught:
        bundle_from_files(files)
    return caught.value.errors


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Put the files into a folder and return it."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder
