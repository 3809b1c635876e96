"""What `policy check` and `policy test` print."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vault.cli.output import print_table

if TYPE_CHECKING:
    from vault.policy.check import CheckReport
    from vault.policy.testing_cases import TestResult


def print_report(path: Path, report: "CheckReport") -> None:
    """A report for people: problems as file:line:column, then counts."""
    for problem in report.problems:
        click.echo(f"{path}/{problem}" if problem.line else str(problem))
    for difference in report.differences:
        click.echo(f"engines differ: {difference}")
    for result in report.failed:
        click.echo(f"{path}/{result.problem()}")
    for finding in report.findings:
        if finding.serious or not finding.justification:
            click.echo(f"{path}/{finding}")
    if report.bundle is None:
        count = len(report.problems)
        found = f"{count} problem" if count == 1 else f"{count} problems"
        click.echo(f"{found}: the folder is refused as a whole", err=True)
        return
    print_table(
        ["checked", "result"],
        [
            ("bundle", report.bundle.hash),
            ("rules", len(report.bundle.rules)),
            ("attributes", len(report.bundle.attributes)),
            ("purposes", len(report.bundle.purposes)),
            ("callers", len(report.bundle.callers)),
            ("engines", f"they differ {len(report.differences)} times" if report.differences else "agree"),
            ("tests", f"{len(report.tests) - len(report.failed)} of {len(report.tests)} expectations hold"),
            ("findings", _findings(report)),
        ],
    )


def _findings(report: "CheckReport") -> str:
    justified = sum(bool(finding.justification) for finding in report.findings)
    serious = sum(finding.serious for finding in report.findings)
    return f"{len(report.findings)}, of them {justified} justified, {serious} that need a justification"


def report_document(path: Path, report: "CheckReport") -> dict[str, Any]:
    """A report for programs."""
    return {
        "folder": str(path),
        "bundle_hash": report.bundle.hash if report.bundle else "",
        "good": report.good,
        "problems": [
            {
                "path": each.path,
                "line": each.line,
                "column": each.column,
                "message": each.message,
                "suggestion": each.suggestion,
            }
            for each in report.problems
        ],
        "differences": [str(each) for each in report.differences],
        "findings": [
            {
                "kind": each.kind,
                "rule": each.rule,
                "line": each.line,
                "message": each.message,
                "justification": each.justification,
                "serious": each.serious,
            }
            for each in report.findings
        ],
        "tests": [test_document(result) for result in report.tests],
    }


def test_document(result: "TestResult") -> dict[str, Any]:
    """One expectation for programs."""
    return {
        "name": result.name,
        "attribute": result.attribute,
        "expected": result.expected,
        "got": result.got,
        "passed": result.passed,
        "path": result.path,
        "line": result.line,
    }
