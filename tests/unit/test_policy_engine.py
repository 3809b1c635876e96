"""The compiled engine and Casbin: one suite, both engines."""

from collections.abc import Callable

import pytest

from tests.support.policy import PURPOSES, RULES, example_bundle
from vault.domain.protocols import DecisionEngine
from vault.domain.types import Decision, Form, Reason
from vault.policy.bundle import Bundle
from vault.policy.engine import CompiledEngine
from vault.policy.reference import CasbinEngine, PolicyEngineError
from vault.policy.testing_cases import run_tests

Engine = Callable[[Bundle], DecisionEngine]
CONSENT = frozenset({"consent"})
NONE: frozenset[str] = frozenset()


@pytest.fixture(params=[CompiledEngine, CasbinEngine])
def make(request: pytest.FixtureRequest) -> Engine:
    """Both engines, as they are made of a bundle."""
    engine: Engine = request.param
    return engine


@pytest.fixture
def engine(make: Engine) -> DecisionEngine:
    """An engine of the example."""
    return make(example_bundle())


def test_the_strongest_permitted_form_is_given(engine: DecisionEngine) -> None:
    """An allow for mask gives a mask, not the clear value the attribute has too."""
    decision = engine.decide("engine", "personalised-offers", "email", CONSENT, None)
    assert decision == Decision(Form.MASK, None, "offers-email", ("offers-email",))


def test_every_rule_that_gave_the_form_is_named(engine: DecisionEngine) -> None:
    """Two bases that hold name both rules, the first in the file first."""
    decision = engine.decide("engine", "personalised-offers", "email", CONSENT | {"opt-out"}, None)
    assert decision.rules == ("offers-email", "offers-email-us")
    assert decision.rule == "offers-email"


@pytest.mark.parametrize(
    ("max_form", "form"),
    [
        (None, Form.MASK),
        (Form.CLEAR, Form.MASK),
        (Form.MASK, Form.MASK),
        (Form.PSEUDONYMISE, Form.PSEUDONYMISE),
    ],
)
def test_a_caller_can_ask_for_less(engine: DecisionEngine, max_form: Form | None, form: Form) -> None:
    """max_form admits the forms at or below it, and never raises what the rules give."""
    rules = RULES + "p, more, marketing, personalised-offers, email, read.pseudonymise, consent, allow\n"
    wider = type(engine)(example_bundle(rules=rules))  # type: ignore[call-arg]
    assert wider.decide("engine", "personalised-offers", "email", CONSENT, max_form).form is form


def test_sideways_forms_do_not_stand_in_for_each_other(engine: DecisionEngine) -> None:
    """A mask is no pseudonym: asked for that at most, only what lies below both is left."""
    decision = engine.decide("engine", "personalised-offers", "email", CONSENT, Form.PSEUDONYMISE)
    assert decision.form is Form.EXISTS


def test_a_missing_basis_is_told_with_the_bases_that_would_do(engine: DecisionEngine) -> None:
    """Without consent the answer names every basis of an allow that matches."""
    decision = engine.decide("engine", "personalised-offers", "email", NONE, None)
    assert decision == Decision(None, Reason.BASIS_MISSING, wanted=frozenset({"consent", "opt-out"}))


def test_bases_of_forms_above_max_form_are_not_wanted(engine: DecisionEngine) -> None:
    """A basis that would give more than was asked for would not help; one that gives less through it does."""
    decision = engine.decide("fraud", "fraud-detection", "email", NONE, Form.EXISTS)
    assert decision.wanted == {"legitimate-interest"}
    none_left = engine.decide("engine", "personalised-offers", "birth-date", NONE, Form.MASK)
    assert (none_left.reason, none_left.wanted) == (Reason.NOT_PERMITTED, frozenset())


@pytest.mark.parametrize(
    ("caller", "purpose", "attribute"),
    [
        ("nobody", "personalised-offers", "email"),
        ("marketing", "personalised-offers", "email"),
        ("engine", "nothing", "email"),
        ("engine", "marketing", "email"),
        ("engine", "administration", "email"),
        ("engine", "personalised-offers", "nothing"),
        ("engine", "personalised-offers", "pd:EmailAddress"),
        ("engine", "personalised-offers", "$customer-number"),
        ("engine", "personalised-offers", "none"),
    ],
)
def test_unknown_names_are_not_permitted(
    engine: DecisionEngine, caller: str, purpose: str, attribute: str
) -> None:
    """Unknown names, roles, inner purposes and categories get the answer of someone no rule mentions."""
    nothing = Decision(None, Reason.NOT_PERMITTED)
    assert engine.decide(caller, purpose, attribute, CONSENT | {"any"}, None) == nothing


