"""`datavault policy`: a security team's tools, over a folder or, for `explain`, over the live policies."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from vault.cli.connection import Connector, client_options
from vault.cli.exits import ExitCode
from vault.cli.output import JSON, output_option, print_json, print_table, printable
from vault.cli.policies import folder as folder_in_force
from vault.cli.policies import load

if TYPE_CHECKING:
    from vault.policy.check import CheckReport
    from vault.policy.testing_cases import TestResult

_FORMS: Final = ("exists", "pseudonymise", "generalise", "mask", "clear")
_FOLDER: Final = click.argument("folder", required=False, type=click.Path(path_type=Path))


@click.group()
def policy() -> None:
    """Check, test and explain the policy files."""


@policy.command()
@_FOLDER
@output_option()
def check(folder: Path | None, output: str) -> ExitCode:
    """Read FOLDER strictly, compare both engines, run the tests and question every rule.

    Exits with 3 when it does not compile or the engines differ, 4 when a test fails, 1 when a serious finding
    has no entry in justifications.yaml.

    \b
      datavault policy check policies/
    """
    from vault.policy.check import check as check_folder

    path = folder_in_force(folder)
    report = check_folder(path)
    if output == JSON:
        print_json(_report(path, report))
    else:
        _print_report(path, report)
    if report.problems or report.differences:
        return ExitCode.POLICY_DOES_NOT_COMPILE
    if report.failed:
        return ExitCode.POLICY_TEST_FAILED
    return ExitCode.OK if report.good else ExitCode.FAILED


@policy.command()
@_FOLDER
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Also write JUnit XML.")
@output_option()
def test(folder: Path | None, junit: Path | None, output: str) -> ExitCode:
    """Run the tests of FOLDER. Exits with 3 when it does not compile, 4 when a test fails.

    \b
      datavault policy test policies/ --junit policy-tests.xml
    """
    from vault.policy.engine import CompiledEngine
    from vault.policy.testing_cases import run_tests

    bundle = load(folder)
    results = run_tests(bundle, CompiledEngine(bundle))
    if junit is not None:
        from vault.cli.junit import write_junit

        write_junit(junit, results)
    failed = [result for result in results if not result.passed]
    if output == JSON:
        print_json({"bundle_hash": bundle.hash, "tests": [_test(result) for result in results]})
    else:
        for result in failed:
            click.echo(str(result.problem()))
        click.echo(f"{len(results) - len(failed)} of {len(results)} expectations hold")
    return ExitCode.POLICY_TEST_FAILED if failed else ExitCode.OK


@policy.command()
@click.argument("caller")
@click.argument("purpose")
@click.argument("attributes", nargs=-1, required=True)
@click.option(
    "--basis", "bases", multiple=True, help="A legal basis that holds, such as consent; can be repeated."
)
@click.option("--max-form", type=click.Choice(_FORMS), help="The strongest form wanted.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Ask these files instead of the live policies."
)
@client_options
@output_option()
def explain(
    caller: str,
    purpose: str,
    attributes: tuple[str, ...],
    bases: tuple[str, ...],
    max_form: str | None,
    folder: Path | None,
    connector: Connector,
    output: str,
) -> None:
    """Say what CALLER gets of ATTRIBUTES for PURPOSE, by which rule, and why not more.

    \b
      datavault policy explain personalization-engine personalised-offers income --basis consent \\
          --folder policies/
    """
    if folder is not None:
        answer = _explain_folder(folder, caller, purpose, attributes, frozenset(bases), max_form)
    else:
        answer = _explain_live(connector, caller, purpose, attributes, bases, max_form)
    if output == JSON:
        print_json(answer)
        return
    for each in answer["explanations"]:
        click.echo(f"{printable(each['attribute'])}: {printable(each['form'] or each['reason'])}")
        for line in each["text"]:
            click.echo(f"  {printable(line)}")
    click.echo(f"policies: {answer['bundle_hash']}")


def _explain_folder(
    folder: Path,
    caller: str,
    purpose: str,
    attributes: tuple[str, ...],
    bases: frozenset[str],
    max_form: str | None,
) -> dict[str, Any]:
    from vault.domain.types import Form
    from vault.policy.engine import CompiledEngine
    from vault.policy.explain import explain as explain_one

    bundle = load(folder)
    engine = CompiledEngine(bundle)
    explanations = []
    for attribute in attributes:
        found = explain_one(
            bundle, engine, caller, purpose, attribute, bases, Form(max_form) if max_form else None
        )
        explanations.append(
            {
                "attribute": attribute,
                "form": found.decision.form,
                "reason": found.decision.reason,
                "rule": found.decision.rule,
                "rules": [match.rule.id for match in found.matches],
                "wanted_bases": sorted(found.decision.wanted),
                "text": list(found.lines),
            }
        )
    return {"bundle_hash": bundle.hash, "explanations": explanations}


def _explain_live(
    connector: Connector,
    caller: str,
    purpose: str,
    attributes: tuple[str, ...],
    bases: tuple[str, ...],
    max_form: str | None,
) -> dict[str, Any]:
    with connector.open() as client:
        found = client.explain_decision(
            caller, purpose=purpose, attributes=attributes, bases=bases, max_form=max_form
        )
    explanations = [
        {
            "attribute": each.attribute,
            "form": each.form,
            "reason": each.reason,
            "rule": each.rule,
            "rules": [rule.id for rule in each.rules],
            "wanted_bases": list(each.wanted_bases),
            "text": each.text.splitlines(),
        }
        for each in found.explanations
    ]
    return {"bundle_hash": found.bundle_hash, "explanations": explanations}


def _print_report(path: Path, report: "CheckReport") -> None:
    for problem in report.problems:
        click.echo(f"{path}/{problem}")
    for difference in report.differences:
        click.echo(f"engines differ: {difference}")
    for result in report.failed:
        click.echo(f"{path}/{result.problem()}")
    for finding in report.findings:
        if finding.serious or not finding.justification:
            click.echo(f"{path}/{finding}")
    if report.bundle is None:
        click.echo(f"{len(report.problems)} problems: the folder is refused as a whole", err=True)
        return
    print_table(
        ["checked", "result"],
        [
            ("bundle", report.bundle.hash),
            ("rules", len(report.bundle.rules)),
            ("attributes", len(report.bundle.attributes)),
            ("purposes", len(report.bundle.purposes)),
            ("callers", len(report.bundle.callers)),
            ("engines", f"{len(report.differences)} differences" if report.differences else "agree"),
            ("tests", f"{len(report.tests) - len(report.failed)} of {len(report.tests)} expectations hold"),
            ("findings", _findings(report)),
        ],
    )


def _findings(report: "CheckReport") -> str:
    justified = sum(bool(finding.justification) for finding in report.findings)
    serious = sum(finding.serious for finding in report.findings)
    return f"{len(report.findings)}, of them {justified} justified, {serious} that need a justification"


def _report(path: Path, report: "CheckReport") -> dict[str, Any]:
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
        "tests": [_test(result) for result in report.tests],
    }


def _test(result: "TestResult") -> dict[str, Any]:
    return {
        "name": result.name,
        "attribute": result.attribute,
        "expected": result.expected,
        "got": result.got,
        "passed": result.passed,
        "path": result.path,
        "line": result.line,
    }
