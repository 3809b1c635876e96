"""What the services of compose.yaml must find in their volumes before they start: certificates, passwords,
logins, and folders that they own. It can run again: what is there stays, certificates are renewed in time.

It runs in the image of datavault, as root with no capability but CHOWN and without a network. In production
the bank's PKI and secret store do this.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from vault.assembly import authority
from vault.config import load_settings
from vault.crypto.transit_formats import hcl
from vault.crypto.transit_policies import Role
from vault.domain.system import SystemClock, SystemRandomness
from vault.identity.authority import Authority
from vault.key_setup import policies_of
from vault.policy.bundle import load_bundle

SECRETS = Path("/secrets")
POSTGRES, OPENBAO, DATAVAULT, ROOT = 999, 10_100, 10_001, 0
SHARED = {
    "owner-password": ("postgres", "owner"),
    "service-password": ("postgres", "datavault"),
    "superuser-password": ("postgres",),
    "setup-secret-id": ("openbao", "owner"),
    "replica-secret-id": ("openbao", "datavault"),
    "unseal.key": ("openbao",),
}
"""Secret -> the volumes that hold it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A volume of one service: nobody else may look into it."""

    name: str
    owner: int
    servers: tuple[str, ...] = ()
    """Names under which its server is reached; none for what serves nothing."""

    @property
    def folder(self) -> Path:
        return SECRETS / self.name


PLACES = (
    Place("postgres", POSTGRES, ("postgres",)),
    Place("openbao", OPENBAO, ("openbao",)),
    Place("datavault", DATAVAULT, ("datavault-1", "datavault-2", "localhost")),
    Place("owner", DATAVAULT),
    Place("clients", DATAVAULT),
)
DATA = {Path("/data/openbao"): OPENBAO, Path("/data/outside"): DATAVAULT}


def main() -> None:
    """Fill the volumes, then hand them over to their owners."""
    for place in PLACES:
        take(place.folder)
    settings = load_settings()
    ca = authority(settings, SystemClock(), SystemRandomness())
    for name, holders in SHARED.items():
        share(name, [SECRETS / holder for holder in holders])
    setup = policies_of(settings, [Role.SETUP], [])
    put(SECRETS / "openbao" / "setup-policy.hcl", "\n".join(hcl(each) for each in setup).encode())
    issue_clients(ca, settings.policies)
    for place in PLACES:
        put(place.folder / "ca.pem", ca.certificate_pem)
        if place.servers:
            ca.server_credentials_files(place.folder, place.servers)
        give(place.folder, place.owner)
    for folder, owner in DATA.items():
        os.chown(folder, ROOT, ROOT)
        give(folder, owner, content=False)


def issue_clients(ca: Authority, policies: Path) -> None:
    """A new certificate for every caller of callers.yaml that has a SPIFFE id, for 90 days."""
    folder = SECRETS / "clients"
    for name, caller in load_bundle(policies).callers.items():
        if caller.spiffe:
            ca.issue_client(name, caller.spiffe[0]).write(folder, name)


def share(name: str, folders: list[Path]) -> None:
    """The same random secret in these folders, made once."""
    first = folders[0] / name
    if not first.exists():
        put(first, secrets.token_hex(32).encode())
    for folder in folders[1:]:
        put(folder / name, first.read_bytes())


def put(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
        file.write(content)


def take(folder: Path) -> None:
    """Own a folder and what it holds: root without capabilities may not look into another's."""
    os.chown(folder, ROOT, ROOT)
    for path in folder.iterdir():
        os.chown(path, ROOT, ROOT)


def give(folder: Path, owner: int, *, content: bool = True) -> None:
    """Hand a folder, and what it holds, over to the service that uses it."""
    folder.chmod(0o700)
    for path in folder.iterdir() if content else ():
        os.chown(path, owner, owner)
    os.chown(folder, owner, owner)


if __name__ == "__main__":
    main()
