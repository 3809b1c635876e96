"""`datavault subject import`: a bank's own files into the vault (docs/operations/import.md)."""

from pathlib import Path
from typing import Final

import click

from vault.cli.connection import Connector, client_options
from vault.cli.exits import ExitCode
from vault.cli.output import JSON, output_option, print_json
from vault.cli.policies import OPTION, load, policies_option

_INPUT: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@click.command("import")
@click.argument("file", type=_INPUT)
@click.option("--map", "map_file", type=_INPUT, help="Which column becomes which attribute.")
@click.option(
    "--consents", type=_INPUT, help="Consent events to record afterwards (CSV, JSON lines, Parquet)."
)
@click.option("--dry-run", is_flag=True, help="Check every row, send nothing; needs no server.")
@click.option("--propose-map", is_flag=True, help="Print a map for FILE, guessed from its header and rows.")
@click.option("--rejects", type=_FILE, help="Where rejected rows go.  [default: FILE.rejects.* beside it]")
@click.option("--journal", type=_FILE, help="Where it notes how far it came.  [default: FILE.journal]")
@click.option(
    "--duplicates",
    type=click.Choice(["refuse", "last"]),
    default="refuse",
    show_default=True,
    help="A customer number that is there twice: reject the later row, or let it win.",
)
@policies_option
@client_options
@output_option()
def import_(
    file: Path,
    map_file: Path | None,
    consents: Path | None,
    dry_run: bool,
    propose_map: bool,
    rejects: Path | None,
    journal: Path | None,
    duplicates: str,
    policies: Path | None,
    connector: Connector,
    output: str,
) -> ExitCode:
    """Import customers from FILE (CSV, JSON lines or Parquet) as a map says.

    Rows that do not fit go, exactly as they were, to a rejects file with a report; all others go in, each
    once: after an interruption the same command goes on, and when it is through it changes nothing.

    \b
      datavault subject import customers.csv --propose-map > customers.yaml
      datavault subject import customers.csv --map customers.yaml --dry-run
      datavault subject import customers.csv --map customers.yaml
    """
    if propose_map and map_file is not None:
        raise click.UsageError("--propose-map prints a new map: leave --map out")
    if propose_map:
        from vault.cli.importing.proposal import propose

        click.echo(propose(file, load(policies, OPTION).attributes), nl=False)
        return ExitCode.OK
    if map_file is None:
        raise click.UsageError("--map is missing; --propose-map prints one to begin with")
    from vault.cli.importing.job import Job, dry_run_of, import_of
    from vault.cli.importing.summary import print_summary

    job = Job(file, map_file, consents, rejects, journal, duplicates == "last", output == JSON)
    bundle = load(policies, OPTION)
    summary = dry_run_of(job, bundle) if dry_run else import_of(job, bundle, connector)
    if output == JSON:
        print_json(summary.document())
    else:
        print_summary(summary)
    return ExitCode.FAILED if summary.rejects_now else ExitCode.OK
