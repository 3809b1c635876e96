"""make lint-deploy: what is missing, and what counts as a fault."""

import sys

import pytest

from tests.support.compose import DEPLOY
from tests.support.deployment import script

LINT = script(DEPLOY / "lint.py")


@pytest.mark.parametrize(("source", "holds"), [("systemd", True), (LINT.REQUIRED, False)])
def test_a_tool_that_is_missing_is_named(
    source: str, holds: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a fault where PyPI has it, and a skipped look where it comes from elsewhere."""
    lint = LINT.Lint("the unit", "no-such-tool", source, ("no-such-tool",))
    assert LINT.holds(lint) is holds
    assert "skipped  the unit: no no-such-tool here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "quiet", "good"),
    [("0", False, True), ("0", True, True), ("1", False, False), ("'w'", False, False)],
)
def test_the_verdict_is_the_exit_code(code: str, quiet: bool, good: bool) -> None:
    """Of every tool."""
    lint = LINT.Lint("x", sys.executable, "", (sys.executable, "-c", f"raise SystemExit({code})"), quiet)
    assert LINT.holds(lint) is good


def test_a_complaint_counts_where_the_tool_only_warns() -> None:
    """systemd-analyze ends with 0 over a key that it will ignore."""
    complaint = (sys.executable, "-c", "import sys; sys.stderr.write('Unknown key')")
    assert LINT.holds(LINT.Lint("x", sys.executable, "", complaint))
    assert not LINT.holds(LINT.Lint("x", sys.executable, "", complaint, quiet=True))
