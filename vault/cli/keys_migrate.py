"""`datavault keys migrate`: from the embedded key file to Transit."""

import sys
from typing import TYPE_CHECKING, Any, Final, Self

import click

from vault import logs
from vault.cli.exits import CommandError, ExitCode
from vault.cli.output import JSON, console, output_option, print_facts, print_json

if TYPE_CHECKING:
    from vault.migrating import Moved

_PROVIDERS: Final = ("local", "transit")
_ONE_WAY: Final = (
    "keys move from local to transit only: nothing may bring the keys of production into a file, and between "
    "two Transit mounts or servers keys are moved by a restore of Transit's own storage"
)


@click.command()
@click.option("--from", "source", type=click.Choice(_PROVIDERS), required=True, help="Where the keys are.")
@click.option("--to", "target", type=click.Choice(_PROVIDERS), required=True, help="Where they are to be.")
@click.option("--dry-run", is_flag=True, help="Check that every key opens and can be moved; move nothing.")
@output_option()
def migrate(source: str, target: str, dry_run: bool, output: str) -> int:
    """Move the keys of this home from the key file to Transit, with the service stopped.

    Every data key is wrapped anew; no value is touched. The log announces its new key, signed by both. It can
    be run again after an interruption, and goes on. Until it is finished the service does not start. The key
    file stays where it is.

    VAULT_ADDR, the token and so on are those of the service (docs/operations/keys.md).

    \b
      datavault keys migrate --from local --to transit --dry-run
      datavault keys migrate --from local --to transit
    """
    from vault.config import load_settings
    from vault.migrating import migrate_keys

    logs.configure(level="ERROR")
    if (source, target) != _PROVIDERS:
        raise click.UsageError(_ONE_WAY)
    with _Bar() as advance:
        moved = migrate_keys(load_settings(), dry_run=dry_run, progress=advance)
    if output == JSON:
        print_json(_document(moved, dry_run=dry_run))
    else:
        _print(moved, dry_run=dry_run)
    if moved.stragglers:
        raise _left_behind(moved)
    return ExitCode.OK


def _print(moved: "Moved", *, dry_run: bool) -> None:
    if moved.already:
        click.echo("every key is at transit: there is nothing left to move")
        return
    print_facts({"wrapped keys": moved.total, "still at local": moved.left})
    if dry_run and not moved.stragglers:
        click.echo("every key opens, and transit takes them: nothing was moved (--dry-run)")
    if not moved.finished:
        return
    print_facts(
        {
            "verifier key of the log": "\n".join(moved.verifier_keys),
            "receipts before, signed by": moved.receipt_keys[0],
            "receipts from now on": moved.receipt_keys[1],
        }
    )
    click.echo(
        "every key is at transit. Now:\n"
        "  1. set DATAVAULT_KEYS=transit, and start the service\n"
        "  2. give auditors the new verifier key (`datavault audit vkey`); theirs goes on verifying\n"
        "  3. keep keys.json safe, away from this host, as long as there are backups of before: they open\n"
        "     with it alone. Then destroy it. This command never deletes it"
    )


def _document(moved: "Moved", *, dry_run: bool) -> dict[str, object]:
    return {
        "finished": moved.finished,
        "dry_run": dry_run,
        "wrapped_keys": moved.total,
        "still_at_local": moved.left,
        "stragglers": moved.stragglers,
        "verifier_key": moved.verifier_keys[0] if len(moved.verifier_keys) == 1 else "",
        "verifier_keys": list(moved.verifier_keys),
        "receipt_key_before": moved.receipt_keys[0],
        "receipt_key": moved.receipt_keys[1],
    }


def _left_behind(moved: "Moved") -> CommandError:
    rows = ", ".join(f"{count} of {name}" for name, count in sorted(moved.stragglers.items()))
    begun = "the move is not finished, and keys.json is still needed"
    untouched = "nothing was moved"
    erase = ", or start the service as it was and erase their customers"
    return CommandError(
        f"wrapped keys that do not open: {rows}; {begun if moved.begun else untouched}",
        hint=f"restore these rows from a backup{'' if moved.begun else erase}",
    )


class _Bar:
    """A progress bar over wrapped keys, on a terminal only."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.progress import Progress

            self._bar = Progress(console=console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
