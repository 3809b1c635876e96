"""A running service for tests: the real program, its own home, free ports, real certificates.

    with RunningService.start(tmp_path) as service:
        client = service.client("personalization-engine")

`tests/support/pipelines.py` has the same pipelines without a network, for clocks and faults.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import grpc
import psycopg

from tests.support import identity
from tests.support.postgres import SERVICE_USER, SUPERUSER
from vault.audit.checkpoint import vkey
from vault.audit.verify import VerifyReport, verify
from vault.client import AsyncClient, Client, Connection, RetryPolicy
from vault.crypto.dev_server import DevTransit
from vault.crypto.local import LocalKeyProvider
from vault.crypto.names import LOG
from vault.crypto.transit import TransitKeyProvider
from vault.crypto.transit_settings import TransitSettings
from vault.domain.protocols import KeyProvider
from vault.domain.system import SystemClock, SystemRandomness
from vault.identity.authority import Authority
from vault.store.database import Database
from vault.store.opening import open_database

REPOSITORY: Final = Path(__file__).resolve().parents[2]
POLICIES: Final = REPOSITORY / "policies"
FAULTY: Final = REPOSITORY / "tests" / "support" / "faulty"
"""What changes a service process from inside, see its only module."""
SPIFFE: Final = "spiffe://bank.example/"
ORIGIN: Final = "datavault.local/log"
JWT_ISSUER: Final = "https://idp.bank.example"
JWT_AUDIENCE: Final = "datavault"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0
NO_RETRY: Final = RetryPolicy(attempts=1)
"""Tests want to see the first answer."""

_POLL_SECONDS: Final = 0.02


def policies_copy(folder: Path, changes: Mapping[str, Callable[[str], str]] | None = None) -> Path:
    """The repository's policies in `folder`, with some files changed: path -> old text to new text."""
    shutil.copytree(POLICIES, folder)
    for path, change in (changes or {}).items():
        file = folder / path
        file.write_text(change(file.read_text("utf-8") if file.exists() else ""), "utf-8")
    return folder


@dataclass(frozen=True)
class Options:
    """How a service is to be started. `transit` None: local keys. `environment` adds to the variables."""

    policies: Path = POLICIES
    workers: int = 1
    transit: DevTransit | None = None
    engine: str = "compiled"
    jwt: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


