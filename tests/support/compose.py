"""The services of deploy/compose.yaml as this machine can run them, without containers.

Commands, settings, logins and configuration files are those of the Compose file. A path in a volume becomes
one in a folder of the test, a host name becomes loopback; so a setting that is misspelt, a file that nobody
made or a right that nobody gave fails here as it would there.
Networks, users and read-only roots are not tried.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = REPOSITORY / "deploy"
_VARIABLE: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")
_OWN: Final = ("DATAVAULT_", "VAULT_", "BAO_")


def compose_file() -> dict[str, Any]:
    """The Compose file, its anchors and merges resolved."""
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return document


class ComposeFile:
    """`folder` holds the volumes, each where `prepare` mounts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.services: Mapping[str, Any] = compose_file()["services"]
        mounts = (volume.split(":")[:2] for volume in self.services["prepare"]["volumes"])
        self._volumes = {name: folder / target.lstrip("/") for name, target in mounts if "/" not in name}
        self.addresses: dict[str, str] = {}
        """HOST:PORT of the file -> where that is here."""

    def here(self, service: str, text: str, **variables: str) -> str:
        """A text of the file in this machine's words."""
        text = _VARIABLE.sub(lambda match: variables.get(match[1], match[2]), text)
        for target, host in self._mounts(service).items():
            text = re.sub(rf"(?<![\w.-]){re.escape(target)}(?![\w.-])", str(host), text)
        for address, found in self.addresses.items():
            text = text.replace(address, found)
        return text

    def command(self, service: str) -> list[str]:
        """What a service runs, without its entrypoint."""
        return [self.here(service, each) for each in self.services[service]["command"]]

    def environment(self, service: str, **variables: str) -> dict[str, str]:
        """The variables of a service, and those of this machine that configure nothing."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        own = {"PYTHONPATH": str(REPOSITORY), "DATAVAULT_LISTEN_HEALTH": "127.0.0.1:0"}
        given = self.services[service].get("environment", {})
        return (
            inherited | own | {name: self.here(service, value, **variables) for name, value in given.items()}
        )

    def file(self, service: str, target: str) -> Path:
        """A copy of the configuration file that is mounted at `target`, in this machine's words."""
        source = self._mounts(service)[target]
        copy = self.folder / source.name
        copy.write_text(self.here(service, source.read_text("utf-8")), "utf-8")
        return copy

    def _mounts(self, service: str) -> dict[str, Path]:
        volumes = (volume.split(":")[:2] for volume in self.services[service].get("volumes", ()))
        return {target: self._host(source) for source, target in volumes}

    def _host(self, source: str) -> Path:
        if "/" in source:
            return (DEPLOY / source).resolve()
        return self._volumes.get(source, self.folder / source)
