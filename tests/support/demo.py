"""Runs `datavault demo` as its users do, in a process of its own, and looks for what it left behind."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
POLICIES = REPOSITORY / "policies"
RUN_SECONDS = 120.0


def environment() -> dict[str, str]:
    """Without settings that the shell of whoever runs the tests may hold."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("DATAVAULT_", "VAULT_"))
    }


def command(home: Path, *options: str) -> list[str]:
    """`datavault demo` with few customers, below `home`."""
    return [
        sys.executable, "-m", "vault.cli", "demo",
        "--home", str(home), "--policies", str(POLICIES), "--customers", "20", *options,
    ]  # fmt: skip


def play(home: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """The whole demo, without a terminal."""
    return subprocess.run(
        command(home, *options),
        env=environment(),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_SECONDS,
        check=False,
    )


def processes_of(home: Path) -> list[str]:
    """Command lines of the running processes that name something below `home`, as bao and serve do."""
    return [line for line in _command_lines() if f"{home}/" in line and " demo " not in line]


def _command_lines() -> list[str]:
    if not Path("/proc/self/cmdline").exists():
        listed = subprocess.run(["ps", "-axww", "-o", "args="], capture_output=True, text=True, check=True)
        return listed.stdout.splitlines()
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        # a process may end while it is looked at
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines


def policies_without_consent_for_income(folder: Path) -> Path:
    """The default policies, but the engine gets the income on another basis than consent."""
    changed = shutil.copytree(POLICIES, folder / "policies")
    # its tests say, rightly, that these policies are wrong: they would not be loaded
    shutil.rmtree(changed / "tests")
    rules = (changed / "policy.csv").read_text(encoding="utf-8")
    by_consent = "personalised-offers, pd:Income, read.generalise, consent, allow"
    assert rules.count(by_consent) == 1
    lines = [
        line.replace(by_consent, by_consent.replace("consent", "opt-out"))
        for line in rules.splitlines(keepends=True)
        if "p, offers-income-us," not in line
    ]
    (changed / "policy.csv").write_text("".join(lines), encoding="utf-8")
    return changed
