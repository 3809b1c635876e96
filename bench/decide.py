"""One policy decision at ten thousand rules, against Casbin's `enforce` on the same rules.

The rules are the bank's own policies (policies/) and as many more as are missing, drawn from its roles,
purposes, attributes, forms and legal bases. The questions are drawn too, and half of them are about what some
rule allows. The compiled engine answers a question whole, with the strongest form; Casbin is asked for one
form only, which is less. Casbin keeps no answers between questions; the engine does, so questions asked for
the first time stand beside (`decide-first`), and questions that callers repeat are the row.
"""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.figures import Figure, figure
from vault.domain.types import ANY_BASIS, OPERATION_BASIS, Basis, Form
from vault.policy.bundle import Bundle, bundle_from_files
from vault.policy.engine import CompiledEngine
from vault.policy.files import read_folder
from vault.policy.reference import CasbinEngine
from vault.policy.rules import POLICY_FILE

RULES: Final = 10_000
GOAL: Final = 10_000
LIMIT_US: Final = 1.0
QUESTIONS: Final = 512
_POLICIES: Final = Path(__file__).parent.parent / "policies"
_BASES: Final = tuple(basis.value for basis in Basis if basis.value not in (ANY_BASIS, OPERATION_BASIS))

Question = tuple[str, str, str, frozenset[str]]
"""Caller, purpose, attribute and the legal bases that hold."""


def decide(enforces: int, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """`decide`, `decide-p50` and `decide-first`: `enforces` questions to Casbin in each round."""
    say(f"{RULES:,} rules")
    bundle = bundle_of(RULES)
    draw = random.Random(5)  # noqa: S311  no secret
    asked = questions(bundle, QUESTIONS, draw)
    engine, reference = CompiledEngine(bundle), CasbinEngine(bundle)
    again: list[float] = []
    first: list[float] = []
    casbin: list[float] = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        casbin.append(_casbin(reference, engine, draw.sample(asked, enforces)))
        first.append(_each(lambda one: engine.decide_once(*one, None), asked))
        again.append(_each(lambda one: engine.decide(*one, None), asked))
    per_second = [[1 / seconds for seconds in taken] for taken in (again, first, casbin)]
    return [
        figure("decide", "decisions/s", per_second[0], per_second[2], GOAL),
        figure("decide-p50", "us, at most 1", [one * 1e6 for one in again], [LIMIT_US], 1.0),
        figure("decide-first", "decisions/s", per_second[1], per_second[2]),
    ]


def bundle_of(rules: int) -> Bundle:
    """The bank's policies with as many rules."""
    files = read_folder(_POLICIES)
    bank = bundle_from_files(files)
    draw = random.Random(3)  # noqa: S311  no secret
    roles, leaves = sorted(bank.roles), sorted(one.id for one in bank.purposes.values() if one.leaf)
    names = sorted(bank.attributes)
    rows = []
    for number in range(rules - len(bank.rules)):
        name = draw.choice(names)
        form = draw.choice(bank.attributes[name].forms).form
        fields = (draw.choice(roles), draw.choice(leaves), name, form.act, draw.choice(_BASES))
        rows.append(f"p, drawn-{number}, {', '.join(fields)}, allow\n")
    text = files[POLICY_FILE] + b"\n" + "".join(rows).encode()
    return bundle_from_files({**files, POLICY_FILE: text})


def questions(bundle: Bundle, count: int, draw: random.Random) -> list[Question]:
    """Distinct ones; of half of them a rule speaks that the caller's roles reach."""
    reads = [rule for rule in bundle.rules if rule.allows and rule.data in bundle.attributes]
    members = {link.role: link.member for link in bundle.links if link.member in bundle.callers}
    callers, names = sorted(bundle.callers), sorted(bundle.attributes)
    leaves = sorted(one.id for one in bundle.purposes.values() if one.leaf)
    found: dict[Question, None] = {}
    while len(found) < count:
        bases = frozenset(draw.sample(_BASES, draw.randint(0, 2)))
        rule = draw.choice(reads)
        if len(found) % 2 or rule.subject not in members or rule.purpose not in leaves:
            found[draw.choice(callers), draw.choice(leaves), draw.choice(names), bases] = None
        else:
            found[members[rule.subject], rule.purpose, rule.data, bases | {rule.basis}] = None
    return list(found)


def _casbin(reference: CasbinEngine, engine: CompiledEngine, asked: Sequence[Question]) -> float:
    """Seconds of one `enforce`, the median; the engine must give the same answer."""
    taken = []
    for caller, purpose, attribute, bases in asked:
        began = time.perf_counter()
        answer = reference.permits(caller, purpose, attribute, Form.CLEAR.act, bases)
        taken.append(time.perf_counter() - began)
        if answer != engine.permits(caller, purpose, attribute, Form.CLEAR.act, bases):
            raise SystemExit("the engine and Casbin do not agree")
    return median(taken)


def _each(ask: Callable[[Question], Any], asked: Sequence[Question]) -> float:
    """Seconds of one question: the median over the questions of the mean of a few hundred repetitions, since
    a clock takes as long as an answer. What the loop itself takes counts as the engine's."""
    return median(_mean(ask, question) for question in asked[:64])


def _mean(ask: Callable[[Question], Any], question: Question, times: int = 200) -> float:
    ask(question)
    began = time.perf_counter()
    for _ in range(times):
        ask(question)
    return (time.perf_counter() - began) / times
