"""The compiled build makes of every input what the Python sources make of it, byte by byte."""

import random
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.service import REPOSITORY
from vault.build import BUILD

COUNT = 4_500


def told(seed: int, *flags: str) -> list[str]:
    """What tests/support/answers.py says in a process of its own: the place of its code, then the answers."""
    command = [sys.executable, "-m", "tests.support.answers", str(seed), str(COUNT), *flags]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(BUILD == "python", reason="there is nothing to compare: make test-compiled")
@pytest.mark.parametrize("seed", [1, random.SystemRandom().randrange(2, 10**9)], ids=["fixed", "drawn"])
def test_the_builds_give_the_same_answers(seed: int) -> None:
    """Records, envelopes, answers, trees, values, forms, bases and decisions: results and errors."""
    (compiled, *ours), (sources, *theirs) = told(seed), told(seed, "--sources")
    assert (compiled.endswith(".so"), sources.endswith(".py")) == (True, True)
    assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]] == [], f"seed {seed}"


def test_the_inputs_are_answered_and_refused() -> None:
    """Of each format some inputs give a result, and of those that can fail some an error."""
    _, *answers = told(1)
    kinds = Counter((line.split()[0], "Error: " in line) for line in answers)
    cases = {name for name, _ in kinds}
    assert {name for name in cases if not kinds[name, False]} == set()
    assert len({name for name in cases if kinds[name, True]}) >= 6
