"""`datavault consent`: the customers' consent ledger."""

import datetime
import itertools
from typing import Any

import click

from vault.cli.arguments import Moment
from vault.cli.connection import Connector, client_options
from vault.cli.output import JSON, output_option, plain, print_facts, print_json, print_table, request_facts

_STATES = ("given", "renewed", "requested", "refused", "expired", "invalidated", "opted-out", "opted-in")
_CHANNEL = click.option(
    "--channel", required=True, help="How the customer said so: app, branch, phone, gpc ..."
)
_EVIDENCE = click.option("--evidence", default="", help="Reference to evidence kept elsewhere.")
_REQUEST_ID = click.option("--request-id", help="Makes the event happen once, also when it is repeated.")


@click.group()
def consent() -> None:
    """Record, withdraw and show consent."""


@consent.command()
@click.argument("customer")
@click.argument("purpose")
@click.argument("state", type=click.Choice(_STATES), default="given")
@_CHANNEL
@click.option("--notice", default="", help="Id of the notice shown; needed for given and renewed.")
@click.option("--notice-version", type=click.IntRange(min=0), default=0, help="Its version.")
@click.option("--language", default="", help="Language of the text shown.")
@click.option("--jurisdiction", default="", help="Where the customer was asked: EU, US-CA ...")
@click.option("--valid-from", type=Moment(past=True), help="Moment, or a duration before now.")
@click.option("--expires-at", type=Moment(), help="Moment, or a duration from now, such as 730d.")
@click.option("--customer-jurisdiction", multiple=True, help="Needed for a new customer; can be repeated.")
@_EVIDENCE
@_REQUEST_ID
@client_options
@output_option()
def record(
    customer: str,
    purpose: str,
    state: str,
    customer_jurisdiction: tuple[str, ...],
    connector: Connector,
    output: str,
    **details: Any,
) -> None:
    """Record a consent event of CUSTOMER for PURPOSE; STATE is `given` unless said otherwise.

    \b
      datavault consent record 4711 personalised-offers --notice offers --notice-version 2 \\
          --language en --jurisdiction EU --channel branch --expires-at 365d
    """
    with connector.open() as client:
        receipt = client.record_consent(
            customer, purpose=purpose, state=state, jurisdictions=customer_jurisdiction, **details
        )
    _print_receipt(receipt, output)


@consent.command()
@click.argument("customer")
@click.argument("purpose")
@_CHANNEL
@_EVIDENCE
@_REQUEST_ID
@client_options
@output_option()
def withdraw(
    customer: str,
    purpose: str,
    channel: str,
    evidence: str,
    request_id: str | None,
    connector: Connector,
    output: str,
) -> None:
    """Withdraw consent of CUSTOMER for PURPOSE and everything below it. It binds every later read.

    \b
      datavault consent withdraw 4711 marketing --channel phone
    """
    with connector.open() as client:
        receipt = client.withdraw_consent(
            customer, purpose=purpose, channel=channel, evidence=evidence, request_id=request_id
        )
    _print_receipt(receipt, output)


@consent.command()
@click.argument("customer")
@click.option("--events", is_flag=True, help="The ledger instead of what is in force.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many events."
)
@client_options
@output_option()
def show(customer: str, events: bool, limit: int, connector: Connector, output: str) -> None:
    """Show what is in force for CUSTOMER now, or every event.

    \b
      datavault consent show 4711
      datavault consent show 4711 --events --output json
    """
    with connector.open() as client:
        if events:
            found = list(itertools.islice(client.list_consent_events(customer), limit))
            _print_events(found, output)
        else:
            _print_overview(client.get_consent(customer), output)


def _print_receipt(receipt: Any, output: str) -> None:
    effective = [_in_force(each) for each in receipt.effective.values()]
    facts = {
        "event": receipt.event_id,
        "seq": receipt.seq,
        "request_id": receipt.request_id,
        "replayed": receipt.replayed,
        "record_id": receipt.record_id,
        "position": receipt.position,
    }
    if output == JSON:
        print_json({**facts, "effective": effective})
        return
    _print_in_force(effective)
    print_facts({"event": receipt.event_id, "seq": receipt.seq, **request_facts(receipt)})


def _print_overview(found: Any, output: str) -> None:
    purposes = [_in_force(each) for each in found.purposes.values()]
    if output == JSON:
        print_json(
            {
                "purposes": purposes,
                "jurisdictions": found.jurisdictions,
                "restricted": found.restricted,
                "record_id": found.record_id,
                "position": found.position,
            }
        )
        return
    _print_in_force(purposes)
    print_facts(
        {
            "jurisdictions": ", ".join(found.jurisdictions),
            "restricted": found.restricted,
            "record": found.record_id,
        }
    )


def _print_in_force(purposes: list[dict[str, Any]]) -> None:
    print_table(
        ["purpose", "consent", "until", "notice version", "objected", "opted out", "bases"],
        [
            (
                each["purpose"],
                "yes" if each["consented"] else f"no: {plain(each['reason']) or 'not given'}",
                _day(each["expires_at"]),
                each["notice_version"] or "",
                "yes" if each["objected"] else "",
                "yes" if each["opted_out"] else "",
                ", ".join(each["bases"]),
            )
            for each in purposes
        ],
    )


def _print_events(events: list[Any], output: str) -> None:
    documents = [
        {
            "event": each.event_id,
            "seq": each.seq,
            "purpose": each.purpose,
            "state": each.state,
            "notice": each.notice,
            "notice_version": each.notice_version,
            "language": each.language,
            "notice_sha256": each.notice_sha256,
            "jurisdiction": each.jurisdiction,
            "scope": each.scope,
            "channel": each.channel,
            "evidence": each.evidence,
            "valid_from": each.valid_from,
            "expires_at": each.expires_at,
            "recorded_by": each.recorded_by,
            "recorded_at": each.recorded_at,
        }
        for each in events
    ]
    if output == JSON:
        print_json(documents)
        return
    names = ("seq", "recorded_at", "purpose", "state", "notice", "channel", "recorded_by", "expires_at")
    print_table(
        [name.replace("_", " ") for name in names], [[each[name] for name in names] for each in documents]
    )


def _in_force(found: Any) -> dict[str, Any]:
    return {
        "purpose": found.purpose,
        "consented": found.consented,
        "reason": found.reason,
        "categories": found.categories,
        "expires_at": found.expires_at,
        "notice_version": found.notice_version,
        "objected": found.objected,
        "opted_out": found.opted_out,
        "bases": found.bases,
    }


def _day(moment: datetime.datetime | None) -> str:
    return "" if moment is None else moment.astimezone(datetime.UTC).date().isoformat()
