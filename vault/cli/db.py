"""`datavault db upgrade|status|check|grant|scrub`: the database, for those who own its tables."""

from typing import TYPE_CHECKING

import click

from vault import logs
from vault.cli.exits import ExitCode
from vault.cli.output import JSON, console, output_option, print_facts, print_json, print_table

if TYPE_CHECKING:
    from vault.store.schema import SchemaStatus


@click.group()
def db() -> None:
    """Raise the schema of the database, look at it, grant rights on it.

    Run it where the service's settings are, as the owner of the tables (DATAVAULT_DATABASE_URL names the
    user). A SQLite file is raised by `datavault serve` itself.
    """


@db.command()
@output_option()
def status(output: str) -> int:
    """Show which schema the database has, what this release would change, how many processes serve it, and
    its audit logs.

    \b
      datavault db status
    """
    from vault.config import load_settings
    from vault.databases import database_status

    logs.configure(level="ERROR")
    found = database_status(load_settings())
    if output == JSON:
        print_json(
            {
                "database": found.name,
                **_document(found.schema),
                "processes": found.processes,
                "bytes": found.size,
                "logs": [{"log": log.origin, "records": log.size, "state": log.state} for log in found.logs],
            }
        )
        return ExitCode.OK
    print_facts(
        {
            "database": found.name,
            "schema": found.schema.current or "none",
            "this release": found.schema.head,
            "may be served": "yes" if found.schema.servable else "no",
            "processes": "-" if found.processes is None else found.processes,
            "size": f"{found.size / 1e6:.1f} MB",
        }
    )
    if found.logs:
        rows = [(log.origin, log.size, log.state) for log in found.logs]
        print_table(["log", "records", "state"], rows)
    if found.schema.pending:
        print_table(
            ["migration", "kind", "what it does"],
            [
                (one.revision, "contracts" if one.contracts else "expands", one.summary)
                for one in found.schema.pending
            ],
        )
    return ExitCode.OK


@db.command()
@click.option(
    "--contract",
    is_flag=True,
    help="Also take away what older releases still use: all servers must be stopped.",
)
@output_option()
def upgrade(contract: bool, output: str) -> int:
    """Raise the schema to that of this release, all or nothing.

    Servers of the older release go on serving meanwhile: what is added does not concern them. Roles with
    the rights of a service or an auditor get them on new tables too; no role loses any.

    \b
      DATAVAULT_DATABASE_URL=postgresql://owner@db/vault datavault db upgrade
    """
    from vault.config import load_settings
    from vault.databases import upgrade as run

    logs.configure(level="ERROR")
    before, after = run(load_settings(), contract=contract)
    if output == JSON:
        print_json({"before": before.current, **_document(after)})
        return ExitCode.OK
    if before.current == after.current:
        click.echo(f"the schema is {after.current} already")
    else:
        click.echo(f"the schema was {before.current or 'none'} and is {after.current}")
    if after.pending:
        click.echo("what contracts is left: stop all servers and run `datavault db upgrade --contract`")
    return ExitCode.OK


@db.command()
@output_option()
def check(output: str) -> int:
    """Check what a server needs of the database: schema, durability, TLS, rights, connections.

    Run it with the service's own user. Exit code 1 when something is bad.

    \b
      datavault db check
    """
    from vault.cli.doctor import print_findings
    from vault.config import load_settings
    from vault.diagnosis_database import database_findings

    logs.configure(level="CRITICAL")
    return print_findings(list(database_findings(load_settings())), output)


@db.command()
@click.option("--service", default="", metavar="ROLE", help="The role of the service.")
@click.option("--auditor", default="", metavar="ROLE", help="A role that may only read the audit log.")
@click.option("--apply", is_flag=True, help="Run it, as the owner of the tables, instead of printing it.")
def grant(service: str, auditor: str, apply: bool) -> int:
    """Print the SQL that gives roles the least rights they need, or run it.

    \b
      datavault db grant --service datavault --auditor datavault_auditor | psql vault
      datavault db grant --service datavault --apply
    """
    from vault.config import load_settings
    from vault.databases import apply_grants
    from vault.store.grants import statements

    logs.configure(level="ERROR")
    if not (service or auditor):
        raise click.UsageError("name a role: --service ROLE, --auditor ROLE, or both")
    if not apply:
        click.echo("\n".join(statements(service, auditor)))
        return ExitCode.OK
    done = apply_grants(load_settings(), service, auditor)
    click.echo(f"{len(done)} statements were run")
    return ExitCode.OK


@db.command()
@click.confirmation_option(prompt="Tables are locked while they are rewritten. Go on?")
def scrub() -> int:
    """Rewrite the tables that customers' data was deleted from, so that no page holds what was erased.

    PostgreSQL: VACUUM FULL, table by table, as their owner; calls wait for the table meanwhile. The WAL and
    backups still hold it until they are recycled. SQLite: stop the service first.

    \b
      datavault db scrub --yes
    """
    from rich.progress import Progress

    from vault.config import load_settings
    from vault.databases import scrub as run

    logs.configure(level="ERROR")
    shown = console(stderr=True)
    with Progress(console=shown, disable=not shown.is_terminal, transient=True) as progress:
        bar = progress.add_task("rewriting", total=None)
        run(
            load_settings(),
            lambda table, done, total: progress.update(bar, description=table, completed=done, total=total),
        )
    click.echo("rewritten")
    return ExitCode.OK


def _document(schema: "SchemaStatus") -> dict[str, object]:
    return {
        "schema": schema.current,
        "release_schema": schema.head,
        "servable": schema.servable,
        "pending": [
            {"revision": one.revision, "contracts": one.contracts, "summary": one.summary}
            for one in schema.pending
        ],
    }