class RunningService:
    """One `datavault serve` process. Used as a context manager it is stopped, or killed after a failure."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.options = options
        self.process: subprocess.Popen[bytes]
        self.addresses: dict[str, str] = {}
        self._log = folder / "service.log"
        self._log_begin = 0
        self._told_to_stop = False
        self._open: list[Any] = []
        self._clients: dict[tuple[str, bool], Client] = {}
        self._numbers = 0
        self._guard = threading.Lock()
        self._issuing = threading.Lock()

    @classmethod
    def start(cls, folder: Path, **options: Any) -> Self:
        """Start a service with a fresh home in `folder` (or go on with the home that is there); `options`
        are the fields of `Options`. Returns once it serves."""
        service = cls(folder, Options(**options))
        service.launch()
        return service

    def launch(self) -> None:
        """Start the process and wait until it serves; also after `stop` or `kill`, on the same home."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        self._told_to_stop = False
        with self._log.open("ab") as log:
            self._log_begin = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vault.cli", "serve", "--ready-file", str(ready)],
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait(ready.exists, "become ready")
        with self._guard:  # a thread may have made a client of the old addresses since the kill
            self.addresses, self._clients = json.loads(ready.read_text("utf-8")), {}

    def environment(self) -> dict[str, str]:
        """The variables the process gets; those of the machine that would configure it are left out."""
        own = ("DATAVAULT_", "VAULT_", "BAO_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        made = {
            "PYTHONPATH": os.pathsep.join([str(FAULTY), str(REPOSITORY)]),
            "DATAVAULT_HOME": str(self.home),
            "DATAVAULT_POLICIES": str(self.options.policies),
            "DATAVAULT_POLICY_ENGINE": self.options.engine,
            "DATAVAULT_LISTEN": "127.0.0.1:0",
            "DATAVAULT_LISTEN_HEALTH": "127.0.0.1:0",
            "DATAVAULT_ORIGIN": ORIGIN,
            "DATAVAULT_WORKERS": str(self.options.workers),
        }
        if self.options.transit is not None:
            made |= {
                "DATAVAULT_KEYS": "transit",
                "VAULT_ADDR": self.options.transit.address,
                "VAULT_TOKEN": self.options.transit.token_file.read_text("ascii").strip(),
                "VAULT_CACERT": str(self.options.transit.ca_certificate),
            }
        if self.options.jwt:
            made |= {"DATAVAULT_LISTEN_JWT": "127.0.0.1:0", "DATAVAULT_CONFIG": str(self._jwt_settings())}
        return inherited | made | store_environment(self.folder) | dict(self.options.environment)

    # --- calling it ----------------------------------------------------------------------------------------

    def client(self, caller: str) -> Client:
        """A client with a certificate that proves `caller`; the same one at every call, and thread-safe."""
        with self._guard:
            return self._client(caller, with_token=False)

    def jwt_client(self, caller: str) -> Client:
        """A client that proves `caller` by a token, on the second port."""
        with self._guard:
            return self._client(caller, with_token=True)

    def async_client(self, caller: str) -> AsyncClient:
        """A new asyncio client; the caller of this closes it."""
        return AsyncClient(self.connection(caller), retry=NO_RETRY)

    def connection(self, caller: str) -> Connection:
        """Where the service is, with a certificate for `caller`."""
        certificate, key = self.certificate(caller)
        return Connection(self.target, self.ca_certificate, certificate, key)

    def jwt_connection(self, token: str) -> Connection:
        """The second port, with this token."""
        return Connection(_localhost(self.addresses["jwt"]), self.ca_certificate, token=token)

    def channel(self, caller: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
        """A bare channel with a certificate for `caller`, closed with the service."""
        certificate, key = self.certificate(caller)
        return self.bare_channel(certificate, key, options)

    def bare_channel(
        self,
        certificate: Path | None = None,
        key: Path | None = None,
        options: Sequence[tuple[str, Any]] = (),
        *,
        port: str = "main",
    ) -> grpc.Channel:
        """A channel to any TLS port, with any certificate or none."""
        credentials = grpc.ssl_channel_credentials(
            self.ca_certificate.read_bytes(),
            key.read_bytes() if key else None,
            certificate.read_bytes() if certificate else None,
        )
        return self._keep(grpc.secure_channel(_localhost(self.addresses[port]), credentials, list(options)))

    def health_channel(self) -> grpc.Channel:
        """A channel to the plain-text port that serves health alone."""
        return self._keep(grpc.insecure_channel(self.addresses["health"]))

    def certificate(self, caller: str) -> tuple[Path, Path]:
        """Paths of a certificate and key that prove `caller`, issued by the embedded CA on first use."""
        folder = self.folder / "clients"
        # of two threads that issue at once each could write half of the pair
        with self._issuing:
            if not (folder / f"{caller}.pem").exists():
                self.authority.issue_client(caller, SPIFFE + caller).write(folder, caller)
        return folder / f"{caller}.pem", folder / f"{caller}.key"

    def token(self, caller: str, **changes: Any) -> str:
        """A token for `caller` of the issuer that the service trusts; `changes` as of identity.token."""
        now = int(time.time())
        return identity.token(**{"sub": caller, "iat": now, "exp": now + 600, **changes})

    def customer(self) -> str:
        """A customer number that no other test of this service uses."""
        with self._guard:
            self._numbers += 1
            return f"customer-{self._numbers}"

    @property
    def target(self) -> str:
        return _localhost(self.addresses["main"])

    @property
    def ca_certificate(self) -> Path:
        return self.home / "ca" / "ca.pem"

    @property
    def authority(self) -> Authority:
        """The embedded CA of the home."""
        return Authority.open(self.home / "ca", SystemClock(), SystemRandomness())

    # --- ending it -----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """SIGTERM, unless it was sent already; asserts that it ends with exit code 0."""
        if not self._told_to_stop:
            self.signal(signal.SIGTERM)
        self.wait_stopped()

    def signal(self, number: int) -> None:
        """Send a signal, if the process is still there."""
        self._told_to_stop |= number in (signal.SIGTERM, signal.SIGINT)
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait_stopped(self) -> None:
        """Wait for the end of a process that was told to stop; asserts exit code 0."""
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not stop within {STOP_SECONDS} s") from None
        finally:
            self._close_clients()
        assert code == 0, f"it ended with {code}:\n" + "\n".join(self.log_lines()[-20:])

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is flushed."""
        self.process.kill()
        self.process.wait()
        self._close_clients()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None and kind is None:
            self.stop()
        elif self.process.poll() is None:
            self.kill()
        self._close_clients()

    # --- looking into it -----------------------------------------------------------------------------------

    def log_lines(self) -> list[str]:
        """What it wrote since it was last launched."""
        with self._log.open("rb") as log:
            log.seek(self._log_begin)
            return log.read().decode("utf-8", "replace").splitlines()

    @property
    def log_path(self) -> Path:
        """All that any process on this home wrote."""
        return self._log

    @property
    def database_path(self) -> Path:
        return self.home / "datavault.db"

    @property
    def place(self) -> "Place":
        """Where its database is, on whatever store."""
        return self.environment().get("DATAVAULT_DATABASE_URL") or self.database_path

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement on the database, from outside, also while the service runs."""
        return run_sql(self.place, statement, *parameters)

    def records(self) -> list[dict[str, Any]]:
        """Every record of the log in order, as documents."""
        return log_records(self.place)

    def verify(self) -> VerifyReport:
        """Verify the whole log with the log key's public half."""
        return verify_log(self.place, self.key_provider())

    def key_provider(self) -> KeyProvider:
        """The keys of the home, as the service has them."""
        transit = self.options.transit
        if transit is None:
            return LocalKeyProvider(
                self.home / "keys.json", environment="development", randomness=SystemRandomness()
            )
        settings = TransitSettings(
            transit.address, token_file=transit.token_file, ca_certificate=transit.ca_certificate
        )
        return TransitKeyProvider(settings, SystemClock())

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that the process does by itself (a checkpoint, a log line)."""
        self._wait(condition, what)

    # --- inside --------------------------------------------------------------------------------------------

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + START_SECONDS
        while not condition():
            tail = "\n".join(self.log_lines()[-20:])
            if self.process.poll() is not None:
                self._close_clients()
                raise AssertionError(f"it ended with {self.process.returncode} and did not {what}:\n{tail}")
            if time.monotonic() > until:
                self.kill()
                raise AssertionError(f"it did not {what} within {START_SECONDS} s:\n{tail}")
            time.sleep(_POLL_SECONDS)

    def _client(self, caller: str, *, with_token: bool) -> Client:
        found = self._clients.get((caller, with_token))
        if found is None:
            connection = self.jwt_connection(self.token(caller)) if with_token else self.connection(caller)
            found = self._clients[caller, with_token] = Client(connection, retry=NO_RETRY)
            self._open.append(found)
        return found

    def _keep(self, channel: grpc.Channel) -> grpc.Channel:
        self._open.append(channel)
        return channel

    def _close_clients(self) -> None:
        opened, self._open, self._clients = self._open, [], {}
        for each in opened:
            each.close()

    def _jwt_settings(self) -> Path:
        keys, settings = self.folder / "jwks.json", self.folder / "datavault.toml"
        keys.write_bytes(identity.key_set(identity.jwk("ES256")))
        settings.write_text(
            f'[[jwt_issuers]]\nissuer = "{JWT_ISSUER}"\naudience = "{JWT_AUDIENCE}"\njwks = "{keys}"\n',
            "utf-8",
        )
        return settings


def store_environment(folder: Path) -> dict[str, str]:
    """On which database a service stands; `tests.support.stores` has another answer."""
    return {}


Place = Path | str
"""Where a database is: the file of SQLite, or the URL of PostgreSQL."""


def run_sql(place: Place, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """One statement in a transaction of its own; parameters are marked `?`."""
    if isinstance(place, str):
        with psycopg.connect(place.replace(f"://{SERVICE_USER}@", f"://{SUPERUSER}@")) as postgres:
            cursor = postgres.execute(statement.replace("%", "%%").replace("?", "%s"), parameters)
            return cursor.fetchall() if cursor.description else []
    with contextlib.closing(sqlite3.connect(place, timeout=20)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def log_records(place: Place) -> list[dict[str, Any]]:
    """Every record of the log in order, as documents."""
    rows = run_sql(place, 'SELECT entry FROM log_entry ORDER BY log, "index"')
    return [json.loads(entry) for (entry,) in rows]


def verify_log(place: Place, provider: KeyProvider) -> VerifyReport:
    """Verify the whole (first) log of a database."""
    with opened(place) as store, store.read() as connection:
        return verify(connection, 1, vkey(ORIGIN, provider.public_key(LOG).raw))


@contextlib.contextmanager
def opened(place: Place) -> Iterator[Database]:
    """The store over a database, beside the service."""
    store = open_database(place if isinstance(place, str) else f"sqlite:///{quote(str(place))}")
    try:
        yield store
    finally:
        store.close()


def _localhost(address: str) -> str:
    """The server's certificate is for this name."""
    return "localhost:" + address.rpartition(":")[2]
