"""make lint-deploy: the tools that know a container, a cluster or systemd read what would run there.

A tool that is not on this machine is named, with where it comes from; those of deploy/tools.txt must be.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEPLOY: Final = Path(__file__).resolve().parent
CHART: Final = DEPLOY / "helm" / "datavault"
GOLDEN: Final = DEPLOY.parent / "tests" / "golden" / "chart"
VALUES: Final = (
    "--values",
    DEPLOY / "helm" / "examples" / "production.yaml",
    "--values",
    GOLDEN / "policies.yaml",
)
UNIT: Final = DEPLOY / "systemd" / "datavault.service"
PROGRAM: Final = "/opt/datavault/bin/datavault"
KUBERNETES: Final = ("1.31", "1.37")
EXPOSURE: Final = 15
"""Tenths: what systemd calls OK ends at 25, and a unit without a sandbox has 96."""
REQUIRED: Final = "deploy/tools.txt"


@dataclass(frozen=True, slots=True)
class Lint:
    """A command whose exit code is the verdict; with `quiet` so is any complaint. `tool` is the program
    that it needs, `source` who has it."""

    what: str
    tool: str
    source: str
    command: tuple[str | Path, ...]
    quiet: bool = False


def lints(unit: Path) -> list[Lint]:
    """All of them; `unit` is the systemd unit with a program that exists here."""
    compose = ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    validate = ("kubernetes-validate", "--strict", "--quiet", "--no-warn", "-k")
    helm_lint = ("helm", "lint", "--strict", "--quiet", CHART, *VALUES)
    rendered = (sys.executable, DEPLOY / "helm" / "render.py", "--check")
    # a key that systemd does not know is ignored, with a warning
    verify = ("systemd-analyze", "verify", "--man=no", unit)
    security = ("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    return [
        Lint("Dockerfile", "hadolint", REQUIRED, ("hadolint", DEPLOY.parent / "Dockerfile")),
        Lint("compose.yaml: its specification", "check-jsonschema", REQUIRED, compose),
        *(
            Lint(
                f"chart: schemas of Kubernetes {version}",
                "kubernetes-validate",
                REQUIRED,
                (*validate, version, GOLDEN / "production.yaml"),
            )
            for version in KUBERNETES
        ),
        Lint("chart: helm lint", "helm", "make helm", helm_lint),
        Lint("chart: renders what tests/golden/chart holds", "helm", "make helm", rendered),
        Lint("unit: verify", "systemd-analyze", "systemd", verify, quiet=True),
        Lint("unit: exposure", "systemd-analyze", "systemd", security),
    ]


def say(line: str) -> None:
    """To standard output."""
    sys.stdout.write(line + "\n")


def holds(lint: Lint) -> bool:
    """Run it and say how it ended; False when it failed, or its tool is missing and must not be."""
    if shutil.which(lint.tool) is None:
        say(f"  skipped  {lint.what}: no {lint.tool} here ({lint.source})")
        return lint.source != REQUIRED
    done = subprocess.run(lint.command, capture_output=True, text=True)  # noqa: PLW1510, S603
    good = done.returncode == 0 and not (lint.quiet and done.stderr)
    say(f"  {'good   ' if good else 'FAILED '}  {lint.what} ({lint.tool})")
    if not good:
        say(done.stdout + done.stderr)
    return good


def main() -> int:
    """Exit code: 1 when a tool finds fault."""
    with tempfile.TemporaryDirectory() as folder:
        unit = Path(folder) / UNIT.name
        unit.write_text(UNIT.read_text("utf-8").replace(PROGRAM, sys.executable), "utf-8")
        verdicts = [holds(lint) for lint in lints(unit)]
    return int(not all(verdicts))


if __name__ == "__main__":
    sys.exit(main())
