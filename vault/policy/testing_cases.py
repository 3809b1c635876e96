"""Runs the policy tests of a bundle against an engine."""

from dataclasses import dataclass

from vault.domain.protocols import DecisionEngine
from vault.domain.types import Decision
from vault.policy.bundle import Bundle
from vault.policy.cases import PolicyTest
from vault.policy.model import READ_ACTS
from vault.policy.problems import PolicyProblem
from vault.policy.rules import ALLOW, DENY


@dataclass(frozen=True, slots=True)
class TestResult:
    """One expectation: a test of reads has one per attribute (named in `attribute`)."""

    name: str
    attribute: str
    expected: str
    got: str
    path: str
    line: int

    @property
    def passed(self) -> bool:
        return self.expected == self.got

    def problem(self) -> PolicyProblem:
        """A failed test as a problem of its file."""
        about = f" {self.attribute}:" if self.attribute else ""
        message = f"test {self.name!r} failed:{about} expected {self.expected}, got {self.got}"
        return PolicyProblem(self.path, self.line, 1, message)


def run_tests(bundle: Bundle, engine: DecisionEngine) -> tuple[TestResult, ...]:
    """Every expectation of every policy test, in file order."""
    return tuple(result for test in bundle.tests for result in run_test(test, engine))


def run_test(test: PolicyTest, engine: DecisionEngine) -> list[TestResult]:
    """The results of one test."""
    if test.act:
        got = ALLOW if _act_allowed(test, engine) else DENY
        expected = ALLOW if test.allowed else DENY
        return [TestResult(test.name, "", expected, got, test.path, test.line)]
    return [
        TestResult(
            test.name,
            attribute,
            expected,
            outcome(engine.decide(test.caller, test.purpose, attribute, test.bases, test.max_form)),
            test.path,
            test.line,
        )
        for attribute, expected in test.expect.items()
    ]


def outcome(decision: Decision) -> str:
    """The word that a policy test uses for a decision: its form, else its reason."""
    word = decision.form or decision.reason
    return "" if word is None else word.value


def _act_allowed(test: PolicyTest, engine: DecisionEngine) -> bool:
    if test.act in READ_ACTS:
        return engine.permits(test.caller, test.purpose, test.data, test.act, test.bases)
    return engine.act(test.caller, test.act, test.data).reason is None
