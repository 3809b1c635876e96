"""`datavault subject rekey`."""

import click

from vault.cli.connection import Connector, client_options
from vault.cli.output import JSON, output_option, print_facts, print_json, request_facts


@click.command()
@click.argument("customer")
@click.option("--request-id", help="Makes it happen once, also when it is repeated.")
@client_options
@output_option()
def rekey(customer: str, request_id: str | None, connector: Connector, output: str) -> None:
    """Encrypt every value of CUSTOMER anew, under new data keys, and destroy the old ones.

    For a customer whose data keys may have become known. Values and their versions stay the same.

    \b
      datavault subject rekey 4711
    """
    with connector.open() as client:
        receipt = client.rekey_subject(customer, request_id=request_id)
    if output == JSON:
        print_json(receipt)
        return
    print_facts(
        {
            "values": receipt.values,
            "key classes": ", ".join(receipt.key_classes),
            "at": receipt.rekeyed_at,
            **request_facts(receipt),
        }
    )
