"""Loading into service: tests and comparison gate it, and the last good bundle stays."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.policy import RULES, TESTS, example_bundle, example_files, write_folder
from vault.domain.errors import KeysUnavailableError
from vault.domain.types import Decision, Form
from vault.policy import live
from vault.policy.bundle import Bundle
from vault.policy.compare import Question, compare, corner_questions
from vault.policy.engine import CompiledEngine
from vault.policy.live import EngineName, LivePolicy
from vault.policy.model import READ_ACTS
from vault.policy.problems import PolicyError
from vault.policy.reference import CasbinEngine


class FakeClock:
    """Every look at it takes `step` seconds."""

    def __init__(self, step: float = 0.0) -> None:
        self.seconds = 0.0
        self.step = step

    def now(self) -> int:
        return 1_700_000_000_000_000

    def monotonic(self) -> float:
        self.seconds += self.step
        return self.seconds


def test_before_the_first_load_there_is_no_policy() -> None:
    """A service without a good bundle does not serve."""
    with pytest.raises(PolicyError, match="no policy is loaded"):
        _ = LivePolicy().current


@pytest.mark.parametrize(("name", "engine"), [("compiled", CompiledEngine), ("casbin", CasbinEngine)])
def test_a_good_folder_goes_into_force(tmp_path: Path, name: EngineName, engine: type) -> None:
    """Both engines can serve it."""
    policy = LivePolicy(FakeClock(step=0.01))
    loaded = policy.load(write_folder(tmp_path, example_files()), name)
    assert policy.current is loaded
    assert isinstance(loaded.engine, engine)
    assert (loaded.bundle.hash, loaded.loaded_at) == (example_bundle().hash, 1_700_000_000_000_000)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (example_files(rules=RULES.replace("any, deny", "any, Deny")), "unknown effect 'Deny'"),
        (example_files(tests=TESTS.replace("email: mask", "email: clear")), "expected clear, got mask"),
        (example_files(rules=""), "the policy is empty"),
        ({}, "the file is missing"),
    ],
)
def test_a_bad_folder_leaves_the_last_good_one_in_force(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    """Whatever is wrong, the bundle in force stays the same object."""
    policy = LivePolicy(FakeClock(step=0.1))
    before = policy.load(write_folder(tmp_path / "good", example_files()))
    (tmp_path / "bad").mkdir()
    with pytest.raises(PolicyError, match=message):
        policy.load(write_folder(tmp_path / "bad", files))
    assert policy.current is before


def test_a_failed_policy_test_is_told_at_its_line(tmp_path: Path) -> None:
    """The author finds the test that failed."""
    folder = write_folder(tmp_path, example_files(tests=TESTS.replace("expect: allow", "expect: deny", 1)))
    with pytest.raises(PolicyError) as caught:
        LivePolicy(FakeClock()).load(folder)
    [problem] = caught.value.errors
    assert (problem.path, problem.line) == ("tests/example.yaml", 13)
    assert "expected deny, got allow" in problem.message


class OtherEngine:
    """Answers as the compiled one does. No subclass of it: a class that is compiled has none that is not."""

    def __init__(self, bundle: Bundle) -> None:
        self._engine = CompiledEngine(bundle)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class WrongEngine(OtherEngine):
    """Gives clear where a mask is due."""

    def decide(self, *question: Any) -> Decision:
        decision = self._engine.decide(*question)
        return (
            Decision(Form.CLEAR, None, decision.rule, decision.rules)
            if decision.form is Form.MASK
            else decision
        )


def test_an_engine_that_differs_from_casbin_refuses_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One difference is enough, even where no policy test looks."""
    monkeypatch.setattr(live, "CompiledEngine", WrongEngine)
    files = example_files(tests="tests: [{name: x, caller: engine, act: audit.read, expect: deny}]\n")
    with pytest.raises(PolicyError, match="compiled engine clear"):
        LivePolicy(FakeClock()).load(write_folder(tmp_path, files))


def test_the_engines_agree_on_every_corner_of_the_example() -> None:
    """The example and its near misses, then random questions."""
    assert compare(example_bundle(), 1.0, corners=True, clock=FakeClock()) == []


def test_the_comparison_ends_with_its_budget() -> None:
    """A clock that is past the budget at once leaves nothing asked."""
    wrong = WrongEngine(example_bundle())
    assert compare(example_bundle(), 1.0, compiled=wrong, clock=FakeClock(step=2.0)) == []
    assert compare(example_bundle(), 1.0, compiled=wrong, clock=FakeClock())


def test_an_engine_without_an_answer_is_a_difference() -> None:
    """Silence on both sides is not agreement."""

    class Silent(OtherEngine):
        def permits(self, *_: object) -> bool:
            raise KeysUnavailableError("nothing")

    silent = Silent(example_bundle())
    assert compare(example_bundle(), 1.0, compiled=silent, reference=silent, clock=FakeClock())


def test_every_rule_has_its_corners() -> None:
    """For each rule: its own question, and one near miss in each dimension that has one."""
    bundle = example_bundle()
    engine = CompiledEngine(bundle)
    asked = list(corner_questions(bundle))
    for rule in bundle.rules:
        if rule.allows and rule.act in READ_ACTS and rule.id != "service-special":
            assert any(
                engine.permits(found.caller, found.purpose, found.data, rule.act, found.bases)
                for found in asked
                if found.act == rule.act and found.bases == {rule.basis}
            ), rule.id
    assert any(isinstance(found, Question) and not found.bases for found in asked)
