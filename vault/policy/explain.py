"""Why a decision is what it is: every rule that concerns it, and what became of every form."""

from dataclasses import dataclass
from enum import StrEnum

from vault.domain.faults import did_you_mean
from vault.domain.protocols import DecisionEngine
from vault.domain.types import ANY_BASIS, Decision, Form
from vault.policy.bundle import Bundle
from vault.policy.masks import compile_masks
from vault.policy.rules import POLICY_FILE, Rule


class FormOutcome(StrEnum):
    """What became of one form."""

    GIVEN = "given"
    PERMITTED = "permitted, but a stronger form was given"
    ABOVE_MAX_FORM = "stronger than the caller asked for"
    NOT_DECLARED = "the attribute has no such form"
    DENIED = "denied"
    BASIS_MISSING = "allowed only on a legal basis that does not hold"
    NO_RULE = "no rule allows it"


@dataclass(frozen=True, slots=True)
class FormExplanation:
    """One form, what became of it, and the rules that decided that."""

    form: Form
    outcome: FormOutcome
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """A rule that matches caller, purpose and attribute; `holds` tells whether its basis does."""

    rule: Rule
    holds: bool

    @property
    def place(self) -> str:
        return f"{POLICY_FILE}:{self.rule.line}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision; all forms, strongest first; all rules, in file order; and it all in sentences."""

    decision: Decision
    forms: tuple[FormExplanation, ...]
    matches: tuple[RuleMatch, ...]
    lines: tuple[str, ...]


def explain(
    bundle: Bundle,
    engine: DecisionEngine,
    caller: str,
    purpose: str,
    attribute: str,
    bases: frozenset[str],
    max_form: Form | None = None,
) -> Explanation:
    """Explain `engine.decide` for one question. Names nobody declared are explained, not refused."""
    decision = engine.decide(caller, purpose, attribute, bases, max_form)
    unknown = _unknown(bundle, caller, purpose, attribute)
    if unknown:
        return Explanation(decision, (), (), (unknown,))
    masks = compile_masks(bundle)
    matching = masks.subjects[caller] & masks.purposes[purpose] & masks.data[attribute]
    held = bases | {ANY_BASIS}
    matches = tuple(RuleMatch(rule, rule.basis in held) for rule in masks.matching(matching))

    def forms(outcome_of: Form) -> FormExplanation:
        denied = tuple(rule.id for rule in masks.matching(matching & masks.denies[outcome_of.act]))
        allowed = list(masks.matching(matching & masks.allows[outcome_of.act]))
        outcome, rules = _outcome(denied, allowed, held)
        if bundle.attributes[attribute].spec(outcome_of) is None:
            outcome = FormOutcome.NOT_DECLARED
        elif max_form is not None and not max_form.admits(outcome_of):
            outcome = FormOutcome.ABOVE_MAX_FORM
        elif outcome_of is decision.form:
            outcome = FormOutcome.GIVEN
        return FormExplanation(outcome_of, outcome, rules)

    explained = tuple(map(forms, _strongest_first(bundle, attribute)))
    return Explanation(decision, explained, matches, tuple(_lines(decision, explained, matches)))


def _outcome(
    denied: tuple[str, ...], allowed: list[Rule], held: frozenset[str]
) -> tuple[FormOutcome, tuple[str, ...]]:
    if denied:
        return FormOutcome.DENIED, denied
    holding = tuple(rule.id for rule in allowed if rule.basis in held)
    if holding:
        return FormOutcome.PERMITTED, holding
    if allowed:
        return FormOutcome.BASIS_MISSING, tuple(rule.id for rule in allowed)
    return FormOutcome.NO_RULE, ()


def _strongest_first(bundle: Bundle, attribute: str) -> list[Form]:
    """The attribute's forms as it declares them, and clear and the others it does not have."""
    declared = [spec.form for spec in bundle.attributes[attribute].forms]
    return declared + [form for form in reversed(Form) if form not in declared]


def _unknown(bundle: Bundle, caller: str, purpose: str, attribute: str) -> str:
    if caller not in bundle.callers:
        return f"{caller!r} is no caller of callers.yaml{did_you_mean(caller, bundle.callers)}"
    node = bundle.purposes.get(purpose)
    if node is None:
        return f"{purpose!r} is no purpose of purposes.yaml{did_you_mean(purpose, bundle.purposes)}"
    if not node.leaf:
        return f"{purpose!r} has purposes below it: only a leaf can be asked for"
    if attribute not in bundle.attributes:
        return f"{attribute!r} is no attribute of attributes.yaml{did_you_mean(attribute, bundle.attributes)}"
    return ""


def _lines(
    decision: Decision, forms: tuple[FormExplanation, ...], matches: tuple[RuleMatch, ...]
) -> list[str]:
    places = {match.rule.id: match.place for match in matches}
    result = decision.form.value if decision.form else str(decision.reason)
    lines = [f"decision: {result}" + (f" by rule {decision.rule!r}" if decision.rule else "")]
    if decision.wanted:
        lines.append("would be allowed on: " + ", ".join(sorted(decision.wanted)))
    for explained in forms:
        rules = ", ".join(f"{rule} ({places[rule]})" for rule in explained.rules)
        lines.append(f"{explained.form.value}: {explained.outcome.value}" + (f": {rules}" if rules else ""))
    for match in matches:
        rule = match.rule
        basis = f"basis {rule.basis} {'holds' if match.holds else 'does not hold'}"
        lines.append(f"{match.place}: {rule.effect} {rule.act} for {rule.subject}, {basis}: {rule.id}")
    return lines