def test_a_deny_of_exists_denies_every_read_search_and_export(make: Engine) -> None:
    """The lowest form carries every other."""
    extra = "".join(
        f"p, x-{act}, marketing, account-service, pd:SpecialCategory, {act}, contract, allow\n"
        for act in ("search", "export")
    )
    engine = make(example_bundle(rules=RULES + extra))
    decision = engine.decide("engine", "account-service", "health-note", frozenset({"contract"}), None)
    assert decision == Decision(None, Reason.NOT_PERMITTED, "no-special", ("no-special",))
    for act in ("search", "export", "read.clear", "read.exists"):
        bases = frozenset({"contract"})
        assert not engine.permits("engine", "account-service", "health-note", act, bases)


@pytest.mark.parametrize("bases", [NONE, CONSENT, frozenset({"any"}), frozenset({"contract", "operation"})])
def test_a_deny_depends_on_no_basis(engine: DecisionEngine, bases: frozenset[str]) -> None:
    """Whatever holds or does not hold, a deny denies."""
    decision = engine.decide("engine", "account-service", "health-note", bases, None)
    assert decision.rule == "no-special"


def test_a_deny_of_mask_leaves_the_weaker_forms(make: Engine) -> None:
    """Denying mask denies clear with it; pseudonyms and existence stay."""
    row = "p, no-mask, fraud, fraud-detection, pd:Contact, read.mask, any, deny\n"
    engine = make(example_bundle(rules=RULES + row))
    decision = engine.decide("fraud", "fraud-detection", "email", frozenset({"legitimate-interest"}), None)
    assert (decision.form, decision.rule) == (Form.PSEUDONYMISE, "fraud-email")


def test_an_allowed_search_tells_existence_and_nothing_more(make: Engine) -> None:
    """search stands above exists in g4, and above no other form."""
    rules = RULES.replace(
        "p, fraud-email, fraud, fraud-detection, email, read.clear",
        "p, s, fraud, fraud-detection, email, search",
    )
    engine = make(example_bundle(rules=rules))
    decision = engine.decide("fraud", "fraud-detection", "email", frozenset({"legitimate-interest"}), None)
    assert decision.form is Form.EXISTS


def test_acts_are_asked_with_administration_and_operation(engine: DecisionEngine) -> None:
    """write names its attribute, all else none; `form` stays None."""
    assert engine.act("engine", "write", "email") == Decision(None, None, "engine-write", ("engine-write",))
    assert engine.act("audit-desk", "audit.read") == Decision(None, None, "audit", ("audit",))
    for caller, act, data in [
        ("engine", "write", "income"),
        ("engine", "write", "none"),
        ("engine", "write", "pd:Contact"),
        ("engine", "audit.read", "none"),
        ("auditor", "audit.read", "none"),
        ("audit-desk", "audit.read", "email"),
        ("audit-desk", "audit.prove", "none"),
        ("engine", "read.clear", "email"),
        ("engine", "no-act", "none"),
    ]:
        assert engine.act(caller, act, data).reason is Reason.NOT_PERMITTED, (caller, act, data)


def test_a_denied_act_names_the_deny(make: Engine) -> None:
    """The rule that refused is told, not the one that would have allowed."""
    row = "p, no-audit, auditor, administration, none, audit.read, any, deny\n"
    engine = make(example_bundle(rules=RULES + row))
    decision = engine.act("audit-desk", "audit.read")
    assert decision == Decision(None, Reason.NOT_PERMITTED, "no-audit", ("no-audit",))


