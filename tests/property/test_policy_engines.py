"""Generated policies: the compiled engine answers every question as Casbin does."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.policy import example_bundle
from vault.domain.types import Form
from vault.policy.compare import Question, answer
from vault.policy.engine import CompiledEngine
from vault.policy.reference import CasbinEngine

SUBJECTS = ("engine", "fraud", "audit-desk", "marketing", "everyone", "auditor")
PURPOSES = ("marketing", "personalised-offers", "fraud-detection", "account-service")
DATA = ("pd:PersonalData", "pd:Contact", "pd:EmailAddress", "pd:Income", "email", "income", "birth-date")
READS = tuple(form.act for form in Form)
BASES = ("consent", "contract", "opt-out")

reads = st.builds(
    lambda subject, purpose, data, act, basis: (
        f"{subject}, {purpose}, {data}, {act}, {basis or 'any'}, {'allow' if basis else 'deny'}"
    ),
    st.sampled_from(SUBJECTS),
    st.sampled_from(PURPOSES),
    st.sampled_from(DATA),
    st.sampled_from((*READS, "search", "export")),
    st.sampled_from((*BASES, *BASES, None)),
)
acts = st.builds(
    lambda subject, act, allow: (
        f"{subject}, administration, {act}, {'operation, allow' if allow else 'any, deny'}"
    ),
    st.sampled_from(SUBJECTS),
    st.sampled_from(("email, write", "pd:Contact, write", "none, audit.read", "none, keys.rotate")),
    st.booleans(),
)
# roles upwards in this order only: a cycle would be refused
links = st.lists(
    st.tuples(st.integers(0, 5), st.integers(3, 5)).filter(lambda pair: pair[0] < pair[1]),
    max_size=6,
    unique=True,
)


@st.composite
def policies(draw: st.DrawFn) -> str:
    rows = draw(st.lists(st.one_of(reads, reads, reads, acts), min_size=1, max_size=14))
    text = "".join(f"p, r{place}, {row}\n" for place, row in enumerate(rows))
    return text + "".join(f"g, {SUBJECTS[low]}, {SUBJECTS[high]}\n" for low, high in draw(links))


questions = st.builds(
    Question,
    st.sampled_from(SUBJECTS),
    st.sampled_from((*PURPOSES, "administration", "nothing")),
    st.sampled_from((*DATA, "health-note", "none", "nothing")),
    st.frozensets(st.sampled_from((*BASES, "any", "operation", "nothing"))),
    st.sampled_from(("", "", "", *READS, "search", "export", "write", "audit.read", "nothing")),
    st.sampled_from((None, *Form)),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policies(), st.lists(questions, min_size=1, max_size=25))
def test_both_engines_give_equal_answers(rules: str, asked: list[Question]) -> None:
    """Permission, form, reason, rules, wanted bases and entitlement are those of Casbin."""
    bundle = example_bundle(
        rules=rules, tests="tests: [{name: x, caller: engine, act: audit.read, expect: deny}]"
    )
    compiled, casbin = CompiledEngine(bundle), CasbinEngine(bundle)
    for question in asked:
        assert answer(compiled, question) == answer(casbin, question), question


@settings(max_examples=100, deadline=None)
@given(policies(), st.lists(questions, min_size=1, max_size=20))
def test_more_bases_never_take_anything_away(rules: str, asked: list[Question]) -> None:
    """A deny depends on no basis, so losing one (a withdrawal) can only take away."""
    bundle = example_bundle(
        rules=rules, tests="tests: [{name: x, caller: engine, act: audit.read, expect: deny}]"
    )
    engine = CompiledEngine(bundle)
    for question in asked:
        caller, purpose, data = question.caller, question.purpose, question.data
        if engine.permits(caller, purpose, data, question.act or "read.mask", question.bases):
            more = question.bases | frozenset(BASES)
            assert engine.permits(caller, purpose, data, question.act or "read.mask", more)


@settings(max_examples=100, deadline=None)
@given(policies(), st.lists(questions, min_size=1, max_size=20))
def test_the_form_given_is_never_above_max_form(rules: str, asked: list[Question]) -> None:
    """Whatever the rules, a caller gets at most what it asked for, and something only when entitled."""
    bundle = example_bundle(
        rules=rules, tests="tests: [{name: x, caller: engine, act: audit.read, expect: deny}]"
    )
    engine = CompiledEngine(bundle)
    for question in asked:
        caller, purpose, max_form = question.caller, question.purpose, question.max_form
        decision = engine.decide(caller, purpose, question.data, question.bases, max_form)
        if decision.form is not None:
            assert max_form is None or max_form.admits(decision.form)
            assert engine.entitled(caller, purpose)
            assert decision.rule == decision.rules[0]
