"""`datavault subject`: customers' attributes."""

from typing import Any

import click

from vault.cli.connection import Connector, client_options
from vault.cli.output import JSON, output_option, print_facts, print_json, print_table, request_facts
from vault.cli.receipt_file import verify_receipt
from vault.cli.subject_erase import erase, evidence, retention
from vault.cli.subject_import import import_
from vault.cli.subject_rekey import rekey

_FORMS = ("exists", "pseudonymise", "generalise", "mask", "clear")


@click.group()
def subject() -> None:
    """Import, write, read and erase customers' attributes."""


for _command in (import_, erase, retention, evidence, verify_receipt, rekey):
    subject.add_command(_command)


@subject.command()
@click.argument("customer")
@click.argument("attributes", nargs=-1, required=True)
@click.option("--purpose", required=True, help="Why you ask: a leaf of the purpose tree.")
@click.option("--max-form", type=click.Choice(_FORMS), help="The strongest form wanted.")
@click.option("--require-all", is_flag=True, help="Give nothing when anything is denied.")
@client_options
@output_option()
def read(
    customer: str,
    attributes: tuple[str, ...],
    purpose: str,
    max_form: str | None,
    require_all: bool,
    connector: Connector,
    output: str,
) -> None:
    """Read ATTRIBUTES of CUSTOMER for a purpose: each comes in a form, or with the reason of its denial.

    \b
      datavault subject read 4711 income email --purpose personalised-offers
    """
    with connector.open() as client:
        found = client.read_attributes(
            customer, purpose=purpose, attributes=attributes, max_form=max_form, require_all=require_all
        )
    if output == JSON:
        print_json(_disclosure(found))
        return
    rows = [_row(name, found) for name in attributes]
    print_table(["attribute", "form", "value", "denied because"], rows)
    print_facts({"record": found.record_id, "position": found.position, "policies": found.bundle_hash})


@subject.command()
@click.argument("customer")
@click.argument("values", nargs=-1)
@click.option("--clear", multiple=True, metavar="ATTRIBUTE", help="Remove a value; can be repeated.")
@click.option(
    "--jurisdiction", multiple=True, metavar="CODE", help="EU, GB, US-CA ...; needed for a new customer."
)
@click.option(
    "--expect",
    multiple=True,
    metavar="ATTRIBUTE=VERSION",
    help="Write only on top of this version; 0: there must be no value yet.",
)
@click.option("--request-id", help="Makes the write happen once, also when it is repeated.")
@client_options
@output_option()
def write(
    customer: str,
    values: tuple[str, ...],
    clear: tuple[str, ...],
    jurisdiction: tuple[str, ...],
    expect: tuple[str, ...],
    request_id: str | None,
    connector: Connector,
    output: str,
) -> None:
    """Write VALUES of CUSTOMER, all or none. The type of a value must be the declared one.

    \b
      name=text                a string          name:date=1984-05-30
      name:int=42              an integer        name:timestamp=2026-01-01T12:00:00Z
      name:decimal=12.50       plain digits      name:double=0.5
      name:bool=true           true or false     name:bytes=@FILE
      name:='["any", "JSON"]'  a JSON document   name=@FILE   (text that begins with @: @@)
    \b
      datavault subject write 4711 email=a@b.example income:decimal=52000.00 --jurisdiction EU
    """
    from vault.cli.arguments import assignments

    changes = assignments(values)
    if not changes and not clear:
        raise click.UsageError("nothing to write: give name=value or --clear")
    with connector.open() as client:
        receipt = client.write_attributes(
            customer,
            changes,
            clear=clear,
            expected_versions=_versions(expect),
            jurisdictions=jurisdiction,
            request_id=request_id,
        )
    if output == JSON:
        print_json(
            {
                "versions": receipt.versions,
                "subject_created": receipt.subject_created,
                "replayed": receipt.replayed,
                "request_id": receipt.request_id,
                "record_id": receipt.record_id,
                "position": receipt.position,
            }
        )
        return
    print_table(["attribute", "version"], sorted(receipt.versions.items()))
    print_facts(
        {
            "customer": "new" if receipt.subject_created else "known",
            **request_facts(receipt),
        }
    )


def _row(name: str, found: Any) -> tuple[object, ...]:
    disclosed = found.attributes.get(name)
    if disclosed is not None:
        return name, disclosed.form, disclosed.value, ""
    denial = found.denied.get(name)
    return name, "", "", denial.reason if denial else ""


def _disclosure(found: Any) -> dict[str, Any]:
    return {
        "attributes": {
            name: {"form": each.form, "value": each.value, "version": each.version}
            for name, each in found.attributes.items()
        },
        "denied": {
            name: {"reason": each.reason, "detail": each.detail} for name, each in found.denied.items()
        },
        "record_id": found.record_id,
        "position": found.position,
        "bundle_hash": found.bundle_hash,
    }


def _versions(words: tuple[str, ...]) -> dict[str, int] | None:
    pairs = [word.rpartition("=") for word in words]
    if not all(
        name and version.isascii() and version.isdigit() and len(version) < 19 for name, _, version in pairs
    ):
        raise click.UsageError("--expect is ATTRIBUTE=VERSION, for example email=3")
    return {name: int(version) for name, _, version in pairs} or None
