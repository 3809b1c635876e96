"""`datavault keys rotate`, `rewrap` and `rotate-lookup`."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from vault.cli.connection import Connector, client_options
from vault.cli.exits import CommandError, ExitCode
from vault.cli.job_progress import JobProgress
from vault.cli.output import JSON, output_option, print_facts, print_json, print_table

if TYPE_CHECKING:
    from vault.client import Client, LookupProgress, RewrapProgress

R = TypeVar("R")
_PREFIX: Final = "datavault-"
_WRAPPING_KIND: Final = "aes256-gcm96"
_LOG_KEY: Final = "log"


def _words(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Keys for shell completion: classes of their own make others possible."""
    from vault.crypto.names import SIGNING, STANDARD_CLASSES, WRAPPING

    words = [*STANDARD_CLASSES, *(name.removeprefix(_PREFIX) for name in (*WRAPPING, *SIGNING))]
    return [word for word in words if word.startswith(incomplete)]


@click.command()
@click.argument("word", metavar="KEY", shell_complete=_words)
@client_options
@output_option()
def rotate(word: str, connector: Connector, output: str) -> None:
    """Make a new version of KEY: a key class, or lookup, index, pseudonym, log or receipt.

    What older versions wrapped goes on opening, until a rewrap retires them. The new key of the log is
    announced in the log, under the old one's signature.

    \b
      datavault keys rotate contact
      datavault keys rotate log
    """
    with connector.open() as client:
        rotated = client.rotate_key(word)
    if output == JSON:
        print_json(rotated)
        return
    facts: dict[str, object] = {"key": rotated.name, "version": rotated.version}
    if rotated.verifier_key:
        facts["verifier key"] = rotated.verifier_key
    print_facts({**facts, "record": rotated.record_id, "position": rotated.position})
    if word not in (_LOG_KEY, "receipt"):
        click.echo(f"next: datavault keys rewrap {word}", err=True)


@click.command()
@click.argument("word", metavar="[KEY]", required=False, shell_complete=_words)
@click.option("--all", "every", is_flag=True, help="Every key that wraps others, one after the other.")
@click.option("--dry-run", is_flag=True, help="Only count what is of older versions.")
@click.option(
    "--keys-per-second", type=click.IntRange(1), default=None, help="Go no faster.  [default: no limit]"
)
@click.option("--keep-old-versions", is_flag=True, help="Do not retire them, though nothing is left.")
@client_options
@output_option()
def rewrap(
    word: str | None,
    every: bool,
    dry_run: bool,
    keys_per_second: int | None,
    keep_old_versions: bool,
    connector: Connector,
    output: str,
) -> int:
    """Bring all that KEY wraps to its newest version, then retire the older versions.

    Reads and writes go on meanwhile. It can be interrupted at any time and goes on where it was. Once nothing
    is left it waits a minute, looks again, and only then raises the oldest version that opens: a backup from
    before needs it lowered again (docs/operations/keys.md, "Rotation").

    \b
      datavault keys rewrap contact
      datavault keys rewrap --all --keys-per-second 500
      datavault keys rewrap contact --dry-run
    """
    if (word is None) is not every:
        raise click.UsageError("name one KEY, or give --all")
    results: list[tuple[str, RewrapProgress]] = []
    skipped: list[tuple[str, str]] = []
    with connector.open() as client:
        names = [word] if word is not None else _every_word(client, skipped)
        try:
            for name in names:
                steps = client.rewrap_keys(
                    name,
                    dry_run=dry_run,
                    keys_per_second=keys_per_second or 0,
                    keep_old_versions=keep_old_versions,
                )
                results.append((name, _watched(name, steps, lambda each: (each.scanned, each.total))))
        finally:
            # also what was done before one of them failed
            if results or skipped:
                _show_rewraps(results, skipped, output)
    left = not dry_run and any(each.stragglers or each.failed for _, each in results)
    return ExitCode.FAILED if left or skipped else ExitCode.OK


