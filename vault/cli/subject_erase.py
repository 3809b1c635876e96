"""`datavault subject erase|retention|evidence`: the end of a customer's data."""

import datetime
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from vault.cli.connection import Connector, client_options
from vault.cli.exits import CommandError
from vault.cli.output import JSON, output_option, print_facts, print_json, print_table
from vault.cli.receipt_file import require_new, write_receipt

if TYPE_CHECKING:
    from vault.client import ErasureReceipt

ERASE_SECONDS: Final = 60.0
"""The longest deadline there is: the KMS may be slow, and a scrub takes its time."""
_REQUEST_ID = click.option("--request-id", help="Makes it happen once, also when it is repeated.")


@click.command()
@click.argument("customer")
@click.option("--dry-run", is_flag=True, help="Only show what would be destroyed, and what would stay.")
@click.option(
    "--scrub", is_flag=True, help="Afterwards rewrite the database file and empty its WAL (SQLite)."
)
@click.option(
    "--receipt",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the signed receipt to a new file.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_REQUEST_ID
@client_options
@output_option()
def erase(
    customer: str,
    dry_run: bool,
    scrub: bool,
    receipt: Path | None,
    yes: bool,
    request_id: str | None,
    connector: Connector,
    output: str,
) -> None:
    """Erase CUSTOMER: destroy the keys and values of every key class that nothing makes the bank keep.

    It cannot be undone. On a terminal it shows what will go and asks; elsewhere it needs --yes. Repeat it
    with the same --request-id to get the same receipt again.

    \b
      datavault subject erase 4711 --dry-run
      datavault subject erase 4711 --scrub --receipt 4711-receipt.json
    """
    if dry_run and (scrub or receipt):
        raise click.UsageError(
            "--dry-run destroys nothing and gives no receipt: leave --scrub and --receipt out"
        )
    if not dry_run and not yes and not _asked_at_a_terminal():
        raise click.UsageError("this cannot be undone: give --yes, or --dry-run to see what it would do")
    if receipt is not None:
        require_new(receipt)
    with connector.open() as client:
        if dry_run or not yes:
            preview = client.erase_subject(customer, dry_run=True, timeout=ERASE_SECONDS)
            if dry_run:
                _print_erasure(preview, output)
                return
            _print_plan(preview)
            click.confirm("Destroy it for good?", abort=True, err=True)
        made = request_id or str(uuid.uuid4())
        try:
            done = client.erase_subject(customer, scrub=scrub, request_id=made, timeout=ERASE_SECONDS)
        except Exception:
            # it may have happened: the receipt is had by asking again
            click.echo(f"  to repeat the same erasure: --request-id {made}", err=True)
            raise
    if receipt is not None:
        write_receipt(receipt, done)
    _print_erasure(done, output)
    if scrub and not done.scrubbed:
        raise CommandError(f"the customer is erased; {done.scrub_problem}", f"repeat it: --request-id {made}")


@click.command()
@click.argument("customer")
@click.option("--ended", metavar="DATE", help="The day the relationship ended, YYYY-MM-DD.")
@click.option("--open", "opened", is_flag=True, help="The relationship goes on.")
@click.option("--hold", metavar="REASON", help="Place a legal hold: nothing may be destroyed.")
@click.option("--release-hold", is_flag=True, help="Lift the legal hold.")
@_REQUEST_ID
@client_options
@output_option()
def retention(
    customer: str,
    ended: str | None,
    opened: bool,
    hold: str | None,
    release_hold: bool,
    request_id: str | None,
    connector: Connector,
    output: str,
) -> None:
    """Say what CUSTOMER's retention is counted from, or place or lift a legal hold.

    \b
      datavault subject retention 4711 --ended 2026-06-30
      datavault subject retention 4711 --hold "Case 2026/118, Lisbon"
    """
    if sum([ended is not None, opened, hold is not None, release_hold]) != 1:
        raise click.UsageError("give one of --ended, --open, --hold and --release-hold")
    if ended == "" or hold == "":
        raise click.UsageError("to take it back use --open or --release-hold")
    change: dict[str, Any] = (
        {"legal_hold": hold or ""}
        if release_hold or hold is not None
        else {"relationship_ended_on": ended or ""}
    )
    with connector.open() as client:
        found = client.set_retention(customer, **change, request_id=request_id)
    facts = {
        "relationship_ended_on": found.relationship_ended_on,
        "legal_hold": found.legal_hold,
        "request_id": found.request_id,
        "replayed": found.replayed,
        "record_id": found.record_id,
        "position": found.position,
    }
    if output == JSON:
        print_json(facts)
        return
    print_facts(
        {
            "relationship ended on": found.relationship_ended_on or "(it goes on)",
            "legal hold": found.legal_hold or "(none)",
            "record": found.record_id,
        }
    )


@click.command()
@click.argument("receipt_id")
@client_options
@output_option()
def evidence(receipt_id: str, connector: Connector, output: str) -> None:
    """Show the consents of an erased customer, by the id on the receipt of the erasure.

    \b
      datavault subject evidence 01971c4e-7d7a-7a51-9df3-0a1f6ad3c0f2
    """
    with connector.open() as client:
        found = client.get_erasure_evidence(receipt_id)
    if output == JSON:
        print_json({"kept_until": found.kept_until, "evidence": found.document})
        return
    events = found.document.get("events", [])
    columns = ("seq", "recorded_at", "purpose", "state", "notice", "notice_version", "channel", "recorded_by")
    print_table(
        [name.replace("_", " ") for name in columns],
        [[_cell(name, event.get(name)) for name in columns] for event in events],
    )
    print_facts({"kept until": found.kept_until, "record": found.record_id})


def _asked_at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _print_plan(found: "ErasureReceipt") -> None:
    rows = [(name, "destroyed", "", "", "") for name in found.erased]
    rows += [
        (
            one.key_class,
            "stays",
            f"legal hold: {one.ground}" if one.legal_hold else one.ground,
            one.ends_at.date().isoformat() if one.ends_at else "open",
            ", ".join(one.purposes),
        )
        for one in found.retained
    ]
    print_table(["key class", "", "because", "until", "readable for"], rows)


def _print_erasure(found: "ErasureReceipt", output: str) -> None:
    if output == JSON:
        print_json(_document(found))
        return
    _print_plan(found)
    if not found.receipt_id:
        print_facts({"whole": found.whole, "record": found.record_id})
        return
    done_before = " (done before, nothing changed)" if found.replayed else ""
    print_facts(
        {
            "receipt": found.receipt_id,
            "whole": found.whole,
            "scrubbed": found.scrubbed,
            "request id": found.request_id + done_before,
            "record": found.record_id,
            "position": found.position,
        }
    )


def _document(found: "ErasureReceipt") -> dict[str, Any]:
    done = {
        "receipt_id": found.receipt_id,
        "receipt": found.receipt.decode("ascii", "replace"),
        "signature": found.signature,
        "public_key": found.public_key,
        "scrubbed": found.scrubbed,
        "scrub_problem": found.scrub_problem,
        "request_id": found.request_id,
        "replayed": found.replayed,
    }
    return {
        "erased": found.erased,
        "retained": [
            {
                "key_class": one.key_class,
                "ground": one.ground,
                "legal_hold": one.legal_hold,
                "ends_at": one.ends_at,
                "purposes": one.purposes,
            }
            for one in found.retained
        ],
        "whole": found.whole,
        "record_id": found.record_id,
        "position": found.position,
        **(done if found.receipt_id else {}),
    }


def _cell(name: str, value: Any) -> object:
    if name == "recorded_at" and isinstance(value, int):
        return datetime.datetime.fromtimestamp(value / 1_000_000, datetime.UTC)
    return value
