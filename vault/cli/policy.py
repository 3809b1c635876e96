"""`datavault policy`: a security team's tools, over a folder or, for `explain`, over the live policies."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from vault.cli.connection import Connector, client_options
from vault.cli.exits import ExitCode
from vault.cli.output import JSON, output_option, print_json, printable
from vault.cli.policies import folder as folder_in_force
from vault.cli.policies import load
from vault.cli.policy_question import check_bases, check_question
from vault.cli.policy_report import print_report, report_document, test_document

if TYPE_CHECKING:
    from vault.policy.bundle import Bundle

_FORMS: Final = ("exists", "pseudonymise", "generalise", "mask", "clear")
_FOLDER_OPTION: Final = "--folder"
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

    path = folder_in_force(folder, "FOLDER")
    report = check_folder(path)
    if output == JSON:
        print_json(report_document(path, report))
    else:
        print_report(path, report)
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

    bundle = load(folder, "FOLDER")
    results = run_tests(bundle, CompiledEngine(bundle))
    if junit is not None:
        from vault.cli.junit import write_junit

        write_junit(junit, results)
    failed = [result for result in results if not result.passed]
    if output == JSON:
        print_json({"bundle_hash": bundle.hash, "tests": [test_document(result) for result in results]})
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
    _FOLDER_OPTION,
    is_flag=False,
    flag_value="",
    metavar="[FOLDER]",
    help="Ask these files instead of the live policies; without FOLDER those of the settings.",
)
@client_options
@output_option()
def explain(
    caller: str,
    purpose: str,
    attributes: tuple[str, ...],
    bases: tuple[str, ...],
    max_form: str | None,
    folder: str | None,
    connector: Connector,
    output: str,
) -> None:
    """Say what CALLER gets of ATTRIBUTES for PURPOSE, by which rule, and why not more.

    \b
      datavault policy explain personalization-engine personalised-offers income --basis consent \\
          --folder policies/
    """
    check_bases(bases)
    if folder is not None:
        bundle = load(Path(folder) if folder else None, _FOLDER_OPTION)
        check_question(bundle, caller, purpose, attributes)
        answer = _explain_bundle(bundle, caller, purpose, attributes, frozenset(bases), max_form)
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


def _explain_bundle(
    bundle: "Bundle",
    caller: str,
    purpose: str,
    attributes: tuple[str, ...],
    bases: frozenset[str],
    max_form: str | None,
) -> dict[str, Any]:
    from vault.domain.types import Form
    from vault.policy.engine import CompiledEngine
    from vault.policy.explain import explain as explain_one

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
