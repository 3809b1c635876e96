"""PolicyService: what the live policy decides and why, without looking at a customer."""

import hashlib

import pytest

from tests.e2e.test_reading import customer, give
from tests.support.service import RunningService
from vault.client import DenialReason, Form, InvalidArgument


def test_an_explanation_names_the_form_the_rule_and_its_line(either: RunningService) -> None:
    """With consent the income is given in bands by rule `offers-income`, which stands on the line told."""
    client = either.client("security-team")
    (one,) = client.explain_decision(
        "personalization-engine",
        purpose="personalised-offers",
        attributes=["income"],
        bases=["consent"],
    ).explanations
    assert (one.form, one.rule, one.reason) == (Form.GENERALISE, "offers-income", None)
    lines = (either.options.policies / "policy.csv").read_text("utf-8").splitlines()
    (rule,) = [each for each in one.rules if each.id == "offers-income"]
    assert lines[rule.line - 1].startswith("p, offers-income,")
    assert (rule.effect, rule.act, rule.basis, rule.basis_holds) == (
        "allow",
        "read.generalise",
        "consent",
        True,
    )
    assert "generalise" in one.text


def test_an_explanation_without_the_basis_says_what_would_help(either: RunningService) -> None:
    """The bases that would have let some form through are named."""
    (one,) = (
        either.client("security-team")
        .explain_decision("personalization-engine", purpose="personalised-offers", attributes=["income"])
        .explanations
    )
    assert (one.form, one.reason) == (None, DenialReason.BASIS_MISSING)
    assert set(one.wanted_bases) == {"consent", "opt-out"}


def test_an_explanation_of_a_denied_attribute_names_the_denying_rule(either: RunningService) -> None:
    """Health data never serve marketing, whatever holds."""
    (one,) = (
        either.client("security-team")
        .explain_decision(
            "personalization-engine",
            purpose="personalised-offers",
            attributes=["vulnerability-note"],
            bases=["consent", "contract", "opt-out"],
        )
        .explanations
    )
    assert (one.reason, one.rule) == (DenialReason.NOT_PERMITTED, "no-special-data-for-marketing")


@pytest.mark.parametrize("max_form", [None, *Form])
def test_an_explanation_is_what_a_read_decides(either: RunningService, max_form: Form | None) -> None:
    """The same question, explained and read: same forms, same denials."""
    names = ["given-name", "email", "income", "balance", "product-holdings", "iban", "card-number"]
    number = customer(either)
    give(either, number, "personalised-offers", "offers", 2)
    read = either.client("personalization-engine").read_attributes(
        number, purpose="personalised-offers", attributes=names, max_form=max_form
    )
    explained = either.client("security-team").explain_decision(
        "personalization-engine",
        purpose="personalised-offers",
        attributes=names,
        bases=["consent"],
        max_form=max_form,
    )
    assert {one.attribute: one.form for one in explained.explanations if one.form} == {
        name: each.form for name, each in read.attributes.items()
    }
    assert explained.bundle_hash == read.bundle_hash


def test_the_bundle_is_named_by_its_content(either: RunningService) -> None:
    """The hash can be computed from the files (all but tests/), and the engine is the one configured."""
    bundle = either.client("security-team").get_bundle(include_files=True)
    lines = sorted(
        f"{hashlib.sha256(content).hexdigest()}  {path}\n"
        for path, content in bundle.files.items()
        if not path.startswith("tests/")
    )
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == bundle.bundle_hash
    assert bundle.files["policy.csv"] == (either.options.policies / "policy.csv").read_bytes()
    assert bundle.engine == either.options.engine
    assert bundle.loaded_at is not None


def test_without_being_asked_for_the_bundle_has_no_files(service: RunningService) -> None:
    """Hash, time and engine alone."""
    assert not service.client("auditor").get_bundle().files


def test_looking_at_the_policy_is_on_record(service: RunningService) -> None:
    """As is everything else."""
    explained = service.client("security-team").explain_decision(
        "fraud-detection", purpose="fraud-detection", attributes=["email"]
    )
    bundle = service.client("security-team").get_bundle()
    records = service.records()
    assert records[explained.position]["action"] == "policy.explain"
    assert records[bundle.position]["action"] == "policy.read"


def test_too_many_bases_are_refused(service: RunningService) -> None:
    """There are eight bases to name: a longer list is a mistake, and is not gone through."""
    with pytest.raises(InvalidArgument, match="bases"):
        service.client("security-team").explain_decision(
            "personalization-engine",
            purpose="personalised-offers",
            attributes=["income"],
            bases=["consent"] * 100_000,
        )
