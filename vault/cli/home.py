"""`datavault audit verify|vkey|adopt-restore`: what is done where the home folder is, without the service."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vault import logs
from vault.cli.audit import audit
from vault.cli.exits import CommandError, ExitCode
from vault.cli.output import JSON, console, output_option, print_facts, print_json

if TYPE_CHECKING:
    from vault.audit.verify import VerifyReport

__all__ = ["audit"]

_tenant_option = click.option(
    "--tenant", default="", metavar="TENANT", help="This tenant's log alone, where each has its own."
)


@audit.command()
@click.option(
    "--vkey",
    "vkeys",
    multiple=True,
    help="Trusted verifier keys, one a line; default: those of this home's log key.",
)
@click.option(
    "--from-checkpoint",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A kept checkpoint: the log must extend it, and what it covers is not read again.",
)
@click.option("--database", metavar="URL", help="Another database, for example a copy.")
@click.option(
    "--processes", type=click.IntRange(1, 64), help="That read the log; one per processor unless it is short."
)
@_tenant_option
@output_option()
def verify(
    vkeys: tuple[str, ...],
    from_checkpoint: Path | None,
    database: str | None,
    processes: int | None,
    tenant: str,
    output: str,
) -> int:
    """Verify the whole log: every record, hash, tile, root and signature. Exit code 5 when one is wrong.

    Where each tenant has a log (DATAVAULT_LOGS=tenant) all are verified, or those that --vkey,
    --from-checkpoint and --tenant name. The service may go on running: what the log holds at the start is
    verified.

    \b
      datavault audit verify
      datavault audit verify --from-checkpoint kept.checkpoint --vkey "$(cat log.vkey)"
    """
    from vault.config import load_settings
    from vault.domain.errors import IntegrityError
    from vault.homes import verify_logs

    logs.configure(level="ERROR")

    overrides = {"database_url": database} if database else {}
    settings = load_settings(**overrides)
    note = from_checkpoint.read_text(encoding="utf-8", errors="replace") if from_checkpoint else ""
    try:
        with _bar() as advance:
            reports = verify_logs(settings, _lines(vkeys), note, advance, tenant, processes)
    except IntegrityError as error:
        raise CommandError(error.message, code=ExitCode.VERIFICATION_FAILED) from None
    good = all(report.ok for report in reports)
    if output == JSON:
        documents = [_document(report) for report in reports]
        print_json(documents[0] if len(documents) == 1 else {"ok": good, "logs": documents})
    else:
        for report in reports:
            _print(report)
    return ExitCode.OK if good else ExitCode.VERIFICATION_FAILED


@audit.command()
@_tenant_option
def vkey(tenant: str) -> None:
    """Print the verifier keys of this home's log (C2SP signed-note), one a line, the newest last.

    There is more than one after a rotation of the log key. Any of them verifies the whole log. Where each
    tenant has a log (DATAVAULT_LOGS=tenant) those of all are printed: a line begins with its log's name.
    """
    from vault.config import load_settings
    from vault.homes import verifier_keys

    logs.configure(level="ERROR")

    for key in verifier_keys(load_settings(), tenant):
        click.echo(key)


@audit.command("adopt-restore")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--vkey",
    "vkeys",
    multiple=True,
    help="Verifier keys of the lost log that the key provider in use does not have, one a line.",
)
def adopt_restore(yes: bool, vkeys: tuple[str, ...]) -> None:
    """Go on after a restore from a backup: a new log whose first record names what was lost.

    Withdrawals, objections, opt-outs and restrictions that the outside store knows are applied again before
    the service can start. The service must be stopped. It can be run again after an interruption. Where each
    tenant has a log, those that lost nothing go on.

    \b
      datavault audit adopt-restore
    """
    from vault.config import load_settings
    from vault.homes import adopt

    logs.configure(level="ERROR")

    if not yes:
        click.confirm("Was this database restored from a backup on purpose?", abort=True)
    adoptions, reapplied = adopt(load_settings(), _lines(vkeys))
    for adoption in adoptions:
        print_facts(
            {
                "lost log": f"{adoption.lost_origin}, {adoption.lost_size} records under its last checkpoint",
                "restored": f"{adoption.restored_size} records",
                "new log": adoption.log.origin,
            }
        )
    print_facts({"applied again": reapplied.applied, "unknown customers": reapplied.unknown})


def _lines(vkeys: tuple[str, ...]) -> tuple[str, ...]:
    """`--vkey "$(cat log.vkey)"` may hold several."""
    return tuple(line for text in vkeys for line in text.split())


def _print(report: "VerifyReport") -> None:
    print_facts(
        {
            "log": report.origin,
            "records": report.size,
            "signed": f"{report.signed_size} (the rest waits for the next checkpoint)"
            if report.signed_size < report.size
            else report.signed_size,
            "checkpoints": report.checkpoints,
            "root": report.root.hex(),
        }
    )
    if report.ok:
        click.echo("the log verifies")
        return
    click.echo("THE LOG DOES NOT VERIFY", err=True)
    for problem in report.problems:
        place = "log" if problem.index is None else f"record {problem.index}"
        click.echo(
            f"  {place}{f' ({problem.record_id})' if problem.record_id else ''}: {problem.what}", err=True
        )


def _document(report: "VerifyReport") -> dict[str, object]:
    return {
        "ok": report.ok,
        "origin": report.origin,
        "size": report.size,
        "signed_size": report.signed_size,
        "checkpoints": report.checkpoints,
        "root": report.root.hex(),
        "problems": [
            {"index": problem.index, "record_id": problem.record_id, "what": problem.what}
            for problem in report.problems
        ],
    }


class _bar:
    """A progress bar over records, on a terminal only."""

    def __enter__(self) -> "_bar":
        import sys

        self._bar = None
        if sys.stderr.isatty():
            from rich.progress import Progress

            self._bar = Progress(console=console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("verifying", total=None)
        return self

    def __call__(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
