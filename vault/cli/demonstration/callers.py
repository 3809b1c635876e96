"""Who speaks in the demo: each caller with a certificate of its own from the embedded CA."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vault.assembly import authority
from vault.cli.exits import CommandError, ExitCode
from vault.client import Client, Connection
from vault.config import load_settings
from vault.domain.system import SystemClock, SystemRandomness
from vault.policy.bundle import Bundle

IMPORTER: Final = "importer"
ENGINE: Final = "personalization-engine"
PORTAL: Final = "customer-portal"
FRAUD: Final = "fraud-detection"
AUDITOR: Final = "auditor"
CALLERS: Final = (IMPORTER, ENGINE, PORTAL, FRAUD, AUDITOR)

_FOLDER: Final = "certs"
_CA: Final = "ca.pem"


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files of one caller."""

    ca: Path
    certificate: Path
    key: Path

    def client(self, address: str) -> Client:
        """A client that speaks as this caller."""
        return Client(
            Connection(
                address=address,
                ca_certificate=self.ca,
                client_certificate=self.certificate,
                client_key=self.key,
            )
        )


def issue(home: Path, bundle: Bundle) -> dict[str, Certificates]:
    """A certificate per caller, for the identity that callers.yaml gives it.

    Raises:
        CommandError: callers.yaml lacks a caller of the demo, or names no certificate for it.
        ConfigurationError: the CA cannot be made.
    """
    missing = [name for name in CALLERS if name not in bundle.callers]
    if missing:
        raise CommandError(
            f"callers.yaml does not name {', '.join(missing)}",
            "the demo plays with the default policies: name their folder with --policies",
            ExitCode.USAGE,
        )
    ca = authority(load_settings(home=home), SystemClock(), SystemRandomness())
    folder = home / _FOLDER
    issued = {}
    for name in CALLERS:
        caller = bundle.callers[name]
        spiffe, dns = next(iter(caller.spiffe), None), next(iter(caller.dns), None)
        certificate, key = ca.issue_client(name, spiffe, dns).write(folder, name)
        issued[name] = Certificates(folder / _CA, certificate, key)
    (folder / _CA).write_bytes(ca.certificate_pem)
    return issued
