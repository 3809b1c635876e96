"""`datavault certs`: client certificates from the embedded CA."""

from pathlib import Path

import click

from vault.cli.exits import CommandError, ExitCode
from vault.cli.output import JSON, output_option, print_facts, print_json


@click.group()
def certs() -> None:
    """Issue client certificates from the embedded CA of this home."""


@certs.command()
@click.argument("name")
@click.option("--spiffe", metavar="URI", help="SPIFFE id; default: the caller's in callers.yaml.")
@click.option("--dns", metavar="NAME", help="DNS name, for callers without a SPIFFE id.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for NAME.pem, NAME.key and ca.pem; default: certs/ in the home folder.",
)
@output_option()
def issue(name: str, spiffe: str | None, dns: str | None, out: Path | None, output: str) -> None:
    """Issue a certificate for the caller NAME of callers.yaml, valid for 90 days.

    It runs where the home folder is: the CA's key never leaves it.

    \b
    Example:
      datavault certs issue personalization-engine
      datavault certs issue auditor --out ~/auditor
    """
    from vault.assembly import authority
    from vault.config import load_settings, make_home
    from vault.domain.system import SystemClock, SystemRandomness

    settings = load_settings()
    if spiffe is None and dns is None:
        spiffe, dns = _identity_of(settings.policies, name)
    make_home(settings)
    ca = authority(settings, SystemClock(), SystemRandomness())
    folder = out or settings.home / "certs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate, key = ca.issue_client(name, spiffe, dns).write(folder, name)
    ca_copy = folder / "ca.pem"
    ca_copy.write_bytes(ca.certificate_pem)
    facts = {
        "DATAVAULT_CACERT": str(ca_copy),
        "DATAVAULT_CLIENT_CERT": str(certificate),
        "DATAVAULT_CLIENT_KEY": str(key),
    }
    if output == JSON:
        print_json({"caller": name, "spiffe": spiffe, "dns": dns, **facts})
        return
    print_facts({"caller": name, "identity": spiffe or dns or ""})
    click.echo("\nuse it with:")
    for variable, value in facts.items():
        click.echo(f"  export {variable}={value}")


def _identity_of(policies: Path, name: str) -> tuple[str | None, str | None]:
    from vault.cli.policies import load

    callers = load(policies).callers
    if name not in callers:
        raise CommandError(
            f"{name} is not in callers.yaml",
            "callers are: " + ", ".join(sorted(callers)) + "; or give --spiffe or --dns",
            ExitCode.USAGE,
        )
    entry = callers[name]
    if entry.spiffe:
        return entry.spiffe[0], None
    if entry.dns:
        return None, entry.dns[0]
    raise CommandError(f"{name} has no SPIFFE id and no DNS name in callers.yaml", code=ExitCode.USAGE)
