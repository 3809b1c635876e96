"""A service that is started while the KMS is away refuses to start, in bounded time and with a clear message;
whoever started it starts it again."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faults import add_customer, command, read
from tests.support.outages import (
    BOTH,
    TOKEN_FILE,
    Scene,
    expected,
    hung,
    options,
    sealed,
    stopped,
    values,
    without_policy,
)
from tests.support.service import RunningService

pytestmark = pytest.mark.xdist_group("outages")

Outage = Callable[[Scene], contextlib.AbstractContextManager[None]]


def refuses(home: RunningService, said: str, code: int = 1) -> None:
    """A start ends with this exit code and says in one line what is the matter; no secret, no traceback."""
    refused = command(home, "serve")
    assert refused.returncode == code, refused.stderr
    assert said in refused.stderr
    told = refused.stdout + refused.stderr
    assert "Traceback" not in told
    assert (home.folder / TOKEN_FILE).read_text("ascii") not in told


@pytest.mark.parametrize(
    ("outage", "said", "code"),
    [
        (stopped, "the KMS does not answer", 1),
        (hung, "the KMS does not answer", 1),
        (without_policy, "which every replica needs: `datavault keys init` prints the policy", 2),
    ],
    ids=["stopped", "hung", "403"],
)
def test_start_is_refused(stage: Scene, tmp_path: Path, outage: Outage, said: str, code: int) -> None:
    """Without the KMS, or the right to use it, it does not start, and says why not."""
    home = RunningService(tmp_path, options(tmp_path, stage.server))
    with outage(stage):
        refuses(home, said, code)


def test_start_after_the_outage(stage: Scene, tmp_path: Path) -> None:
    """A home on which a start was refused is started as any other once the KMS is back."""
    home = RunningService(tmp_path, options(tmp_path, stage.server))
    with sealed(stage):
        refuses(home, "the KMS is sealed or down")
    with home:
        home.launch()
        number = add_customer(home)
        assert values(read(home, number, *BOTH)) == expected(number)
