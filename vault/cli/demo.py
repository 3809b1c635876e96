"""`datavault demo`: the whole service on a stage, with customers that are made up."""

from pathlib import Path

import click

from vault.cli.policies import policies_option


@click.command()
@click.option(
    "--customers",
    type=click.IntRange(2, 100_000),
    default=200,
    show_default=True,
    help="How many customers to make up.",
)
@click.option("--seed", type=int, default=13, show_default=True, help="The same seed gives the same people.")
@click.option("--keep", is_flag=True, help="Leave the home folder there: database, logs, certificates.")
@click.option(
    "--keys",
    type=click.Choice(["local", "transit"]),
    help="Where the keys live; default: transit where a bao or vault program is installed, else local.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Make the demo's own folder below this one.  [env: DATAVAULT_HOME; default: ./.datavault]",
)
@policies_option
def demo(
    customers: int, seed: int, keep: bool, keys: str | None, home: Path | None, policies: Path | None
) -> int:
    """Show the service at work: who gets what for which purpose, and the log that proves it.

    It starts a service of its own on free ports, in a new folder, with real keys from a Transit server where
    one is installed; loads customers that are made up; and goes through eight steps, each checked against
    what really came back. On a terminal it then stays up, with commands to try, until Ctrl-C. Exit code 1
    when a step did not turn out as expected.

    \b
    Example:
      datavault demo
      datavault demo --customers 20 --keys local --keep
    """
    from vault.cli.demonstration.run import Options, run

    return run(Options(customers, seed, keep, keys, home, policies))
