"""`policy check`: strict loading, the policy tests, lint and the comparison with Casbin, in one report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vault.domain.protocols import Clock
from vault.domain.system import SystemClock
from vault.policy.bundle import Bundle, load_bundle
from vault.policy.compare import Difference, compare
from vault.policy.engine import CompiledEngine
from vault.policy.lint import Finding, lint
from vault.policy.problems import PolicyError, PolicyProblem
from vault.policy.testing_cases import TestResult, run_tests

_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All that is known of a policies folder. With `problems` the bundle is None and the rest is empty."""

    bundle: Bundle | None
    problems: tuple[PolicyProblem, ...]
    findings: tuple[Finding, ...] = ()
    differences: tuple[Difference, ...] = ()
    tests: tuple[TestResult, ...] = ()

    @property
    def loads(self) -> bool:
        """Whether a service would take this bundle (findings of lint do not keep it from serving)."""
        return not self.problems and not self.differences and not self.failed

    @property
    def good(self) -> bool:
        """Whether it loads and every serious finding is justified."""
        return self.loads and not any(finding.serious for finding in self.findings)

    @property
    def failed(self) -> tuple[TestResult, ...]:
        """The tests that failed."""
        return tuple(result for result in self.tests if not result.passed)


def check(folder: Path, budget_seconds: float = 60.0, clock: Clock = _CLOCK) -> CheckReport:
    """Check a policies folder; never raises. The comparison with Casbin ends when the budget is used up."""
    try:
        bundle = load_bundle(folder)
    except PolicyError as error:
        return CheckReport(None, error.errors)
    engine = CompiledEngine(bundle)
    return CheckReport(
        bundle,
        (),
        lint(bundle),
        tuple(compare(bundle, budget_seconds, corners=True, compiled=engine, clock=clock)),
        run_tests(bundle, engine),
    )
