"""One PostgreSQL, one KMS and three servers, each started again whenever it ends, as a supervisor would."""

import contextlib
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.faults import eventually
from tests.support.postgres import PostgresServer, postgres_at
from tests.support.service import ORIGIN, Options, RunningService, policies_copy
from tests.support.transit_server import provider_on
from vault.audit.checkpoint import vkey
from vault.client import Connection
from vault.crypto.dev_server import DevTransit, start_dev_transit
from vault.crypto.names import LOG, STANDARD_CLASSES
from vault.domain.system import SystemClock, SystemRandomness
from vault.identity.authority import Authority
from vault.policy.bundle import load_bundle

SERVERS: Final = 3
CONNECTIONS: Final = 12
"""DATAVAULT_DATABASE_CONNECTIONS of each server."""
_RULE: Final = "p, campaigns-email"
"""The rules that one of the two bundles lacks; with all of them gone the answer is `not-permitted`."""
_RESTART_SECONDS: Final = 0.2
_EXPECTED: Final = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 0}


class Node:
    """One server, and the thread that starts it again. `up` is set while it serves."""

    def __init__(self, number: int, service: RunningService) -> None:
        self.number = number
        self.service = service
        self.up = threading.Event()
        self.problems: list[str] = []
        """Ends that nobody asked for."""
        self.starts = 0
        self.refused_starts: list[str] = []
        self.peak_kilobytes = 0
        self._asked: signal.Signals | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keeper-{number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that ends the process makes its end an expected one."""
        if number in _EXPECTED:
            self._asked = number
            self.up.clear()
        self.service.signal(number)

    def close(self) -> None:
        """Stop it for good, and wait for its end."""
        self._closing.set()
        self.send(signal.SIGTERM)
        self._thread.join()

    def watch_memory(self) -> None:
        """Take note of its resident memory."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path(f"/proc/{self.service.process.pid}/status").read_text("ascii")
            self.peak_kilobytes = max(self.peak_kilobytes, int(status.split("VmRSS:")[1].split()[0]))

    def _keep(self) -> None:
        while not self._closing.is_set():
            self._asked = None
            try:
                self.service.launch()
            except AssertionError as refused:
                self.refused_starts.append(str(refused))
                self._closing.wait(_RESTART_SECONDS)
                continue
            self.starts += 1
            self.up.set()
            code = self.service.process.wait()
            self.up.clear()
            wanted = _EXPECTED.get(self._asked) if self._asked else None
            if code != wanted:
                asked = self._asked.name if self._asked else "nothing"
                self.problems.append(f"server {self.number} ended with {code} after {asked}")


@dataclass
class Cluster:
    """What runs, and where. `url` is the database as the servers use it."""

    folder: Path
    postgres: PostgresServer
    transit: DevTransit
    url: str
    nodes: list[Node]
    policies: Path
    bundles: dict[bool, tuple[str, str]]
    """Rules and bundle hash, with (True) and without the rule that lets the address be read."""
    outside: Path
    verifier_key: str
    """Of the log."""

    def connection(self, server: int, caller: str) -> Connection:
        """Where a server listens, also while it is down, with a certificate for `caller`."""
        first, service = self.nodes[0].service, self.nodes[server].service
        certificate, key = first.certificate(caller)
        target = "localhost:" + service.options.environment["DATAVAULT_LISTEN"].rpartition(":")[2]
        return Connection(target, first.ca_certificate, certificate, key)

    @property
    def up(self) -> list[Node]:
        """The servers that serve now."""
        return [node for node in self.nodes if node.up.is_set()]

    def wait_up(self) -> None:
        """Wait until all servers serve."""
        eventually(lambda: len(self.up) == len(self.nodes), "all servers serve")

    def put_policies(self, *, open_: bool) -> str:
        """Put the bundle with or without the rule in place, at one moment; gives its hash."""
        rules, bundle = self.bundles[open_]
        new = self.folder / "policy.csv.new"
        new.write_text(rules, "utf-8")
        new.replace(self.policies / "policy.csv")
        return bundle


@contextlib.contextmanager
def cluster_in(folder: Path) -> Iterator[Cluster]:
    """A cluster whose three servers start at once on a database that no server has used before."""
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(postgres_at(folder / "postgres"))
        transit = start_dev_transit(folder / "transit")
        stack.callback(transit.stop)
        verifier_key = _make_keys(transit)
        url = postgres.for_service(postgres.create())
        policies, bundles = _policies(folder)
        outside = folder / "outside"
        nodes = []
        for number in range(SERVERS):
            environment = {
                "DATAVAULT_DATABASE_URL": f"{url}?application_name={_name(number)}",
                "DATAVAULT_DATABASE_CONNECTIONS": str(CONNECTIONS),
                "DATAVAULT_OUTSIDE_STORE": str(outside),
                "DATAVAULT_LISTEN": f"127.0.0.1:{_free_port()}",
            }
            options = Options(policies=policies, transit=transit, environment=environment)
            nodes.append(Node(number, RunningService(folder / _name(number), options)))
        _share_authority([node.service.home / "ca" for node in nodes])
        cluster = Cluster(folder, postgres, transit, url, nodes, policies, bundles, outside, verifier_key)
        stack.callback(_end, nodes)
        for node in nodes:
            node.start()
        cluster.wait_up()
        yield cluster


def _make_keys(transit: DevTransit) -> str:
    """Every key that the servers need; gives the verifier key of the log."""
    with contextlib.closing(provider_on(transit)) as provider:
        provider.ensure_keys(STANDARD_CLASSES)
        return vkey(ORIGIN, provider.public_key(LOG).raw)


def _end(nodes: list[Node]) -> None:
    for node in nodes:
        node.service.signal(signal.SIGCONT)
    for node in nodes:
        node.close()


def _policies(folder: Path) -> tuple[Path, dict[bool, tuple[str, str]]]:
    """The folder, and both versions of its rules with the hash of the bundle that each makes."""

    def unbounded(text: str) -> str:
        return text.replace("{email-campaigns: 200000", "{email-campaigns: 200000000")

    policies = policies_copy(folder / "policies", {"callers.yaml": unbounded})
    # it expects the rules
    (policies / "tests" / "marketing.yaml").unlink()
    rules = policies / "policy.csv"
    text = rules.read_text("utf-8")
    without = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(_RULE))
    bundles = {}
    for open_, content in ((False, without), (True, text)):
        rules.write_text(content, "utf-8")
        bundles[open_] = content, load_bundle(policies).hash
    assert bundles[False] != bundles[True]
    return policies, bundles


def _share_authority(folders: list[Path]) -> None:
    """One CA for all: production brings its own certificates, here the embedded CA issues them."""
    folders[0].parent.mkdir(parents=True, mode=0o700)
    Authority.open(folders[0], SystemClock(), SystemRandomness())
    for folder in folders[1:]:
        folder.parent.mkdir(parents=True, mode=0o700)
        shutil.copytree(folders[0], folder)


def _name(number: int) -> str:
    """A server's folder, and what PostgreSQL calls its connections."""
    return f"server-{number}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
