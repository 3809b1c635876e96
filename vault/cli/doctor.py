"""`datavault doctor`: is everything in place, and what to do where it is not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vault import logs
from vault.cli.exits import ExitCode
from vault.cli.output import JSON, output_option, print_json, print_table

if TYPE_CHECKING:
    from vault.findings import Finding


@click.command()
@output_option()
def doctor(output: str) -> int:
    """Check configuration, policies, keys, database, audit log, clock and certificates.

    Run it where the service runs, with the same environment; the service may be up. Exit code 1 when
    something is bad.

    \b
      datavault doctor
      datavault doctor --output json
    """
    from vault.config import load_settings
    from vault.diagnosis import diagnose

    logs.configure(level="CRITICAL")
    return print_findings(list(diagnose(load_settings())), output)


def print_findings(findings: "Sequence[Finding]", output: str) -> int:
    """Print them; the exit code that they mean."""
    from vault.findings import Health

    if output == JSON:
        print_json(
            [
                {"check": one.check, "health": one.health, "detail": one.detail, "remedy": one.remedy}
                for one in findings
            ]
        )
    else:
        print_table(
            ["check", "", "what was seen", "what to do"],
            [(one.check, one.health.value, one.detail, one.remedy) for one in findings],
        )
    bad = any(one.health is Health.BAD for one in findings)
    return ExitCode.FAILED if bad else ExitCode.OK
