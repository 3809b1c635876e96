"""`datavault serve` and `datavault config`: running the service, and what it would run with."""

import os
from pathlib import Path

import click

from vault.cli.exits import CommandError, ExitCode
from vault.cli.output import JSON, output_option, print_json, print_table


@click.command()
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the addresses there as JSON once it serves.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Processes that serve; default DATAVAULT_WORKERS, else 1.",
)
def serve(ready_file: Path | None, workers: int | None) -> int:
    """Run the service until SIGTERM or SIGINT. SIGHUP loads the policies anew.

    Settings come from the environment, then datavault.toml; `datavault config` shows those in force.

    With several workers a supervisor starts them on the same ports, replaces one that ends, answers health
    and metrics for all, and passes signals on: all drain together, and other policies come into force in all
    or in none. It ends with code 6 when workers go on ending.

    \b
    Examples:
      DATAVAULT_HOME=/var/lib/datavault datavault serve --ready-file ready.json
      datavault serve --workers 4
    """
    # gRPC writes lines of its own, which are no JSON, and reads this when it is first imported
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from vault import logs
    from vault.config import load_settings

    if ready_file is not None and not ready_file.parent.is_dir():
        raise click.BadParameter(f"there is no folder {ready_file.parent}", param_hint="--ready-file")

    logs.configure()
    settings = load_settings() if workers is None else load_settings(workers=workers)
    if settings.workers > 1:
        # without the service's own modules: the supervisor needs few of them
        from vault.workers.supervisor import supervise

        ending = supervise(settings, ready_file)
        if ending.code:
            raise CommandError(ending.message, ending.hint, ExitCode(ending.code))
        return ExitCode.OK

    from vault import serving

    serving.serve(settings, ready_file)
    return ExitCode.OK


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
