"""`datavault serve` and `datavault config`: running the service, and what it would run with."""

import os
from pathlib import Path

import click

from vault.cli.output import JSON, output_option, print_json, print_table


@click.command()
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the addresses there as JSON once it serves.",
)
def serve(ready_file: Path | None) -> None:
    """Run the service until SIGTERM or SIGINT. SIGHUP loads the policies anew.

    Settings come from the environment, then datavault.toml; `datavault config` shows those in force.

    \b
    Example:
      DATAVAULT_HOME=/var/lib/datavault datavault serve --ready-file ready.json
    """
    # gRPC writes lines of its own, which are no JSON, and reads this when it is first imported
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from vault import logs, serving
    from vault.config import load_settings

    logs.configure()
    serving.serve(load_settings(), ready_file)


@click.command()
@output_option()
def config(output: str) -> None:
    """Show every setting in force, and where it comes from. Secrets are hidden.

    \b
    Example:
      datavault config --output json
    """
    from vault.config import load_settings, settings_in_force

    rows = settings_in_force(load_settings())
    if output == JSON:
        print_json(rows)
        return
    print_table(
        ["setting", "environment", "value", "from"],
        [(row.name, row.environment, row.value, row.source) for row in rows],
    )
