"""`datavault db backup|restore`: a SQLite file, for the user that the service runs as."""

from pathlib import Path

import click

from vault import logs
from vault.cli.db import db
from vault.cli.exits import ExitCode
from vault.cli.output import print_facts

__all__ = ["db"]


@db.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
def backup(target: Path) -> int:
    """Copy a SQLite database to a new FILE, as it is at one moment; the service may go on running.

    Every page of the copy is checked. It holds ciphertexts and wrapped keys: keep it apart from the keys.

    \b
      datavault db backup /var/backups/datavault/vault.db
    """
    from vault.backups import back_up
    from vault.config import load_settings

    logs.configure(level="ERROR")
    made = back_up(load_settings(), target)
    print_facts(
        {
            "backup": target,
            "schema": made.schema,
            "records": made.records,
            "size": f"{made.size / 1e6:.1f} MB",
        }
    )
    return ExitCode.OK


@db.command()
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(source: Path, yes: bool) -> int:
    """Put a backup in the place of a SQLite database. The service must be stopped.

    What is there is moved aside together with its -wal, which would otherwise be replayed into the backup.

    \b
      datavault db restore /var/backups/datavault/vault.db
    """
    from vault.backups import restore as run
    from vault.config import load_settings

    logs.configure(level="ERROR")
    if not yes:
        click.confirm("Shall this backup take the place of the database?", abort=True)
    found, aside = run(load_settings(), source)
    print_facts(
        {
            "restored": source,
            "schema": found.schema,
            "records": found.records,
            "replaced": aside or "nothing was there",
        }
    )
    return ExitCode.OK