@click.command("rotate-lookup")
@click.option("--dry-run", is_flag=True, help="Only tell what there is to do.")
@click.option(
    "--customers-per-second", type=click.IntRange(1), default=None, help="Go no faster.  [default: no limit]"
)
@click.option("--resume-only", is_flag=True, help="Go on with a rotation that was begun, and begin none.")
@client_options
@output_option()
def rotate_lookup(
    dry_run: bool, customers_per_second: int | None, resume_only: bool, connector: Connector, output: str
) -> int:
    """Give your tenant a new lookup key, and index every customer under it.

    Reads and writes go on meanwhile. It can be interrupted at any time and goes on where it was.

    \b
      datavault keys rotate-lookup
      datavault keys rotate-lookup --resume-only
    """
    with connector.open() as client:
        steps = client.rotate_lookup_key(
            dry_run=dry_run, subjects_per_second=customers_per_second or 0, resume_only=resume_only
        )
        found: LookupProgress = _watched("lookup keys", steps, lambda each: (each.indexed, each.total))
    if output == JSON:
        print_json(found)
    else:
        print_facts(
            {
                "version": found.version,
                "customers": found.total,
                "indexed": found.indexed,
                "failed": found.failed,
                "record": found.record_id,
                "position": found.position,
            }
        )
    return ExitCode.FAILED if found.failed and not dry_run else ExitCode.OK


def _every_word(client: "Client", skipped: list[tuple[str, str]]) -> list[str]:
    """The keys that wrap others; those that this replica cannot read go to `skipped`, with the reason."""
    words = []
    for key in client.key_status().keys:
        name = key.name.removeprefix(_PREFIX)
        if not key.latest_version:
            skipped.append((name, key.problem))
        elif key.kind == _WRAPPING_KIND:
            words.append(name)
    return words


def _watched(name: str, steps: Iterator[R], counts: Callable[[R], tuple[int, int]]) -> R:
    """The last progress of a job, shown while it goes on."""
    last: R | None = None
    try:
        with JobProgress(name) as bar:
            for last in steps:
                progress: Any = last
                bar.show(progress.phase.value, *counts(last))
    except KeyboardInterrupt:
        raise CommandError(
            f"{name}: interrupted; what is done stays done",
            "the same command goes on where this one stopped",
            ExitCode.INTERRUPTED,
        ) from None
    except Exception:
        if last is not None:
            click.echo(f"{name}: broken off; the same command goes on where this one stopped", err=True)
        raise
    if last is None:
        raise CommandError(f"{name}: the server told no result", "`datavault keys status` shows how it is")
    return last


def _show_rewraps(
    results: list[tuple[str, "RewrapProgress"]], skipped: list[tuple[str, str]], output: str
) -> None:
    if output == JSON:
        print_json(
            {
                "keys": [{"key": name, **_document(each)} for name, each in results],
                "skipped": [{"key": name, "problem": problem} for name, problem in skipped],
            }
        )
        return
    print_table(
        ["key", "wrapped keys", "rewrapped", "failed", "stragglers", "oldest usable", "record"],
        [
            (
                name,
                each.total,
                each.rewrapped,
                each.failed,
                each.stragglers,
                each.min_decryption_version,
                each.record_id,
            )
            for name, each in results
        ],
    )
    for name, problem in skipped:
        click.echo(f"{name}: skipped: {problem}", err=True)
    if any(each.failed for _, each in results):
        click.echo("the service's log names the rows that did not open (key_not_rewrapped)", err=True)


def _document(each: "RewrapProgress") -> dict[str, object]:
    return {
        "total": each.total,
        "rewrapped": each.rewrapped,
        "failed": each.failed,
        "stragglers": each.stragglers,
        "min_decryption_version": each.min_decryption_version,
        "record_id": each.record_id,
        "position": each.position,
    }
