"""A KMS set up by `datavault keys init`, and tokens with nothing but the policies that it wrote."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import requests

from tests.support.faults_policies import FILES, write_policies
from vault.config import Settings
from vault.crypto.dev_server import DevTransit, start_dev_transit
from vault.crypto.transit_policies import Role
from vault.key_setup import Step, init_transit, policies_of

CLASSES: Final = ("behaviour", "contact")
BEHAVIOUR_ONLY: Final = "datavault-replica-behaviour"
_SECONDS: Final = 20.0


class Kms:
    """A real server, asked as root unless told otherwise."""

    def __init__(self, server: DevTransit) -> None:
        self.server = server
        self.root = server.token_file.read_text("ascii").strip()

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str = ""
    ) -> requests.Response:
        """One call, whatever it answers."""
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                f"{self.server.address}/v1/{path}",
                json=body,
                headers={"X-Vault-Token": token or self.root},
                verify=str(self.server.ca_certificate),
                timeout=_SECONDS,
            )

    def do(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One call as root that must succeed."""
        answer = self.ask(method, path, body)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        document: dict[str, Any] = answer.json() if answer.content else {}
        return document

    def token(self, *policies: str, **more: Any) -> str:
        """A token with these policies alone: without the default policy, and no child of the root token."""
        what = {"policies": policies, "ttl": "1h", "no_default_policy": True, "no_parent": True, **more}
        token: str = self.do("POST", "auth/token/create", what)["auth"]["client_token"]
        return token

    def token_of(self, hcl: str, **more: Any) -> str:
        """A token with a policy of this text."""
        name = f"test-{abs(hash(hcl))}"
        self.do("POST", f"sys/policies/acl/{name}", {"policy": hcl})
        return self.token(name, **more)

    def settings(self, folder: Path, policies: Path, token: str = "", **changed: Any) -> Settings:
        """Settings of a home below `folder` that reach the server with this token, root's by default."""
        given = {
            "home": folder / "home",
            "policies": policies,
            "keys": "transit",
            "transit_address": self.server.address,
            "transit_token": token or self.root,
            "transit_cacert": self.server.ca_certificate,
        }
        return Settings(**{**given, **changed})

    def variables(self, token: str = "") -> dict[str, str]:
        """The same for a process, or for a command."""
        return {
            "DATAVAULT_KEYS": "transit",
            "VAULT_ADDR": self.server.address,
            "VAULT_TOKEN": token or self.root,
            "VAULT_CACERT": str(self.server.ca_certificate),
        }


@contextmanager
def running_kms(folder: Path) -> Iterator[Kms]:
    """A server of one's own; its mount `transit` is empty."""
    server = start_dev_transit(folder)
    try:
        yield Kms(server)
    finally:
        server.stop()


def small_policies(folder: Path, changed: Mapping[str, str] | None = None) -> Path:
    """Policies with the classes of CLASSES: `income` is behaviour, `email` is contact."""
    return write_policies(
        folder, {"attributes.yaml": small_attributes(FILES["attributes.yaml"]), **(changed or {})}
    )


def small_attributes(text: str) -> str:
    """An attributes.yaml of the fault tests with the classes of CLASSES."""
    return text.replace("financial", "behaviour")


def set_up(
    settings: Settings, *roles: Role, classes: Sequence[str] = (), dry_run: bool = False
) -> list[Step]:
    """`datavault keys init --apply` for these roles, the replica's by default."""
    policies = policies_of(settings, roles or (Role.REPLICA,), classes)
    return init_transit(settings, policies, dry_run=dry_run)