@pytest.mark.parametrize(
    ("caller", "purpose", "entitled"),
    [
        ("engine", "personalised-offers", True),
        ("engine", "marketing", False),
        ("engine", "fraud-detection", False),
        ("engine", "account-service", True),
        ("engine", "administration", False),
        ("fraud", "fraud-detection", True),
        ("audit-desk", "account-service", False),
        ("marketing", "personalised-offers", False),
        ("nobody", "nothing", False),
    ],
)
def test_a_caller_is_entitled_where_some_allow_matches(
    engine: DecisionEngine, caller: str, purpose: str, entitled: bool
) -> None:
    """A deny row, an act that is no read, or a role's own name entitle to nothing."""
    assert engine.entitled(caller, purpose) is entitled


def test_rules_on_an_inner_purpose_hold_for_every_leaf_below(make: Engine) -> None:
    """g2 is climbed from the leaf."""
    engine = make(
        example_bundle(rules=RULES + "p, wide, marketing, marketing, email, read.clear, consent, allow\n")
    )
    assert engine.decide("engine", "personalised-offers", "email", CONSENT, None).rule == "wide"
    assert engine.entitled("engine", "marketing")


def test_the_policy_tests_of_the_example_pass(engine: DecisionEngine) -> None:
    """The example is what its own tests say."""
    assert [result for result in run_tests(example_bundle(), engine) if not result.passed] == []


def test_remembered_answers_stay_those_of_their_own_question() -> None:
    """Asking again, in another order and with other bases, changes nothing."""
    engine = CompiledEngine(example_bundle())
    held = (NONE, CONSENT, CONSENT | {"opt-out"})
    questions = [(attribute, bases) for attribute in ("email", "income") for bases in held]

    def ask(question: tuple[str, frozenset[str]]) -> Decision:
        return engine.decide("engine", "personalised-offers", *question, None)

    first = [ask(question) for question in questions]
    assert first == [ask(question) for question in reversed(questions)][::-1]
    assert len(set(first)) == 5


def test_unknown_names_are_not_remembered() -> None:
    """Callers must not be able to fill the memory with names they make up."""
    engine = CompiledEngine(example_bundle())
    engine.decide("engine", "personalised-offers", "email", CONSENT, None)
    before = len(engine._memo)
    for place in range(10):
        engine.decide("engine", f"purpose-{place}", "email", CONSENT, None)
        engine.decide("engine", "personalised-offers", f"attribute-{place}", CONSENT, None)
    assert len(engine._memo) == before == 1


class _Enforcer:
    """Stands in for Casbin's evaluator on Python 3.11, which sporadically raises."""

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures

    def enforce(self, *_: object) -> bool:
        if self.failures:
            raise self.failures.pop()
        return True


def broken(failures: list[Exception]) -> CasbinEngine:
    engine = CasbinEngine(example_bundle())
    engine._enforcer = _Enforcer(failures)
    return engine


def test_a_sporadic_system_error_is_tried_again() -> None:
    """cpython 106905: an error of the evaluator is never an answer."""
    failures: list[Exception] = [SystemError("AST constructor recursion depth mismatch")] * 3
    assert broken(failures).permits("engine", "personalised-offers", "email", "read.mask", CONSENT)


@pytest.mark.parametrize("failure", [SystemError("again"), RuntimeError("invalid policy size")])
def test_an_evaluator_that_keeps_failing_gives_no_answer(failure: Exception) -> None:
    """Casbin's own errors end as one domain error, and nothing is permitted."""
    with pytest.raises(PolicyEngineError):
        broken([failure] * 100).permits("engine", "personalised-offers", "email", "read.mask", CONSENT)


def test_casbin_keeps_no_name_it_was_asked_for() -> None:
    """Casbin's role managers store every name for ever; callers must not be able to fill the memory."""
    engine = CasbinEngine(example_bundle())
    before = len(engine._links["g"].all_roles)
    engine.permits("nobody", "personalised-offers", "email", "read.mask", CONSENT)
    engine.decide("nobody", "personalised-offers", "email", CONSENT, None)
    engine.entitled("nobody", "personalised-offers")
    engine.act("nobody", "audit.read")
    assert len(engine._links["g"].all_roles) == before


def test_a_purpose_without_rules_is_not_permitted(make: Engine) -> None:
    """A leaf that no rule names gives nothing."""
    quiet = PURPOSES + "  research:\n    dpv: dpv:Research\n    descriptions: {en: x}\n"
    engine = make(example_bundle(purposes=quiet))
    assert engine.decide("engine", "research", "email", CONSENT, None) == Decision(None, Reason.NOT_PERMITTED)
