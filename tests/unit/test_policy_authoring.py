"""lint, explain and check: what authors are told."""

from pathlib import Path

import pytest

from tests.support.policy import RULES, example_bundle, example_files, write_folder
from vault.domain.types import Form, Reason
from vault.policy.bundle import Bundle, bundle_from_files
from vault.policy.check import check
from vault.policy.engine import CompiledEngine
from vault.policy.explain import Explanation, FormOutcome, explain
from vault.policy.lint import FindingKind, lint


def with_rows(*rows: str) -> Bundle:
    return example_bundle(rules=RULES + "".join(f"{row}\n" for row in rows))


def test_the_example_has_no_findings() -> None:
    """A clean policy is told as clean."""
    assert lint(example_bundle()) == ()


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        (
            "p, x, marketing, personalised-offers, pd:Income, read.generalise, consent, allow",
            FindingKind.DUPLICATE,
            "'x' says the same as 'offers-income' (line 2)",
        ),
        (
            "p, x, engine, personalised-offers, income, read.exists, consent, allow",
            FindingKind.SHADOWED,
            "'x' adds nothing: 'offers-income' (line 2) covers it",
        ),
        (
            "p, x, engine, account-service, health-note, read.clear, any, deny",
            FindingKind.SHADOWED,
            "'x' adds nothing: 'no-special' (line 9) covers it",
        ),
        (
            "p, x, engine, account-service, health-note, read.clear, legal-obligation, allow",
            FindingKind.BENEATH_DENY,
            "'x' is refused as a whole or in part by 'no-special' (line 9)",
        ),
        (
            "p, x, idle, account-service, email, read.mask, contract, allow",
            FindingKind.NEVER_MATCHES,
            "no caller has the role 'idle'",
        ),
        (
            "p, x, engine, account-service, pd:Idle, read.mask, contract, allow",
            FindingKind.NEVER_MATCHES,
            "no attribute is under 'pd:Idle'",
        ),
        (
            "p, x, engine, account-service, email, read.mask, consent, allow",
            FindingKind.NEVER_MATCHES,
            "no purpose under 'account-service' has a notice to consent to",
        ),
        (
            "p, x, engine, account-service, email, read.mask, legal-claim, allow",
            FindingKind.NEVER_MATCHES,
            "no purpose under 'account-service' declares the basis 'legal-claim'",
        ),
        (
            "p, x, engine, account-service, income, read.mask, contract, allow",
            FindingKind.FORM_MISSING,
            "no attribute under 'income' has the form 'mask'",
        ),
        (
            "p, x, engine, marketing, birth-date, read.exists, consent, allow",
            FindingKind.OVER_BROAD,
            "'x' allows every purpose under the root 'marketing'",
        ),
        (
            "p, x, fraud, fraud-detection, pd:PersonalData, read.exists, legitimate-interest, allow",
            FindingKind.OVER_BROAD,
            "'x' allows every category under the root 'pd:PersonalData'",
        ),
    ],
)
def test_a_questionable_rule_is_found(row: str, kind: FindingKind, message: str) -> None:
    """Each kind of finding names the rule, its line, and the rule it collides with."""
    files = example_files(rules=RULES + row + "\n")
    files["callers.yaml"] = files["callers.yaml"].replace(b"roles:\n", b'roles:\n  idle: "Nobody"\n')
    files["attributes.yaml"] = files["attributes.yaml"].replace(
        b"categories:\n", b"categories:\n  pd:Idle: {}\n"
    )
    findings = [finding for finding in lint(bundle_from_files(files)) if finding.rule == "x"]
    assert (kind, message) in [(finding.kind, finding.message) for finding in findings]
    assert all(finding.line == RULES.count("\n") + 1 for finding in findings)


LEGITIMATE = "p, x, fraud, personalised-offers, pd:Contact, read.exists, legitimate-interest, allow"


def test_legitimate_interest_beside_consent_needs_a_justification() -> None:
    """A withdrawal would fall through to it, whoever the callers are."""
    [finding] = [found for found in lint(with_rows(LEGITIMATE)) if found.kind is FindingKind.FALLS_THROUGH]
    assert (finding.rule, finding.serious) == ("x", True)
    assert "'offers-email' (line 3) is withdrawn" in finding.message


