"""The demo's service: a separate `datavault serve` on free ports, its log in a file of the home."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vault.cli.exits import CommandError
from vault.crypto.dev_server import DevTransit, ending_with_parent

ORIGIN: Final = "demo.datavault.local/log"
DATABASE: Final = "datavault.db"
LOG: Final = "serve.log"
_READY: Final = "ready.json"
_CONFIG: Final = "datavault.toml"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.05
_LOG_LINES: Final = 8
_NOT_INHERITED: Final = ("DATAVAULT_", "VAULT_", "BAO_")


@dataclass(frozen=True, slots=True)
class Service:
    """A running server."""

    address: str
    home: Path
    process: "subprocess.Popen[bytes]"

    def require_running(self) -> None:
        """
        Raises:
            CommandError: it has ended.
        """
        if self.process.poll() is not None:
            raise ended(self.home)


def environment(home: Path, policies: Path, transit: DevTransit | None) -> dict[str, str]:
    """The environment of the service: the demo's settings alone, whatever the user's shell holds."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    settings = {
        "DATAVAULT_HOME": str(home),
        "DATAVAULT_CONFIG": str(home / _CONFIG),
        "DATAVAULT_POLICIES": str(policies.resolve()),
        "DATAVAULT_LISTEN": "127.0.0.1:0",
        "DATAVAULT_LISTEN_HEALTH": "127.0.0.1:0",
        "DATAVAULT_ORIGIN": ORIGIN,
        "DATAVAULT_KEYS": "local" if transit is None else "transit",
    }
    return {**kept, **settings, **_transit_settings(transit)}


def _transit_settings(transit: DevTransit | None) -> dict[str, str]:
    if transit is None:
        return {}
    return {
        "VAULT_ADDR": transit.address,
        "VAULT_CACERT": str(transit.ca_certificate),
        "DATAVAULT_TRANSIT_TOKEN_FILE": str(transit.token_file),
    }


def launch(home: Path, settings: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start `datavault serve`. On Linux it ends with the thread that calls this, however that ends.

    It gets a session of its own: Ctrl-C is for the demo, which then ends its servers in order.
    """
    (home / _CONFIG).touch(mode=0o600)
    with (home / LOG).open("wb") as log:
        os.chmod(log.fileno(), 0o600)
        return subprocess.Popen(  # noqa: S603 - this Python, and arguments of our own
            ending_with_parent(
                [sys.executable, "-m", "vault.cli", "serve", "--ready-file", str(home / _READY)]
            ),
            env=dict(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def until_ready(home: Path, process: "subprocess.Popen[bytes]") -> Service:
    """Wait until the service serves.

    Raises:
        CommandError: it ended or was not ready in time; the message shows the end of its log.
    """
    ready = home / _READY
    until = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if process.poll() is not None:
            raise ended(home)
        if time.monotonic() > until:
            raise CommandError(f"not ready within {_START_SECONDS:g} s; its log:\n{_end_of_log(home)}")
        time.sleep(_POLL_SECONDS)
    addresses = json.loads(ready.read_text(encoding="utf-8"))
    return Service(str(addresses["main"]), home, process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the service, gently first. Harmless when it has ended already."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ended(home: Path) -> CommandError:
    """The error that says that the service is gone, with the end of its log."""
    return CommandError("the service has ended; the end of its log:\n" + _end_of_log(home))


def _end_of_log(home: Path) -> str:
    try:
        lines = (home / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "(there is no log)"
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])
