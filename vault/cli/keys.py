"""`datavault keys`: the keys that everything hangs on."""

import click

from vault import logs
from vault.cli.output import JSON, output_option, print_facts, print_json, print_table


@click.group()
def keys() -> None:
    """Look at the key provider and its keys."""


@keys.command()
@output_option()
def status(output: str) -> None:
    """Show the provider's health and, per key, kind, versions and how many data keys it wraps.

    \b
      datavault keys status
    """
    from vault.config import load_settings
    from vault.homes import key_status

    logs.configure(level="ERROR")
    health, rows = key_status(load_settings())
    if output == JSON:
        print_json(
            {
                "provider": health.provider,
                "healthy": health.healthy,
                "detail": health.detail,
                "keys": [
                    {
                        "name": row.info.name,
                        "kind": row.info.kind,
                        "latest_version": row.info.latest_version,
                        "min_decryption_version": row.info.min_decryption_version,
                        "data_keys": row.data_keys,
                    }
                    for row in rows
                ],
            }
        )
        return
    print_facts({"provider": health.provider, "healthy": health.healthy, "detail": health.detail})
    print_table(
        ["key", "kind", "version", "oldest usable", "data keys"],
        [
            (
                row.info.name,
                row.info.kind,
                row.info.latest_version,
                row.info.min_decryption_version,
                "" if row.data_keys is None else row.data_keys,
            )
            for row in rows
        ],
    )
