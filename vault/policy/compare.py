"""Compares the compiled engine with Casbin; one difference refuses a bundle (policy.md, "Engine").

Corner questions of a rule: the question it matches exactly, and that question with one dimension changed to a
near miss. After the policy tests and the corners come random questions over the whole vocabulary.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from vault.domain.errors import DatavaultError
from vault.domain.protocols import Clock, DecisionEngine
from vault.domain.system import SystemClock
from vault.domain.types import ADMINISTRATION, NO_DATA, Form
from vault.policy.bundle import Bundle
from vault.policy.engine import CompiledEngine
from vault.policy.model import ACTS, READ_ACTS
from vault.policy.reference import CasbinEngine
from vault.policy.rules import Rule
from vault.policy.schema import LEGAL_BASES

_CLOCK: Final = SystemClock()
_NO_ANSWER: Final = "no answer"
_RANDOM_ROUNDS: Final = 120


@dataclass(frozen=True, slots=True)
class Question:
    """Either `act` is set (the raw Casbin question about `data`), or a form of attribute `data` is asked."""

    caller: str
    purpose: str
    data: str
    bases: frozenset[str]
    act: str = ""
    max_form: Form | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The two engines answered a question differently."""

    question: Question
    compiled: str
    casbin: str

    def __str__(self) -> str:
        return f"{self.question}: compiled engine {self.compiled}, Casbin {self.casbin}"


def compare(
    bundle: Bundle,
    budget_seconds: float,
    *,
    corners: bool = False,
    compiled: DecisionEngine | None = None,
    reference: DecisionEngine | None = None,
    clock: Clock = _CLOCK,
    seed: int | None = None,
) -> list[Difference]:
    """Ask both engines the policy tests, with `corners` the corners of every rule, then random questions.

    Stops when the budget is used up. The sample differs per bundle and is the same for the same bundle,
    unless `seed` says otherwise.
    """
    first = compiled or CompiledEngine(bundle)
    second = reference or CasbinEngine(bundle)
    source = random.Random(bundle.hash if seed is None else seed)  # noqa: S311 - a sample, not a secret
    questions = chain(
        test_questions(bundle), corner_questions(bundle) if corners else (), _random_questions(bundle, source)
    )
    end = clock.monotonic() + budget_seconds
    return list(_differences(questions, first, second, clock, end))


def test_questions(bundle: Bundle) -> Iterator[Question]:
    """The questions of the policy tests."""
    for test in bundle.tests:
        if test.act:
            purpose = test.purpose or ADMINISTRATION
            yield Question(test.caller, purpose, test.data, test.bases, test.act)
        for attribute in test.expect:
            yield Question(test.caller, test.purpose, attribute, test.bases, "", test.max_form)


def corner_questions(bundle: Bundle) -> Iterator[Question]:
    """For every rule: a question it matches, and its near misses in every dimension."""
    corners = _Corners(bundle)
    for rule in bundle.rules:
        yield from corners.of(rule)


class _Corners:
    """For a word of a rule, one word below it and one that is not."""

    def __init__(self, bundle: Bundle) -> None:
        self._callers = {name: {name, *entry.roles} for name, entry in bundle.callers.items()}
        self._leaves = {leaf.id: {leaf.id, *leaf.ancestors} for leaf in bundle.purposes.values() if leaf.leaf}
        self._data = {
            item.id: {item.id, *bundle.categories[item.category]} for item in bundle.attributes.values()
        }
        self._attributes = bundle.attributes

    def of(self, rule: Rule) -> Iterator[Question]:
        bases = frozenset({rule.basis})
        callers = _inside_and_outside(self._callers, rule.subject)
        purposes = [rule.purpose]
        if rule.purpose != ADMINISTRATION:
            purposes = _inside_and_outside(self._leaves, rule.purpose)
        data = [rule.data] if rule.data == NO_DATA else _inside_and_outside(self._data, rule.data)
        exact = Question(callers[0], purposes[0], data[0], bases, rule.act)
        yield exact
        for caller in callers[1:]:
            yield Question(caller, exact.purpose, exact.data, bases, rule.act)
        for purpose in purposes[1:]:
            yield Question(exact.caller, purpose, exact.data, bases, rule.act)
        for word in data[1:]:
            yield Question(exact.caller, exact.purpose, word, bases, rule.act)
        yield Question(exact.caller, exact.purpose, exact.data, frozenset(), rule.act)
        yield Question(exact.caller, exact.purpose, exact.data, LEGAL_BASES - bases, rule.act)
        for act in READ_ACTS - {rule.act} if rule.act in READ_ACTS else ():
            yield Question(exact.caller, exact.purpose, exact.data, LEGAL_BASES, act)
        if rule.act in READ_ACTS and exact.data in self._attributes:
            for max_form in (None, Form.MASK, Form.EXISTS):
                yield Question(exact.caller, exact.purpose, exact.data, bases, "", max_form)
            yield Question(exact.caller, exact.purpose, exact.data, frozenset())


def _inside_and_outside(reach: dict[str, set[str]], word: str) -> list[str]:
    """A word that reaches `word` (itself, where none does) and, where there is one, a word that does not."""
    inside = next((name for name, reached in reach.items() if word in reached), word)
    outside = next((name for name, reached in reach.items() if word not in reached), None)
    return [inside] if outside is None else [inside, outside]


def _random_questions(bundle: Bundle, source: random.Random) -> Iterator[Question]:
    callers: Sequence[str] = tuple(bundle.callers)
    leaves = tuple(node.id for node in bundle.purposes.values() if node.leaf)
    attributes = tuple(bundle.attributes)
    others = tuple(sorted(ACTS - READ_ACTS))
    bases = tuple(sorted(LEGAL_BASES))
    corners = _Corners(bundle)
    for _ in range(_RANDOM_ROUNDS):
        # most uniform questions match no rule at all, so every third one starts from a rule
        yield source.choice(list(corners.of(source.choice(bundle.rules))))
        caller = source.choice(callers)
        held = frozenset(source.sample(bases, source.randint(0, 3)))
        max_form = source.choice((None, *Form))
        yield Question(caller, source.choice(leaves), source.choice(attributes), held, "", max_form)
        act = source.choice(others)
        yield Question(caller, ADMINISTRATION, source.choice((NO_DATA, *attributes)), held, act)


def _differences(
    questions: Iterable[Question], first: DecisionEngine, second: DecisionEngine, clock: Clock, end: float
) -> Iterator[Difference]:
    for question in questions:
        if clock.monotonic() >= end:
            return
        answers = answer(first, question), answer(second, question)
        if answers[0] != answers[1] or _NO_ANSWER in answers:
            yield Difference(question, *answers)


def answer(engine: DecisionEngine, question: Question) -> str:
    caller, purpose, data, bases = question.caller, question.purpose, question.data, question.bases
    try:
        if not question.act:
            decision = engine.decide(caller, purpose, data, bases, question.max_form)
            entitled = engine.entitled(caller, purpose)
            wanted = sorted(decision.wanted)
            return f"{decision.form}/{decision.reason}/{decision.rules}/{wanted}/entitled {entitled}"
        permitted = engine.permits(caller, purpose, data, question.act, bases)
        if question.act in READ_ACTS:
            return f"permitted {permitted}"
        asked = engine.act(caller, question.act, data)
        return f"permitted {permitted}/{asked.reason}/{asked.rules}"
    except DatavaultError:
        return _NO_ANSWER
