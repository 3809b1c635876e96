"""`datavault keys`: the keys that everything hangs on."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import click

from vault.cli.connection import Connector, client_options
from vault.cli.exits import CommandError, ExitCode
from vault.cli.keys_init import init
from vault.cli.keys_migrate import migrate
from vault.cli.keys_rotation import rewrap, rotate, rotate_lookup
from vault.cli.output import JSON, output_option, print_facts, print_json, print_table

if TYPE_CHECKING:
    from vault.client import KeysStatus, KeyStatus

_STATUS_SECONDS: Final = 60.0
"""Millions of wrapped keys are counted for it."""
_SPANS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_DOCTOR: Final = "`datavault doctor` on the server looks at the key provider without the service"


@click.group()
def keys() -> None:
    """Set up, look at, rotate and rewrap the keys of the key provider."""


for _command in (init, migrate, rotate, rewrap, rotate_lookup):
    keys.add_command(_command)


@keys.command()
@client_options
@output_option()
def status(connector: Connector, output: str) -> None:
    """Show the provider's health and, per key, its versions and how many wrapped keys are of each.

    Stragglers are wrapped keys of older versions than the newest: `datavault keys rewrap` ends them. The exit
    code is 1 while the provider is not healthy.

    \b
      datavault keys status
      datavault keys status --output json
    """
    from vault.client import ErrorReason, Unavailable

    with connector.open() as client:
        try:
            found = client.key_status(timeout=_STATUS_SECONDS)
        except Unavailable as error:
            if error.reason is ErrorReason.UNREACHABLE:
                raise CommandError(f"{error.reason}: {error.message}", _DOCTOR) from None
            raise
    if output == JSON:
        print_json(found)
    else:
        print_table(
            ["key", "kind", "version", "oldest usable", "wrapped keys", "stragglers", "problem"],
            [_row(key) for key in found.keys],
        )
        print_facts(_facts(found))
    if not found.healthy:
        sys.exit(ExitCode.FAILED)


def _row(key: "KeyStatus") -> tuple[object, ...]:
    known = key.latest_version > 0
    return (
        key.name,
        key.kind,
        key.latest_version if known else "",
        key.min_decryption_version if known else "",
        _by_version(key.versions),
        key.stragglers if known else "",
        key.problem,
    )


def _by_version(versions: Mapping[int, int]) -> str:
    return ", ".join(
        f"v{version}: {wrapped}" if version else f"foreign: {wrapped}"
        for version, wrapped in sorted(versions.items())
    )


def _facts(found: "KeysStatus") -> dict[str, object]:
    left = found.token_seconds_left
    return {
        "provider": found.provider,
        "healthy": found.healthy,
        "detail": found.detail,
        "token lifetime left": "no end, or not known" if left is None else _span(left),
        "record": found.record_id,
        "position": found.position,
    }


def _span(seconds: int) -> str:
    """The two largest units: `3 h 20 min`."""
    parts: list[str] = []
    for unit, size in _SPANS:
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