def test_a_justification_settles_it(tmp_path: Path) -> None:
    """The finding stays, with its reason, and is serious no more."""
    files = example_files(rules=RULES + LEGITIMATE + "\n")
    unjustified = check(write_folder(tmp_path / "a", files), budget_seconds=0.2)
    files["justifications.yaml"] = b'x: "Because."\n'
    justified = check(write_folder(tmp_path / "b", files), budget_seconds=0.2)
    assert (unjustified.loads, unjustified.good) == (True, False)
    assert (justified.loads, justified.good) == (True, True)
    assert "Because." in [finding.justification for finding in justified.findings]


def explained(attribute: str, bases: set[str], max_form: Form | None = None) -> Explanation:
    bundle = example_bundle()
    engine = CompiledEngine(bundle)
    return explain(bundle, engine, "engine", "personalised-offers", attribute, frozenset(bases), max_form)


def test_explain_tells_every_form_and_rule() -> None:
    """The form given, why not the stronger one, and each rule with its line and whether its basis holds."""
    result = explained("email", {"consent"})
    outcomes = {form.form: form.outcome for form in result.forms}
    assert outcomes == {
        Form.CLEAR: FormOutcome.NO_RULE,
        Form.MASK: FormOutcome.GIVEN,
        Form.PSEUDONYMISE: FormOutcome.NO_RULE,
        Form.GENERALISE: FormOutcome.NOT_DECLARED,
        Form.EXISTS: FormOutcome.PERMITTED,
    }
    assert [(match.rule.id, match.place, match.holds) for match in result.matches] == [
        ("offers-email", "policy.csv:3", True),
        ("offers-email-us", "policy.csv:4", False),
    ]
    assert "mask: given: offers-email (policy.csv:3)" in result.lines


def test_explain_tells_what_is_missing() -> None:
    """Without a basis the bases that would do are named, and what max_form left out."""
    result = explained("email", set(), Form.EXISTS)
    outcomes = {form.form: form.outcome for form in result.forms}
    assert result.decision.reason is Reason.BASIS_MISSING
    assert (outcomes[Form.MASK], outcomes[Form.EXISTS]) == (
        FormOutcome.ABOVE_MAX_FORM,
        FormOutcome.BASIS_MISSING,
    )
    assert "would be allowed on: consent, opt-out" in result.lines


def test_explain_names_the_deny() -> None:
    """A deny is shown at every form it carries."""
    bundle = example_bundle()
    result = explain(
        bundle, CompiledEngine(bundle), "engine", "account-service", "health-note", frozenset({"contract"})
    )
    denied = {form.form: form.rules for form in result.forms if form.outcome is FormOutcome.DENIED}
    assert denied == {Form.CLEAR: ("no-special",), Form.EXISTS: ("no-special",)}


@pytest.mark.parametrize(
    ("question", "line"),
    [
        (("nobody", "marketing", "email"), "'nobody' is no caller of callers.yaml"),
        (("engine", "nothing", "email"), "'nothing' is no purpose of purposes.yaml"),
        (("engine", "marketing", "email"), "'marketing' has purposes below it: only a leaf can be asked for"),
        (("engine", "personalised-offers", "nothing"), "'nothing' is no attribute of attributes.yaml"),
    ],
)
def test_explain_says_which_name_is_unknown(question: tuple[str, str, str], line: str) -> None:
    """The author learns what the caller must not."""
    bundle = example_bundle()
    assert explain(bundle, CompiledEngine(bundle), *question, frozenset()).lines == (line,)


def test_check_reports_problems_of_a_folder_that_does_not_load(tmp_path: Path) -> None:
    """It never raises."""
    report = check(write_folder(tmp_path, example_files(rules="")))
    assert (report.bundle, report.loads, report.good) == (None, False, False)
    assert "the policy is empty" in report.problems[0].message


def test_check_reports_failed_tests(tmp_path: Path) -> None:
    """A failed policy test is in the report with what came instead."""
    tests = "tests: [{name: x, caller: engine, act: audit.read, expect: allow}]\n"
    report = check(write_folder(tmp_path, example_files(tests=tests)), budget_seconds=0.2)
    [failed] = report.failed
    assert (failed.name, failed.expected, failed.got, report.loads) == ("x", "allow", "deny", False)
