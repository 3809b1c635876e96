"""The bundle that serves now, and how another one takes its place.

A bundle that fails anything is refused as a whole and the last good one goes on serving; a new engine is made
per bundle and swapped by one reference assignment, so no decision ever sees half of a policy.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, DecisionEngine
from vault.domain.system import SystemClock
from vault.policy.bundle import Bundle, load_bundle
from vault.policy.compare import compare
from vault.policy.engine import CompiledEngine
from vault.policy.problems import PolicyError, PolicyProblem
from vault.policy.reference import CasbinEngine
from vault.policy.rules import POLICY_FILE
from vault.policy.testing_cases import run_tests

EngineName = Literal["compiled", "casbin"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle that passed every check, its engine, and when it was loaded (microseconds since 1970 UTC)."""

    bundle: Bundle
    engine: DecisionEngine
    loaded_at: int


class LivePolicy:
    """Holds the last good bundle. Readers take `current` once per group and use that reference throughout."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._current: Loaded | None = None

    @property
    def current(self) -> Loaded:
        """The bundle in force.

        Raises:
            PolicyError: no bundle was ever good: a service in this state must not serve.
        """
        current = self._current
        if current is None:
            raise PolicyError([PolicyProblem(".", 1, 1, "no policy is loaded")])
        return current

    def load(self, folder: Path, engine: EngineName = "compiled") -> Loaded:
        """Check a policies folder in every way and put it in force.

        Raises:
            PolicyError: a file is wrong, a policy test fails, or the engines differ; what was in force stays.
        """
        loaded = self.prepare(load_bundle(folder), engine)
        self.adopt(loaded)
        return loaded

    def adopt(self, loaded: Loaded) -> None:
        """Put in force what `prepare` gave."""
        self._current = loaded

    def prepare(self, bundle: Bundle, engine: EngineName = "compiled", *, compared: bool = False) -> Loaded:
        """Test and compare a bundle without putting it in force. `compared`: another process of this server
        has compared these very bytes.

        Raises:
            PolicyError.
        """
        compiled = CompiledEngine(bundle)
        casbin = CasbinEngine(bundle) if engine == "casbin" or not compared else None
        chosen: DecisionEngine = compiled if casbin is None or engine == "compiled" else casbin
        failed = [result.problem() for result in run_tests(bundle, compiled) if not result.passed]
        if failed:
            raise PolicyError(failed)
        if not compared:
            found = compare(
                bundle,
                LIMITS.policy_compare_seconds,
                compiled=compiled,
                reference=casbin,
                clock=self._clock,
            )
            if found:
                raise PolicyError(PolicyProblem(POLICY_FILE, 1, 1, str(each)) for each in found)
        return Loaded(bundle, chosen, self._clock.now())
