"""Receipts of erasures as files: `subject erase --receipt` writes them, `subject verify-receipt` checks."""

import base64
import binascii
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vault.cli.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from vault.client import ErasureReceipt


@click.command("verify-receipt")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--public-key",
    required=True,
    metavar="BASE64",
    help="The key of datavault-receipt, as the bank gives it out.",
)
def verify_receipt(file: Path, public_key: str) -> None:
    """Check the signature on a receipt that `subject erase --receipt` wrote. Needs no server.

    \b
      datavault subject verify-receipt 4711-receipt.json --public-key QhzI...=
    """
    from vault.crypto.receipts import verify_receipt as verify
    from vault.domain.errors import IntegrityError

    saved = _saved(file)
    try:
        verify(saved["receipt"].encode(), _decoded(saved["signature"]), _decoded(public_key))
    except (IntegrityError, UnicodeEncodeError):
        raise CommandError(
            f"{file}: the signature is not that of this receipt by this key",
            code=ExitCode.VERIFICATION_FAILED,
        ) from None
    click.echo(f"{file}: signed by this key")


def require_new(file: Path) -> None:
    """Refuse before anything is destroyed what would fail after it.

    Raises:
        click.UsageError: the file is there, or its folder is not.
    """
    if file.exists():
        raise click.UsageError(f"{file}: is there already")
    if not file.parent.is_dir():
        raise click.UsageError(f"{file.parent}: is no folder")


def write_receipt(file: Path, found: "ErasureReceipt") -> None:
    """Write the exact receipt with its signature and key to a new file."""
    document = {
        "receipt": found.receipt.decode("ascii"),
        "signature": base64.b64encode(found.signature).decode("ascii"),
        "public_key": base64.b64encode(found.public_key).decode("ascii"),
    }
    with file.open("x", encoding="ascii") as opened:
        json.dump(document, opened, indent=2)
        opened.write("\n")


def _saved(file: Path) -> dict[str, str]:
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        document = None
    wanted = ("receipt", "signature")
    if not isinstance(document, dict) or not all(isinstance(document.get(name), str) for name in wanted):
        raise CommandError(f"{file}: is no receipt of an erasure", code=ExitCode.VERIFICATION_FAILED)
    return document


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
