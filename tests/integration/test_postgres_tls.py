"""PostgreSQL over TLS, with a password from a file: what the service accepts as its database."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.support.postgres import SERVICE_USER, PostgresServer, postgres_at
from tests.support.postgres_tls import tls_front
from vault import assembly
from vault.config import Settings
from vault.diagnosis_database import database_findings
from vault.domain.errors import ConfigurationError, StoreUnavailableError
from vault.domain.system import SystemClock, SystemRandomness
from vault.identity.authority import Authority
from vault.store import postgres
from vault.store.database import Database

SECRET = "correct-horse-battery"


@dataclass(frozen=True)
class Bank:
    """A server with TLS and a password, and the files of who connects."""

    server: PostgresServer
    port: int
    database: str
    ca: Path
    stranger: Path
    password: Path

    def url(self, *, host: str = "localhost", mode: str = "verify-full", ca: Path | None = None) -> str:
        name = self.database.rpartition("/")[2]
        return (
            f"postgresql://{SERVICE_USER}@{host}:{self.port}/{name}"
            f"?sslmode={mode}&sslrootcert={ca or self.ca}"
        )

    def open(self, url: str, **more: object) -> Database:
        return assembly.database_of(self.settings(url, **more))

    def settings(self, url: str, **more: object) -> Settings:
        return Settings(database_url=url, database_password_file=self.password, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[PostgresServer, Path]]:
    with tempfile.TemporaryDirectory(prefix="datavault-tls-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103  the server runs as another user
        with postgres_at(Path(folder) / "server") as server:
            yield server, Path(folder)


@pytest.fixture(scope="module")
def bank(served: tuple[PostgresServer, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    server, place = served
    folder = tmp_path_factory.mktemp("bank")
    database = server.create()
    hba = place / "server" / "data" / "pg_hba.conf"
    hba.write_text(f"host all {SERVICE_USER} all scram-sha-256\n" + hba.read_text("utf-8"), "utf-8")
    with server.connect() as connection:
        connection.execute(f"ALTER ROLE {SERVICE_USER} PASSWORD '{SECRET}'")
        connection.execute("SELECT pg_reload_conf()")
    authority = Authority.open(folder / "ca", SystemClock(), SystemRandomness())
    certificate, key = authority.server_credentials_files(folder / "tls", ["localhost"], [])
    other = Authority.open(folder / "other-ca", SystemClock(), SystemRandomness())
    password = folder / "password"
    password.write_text(SECRET + "\n", "utf-8")
    password.chmod(0o600)
    with tls_front(server.port, certificate, key) as port:
        yield Bank(server, port, database, authority.certificate_path, other.certificate_path, password)


def reach(database: Database) -> bool:
    """Whether TLS is on the way to it."""
    try:
        with database.read() as connection:
            connection.exec_driver_sql("SELECT 1")
            return bool(postgres.raw(connection).pgconn.ssl_in_use)
    finally:
        database.close()


def test_a_server_that_proves_its_name_is_taken(bank: Bank) -> None:
    """In production too; the connection is under TLS."""
    assert reach(bank.open(bank.url(), environment="production"))
    checks = {one.check: one.health.value for one in database_findings(bank.settings(bank.url()))}
    assert checks["transport"] == "good"


def test_a_server_of_another_authority_is_not(bank: Bank) -> None:
    """It may be anybody's: nothing is sent to it."""
    with pytest.raises(StoreUnavailableError):
        reach(bank.open(bank.url(ca=bank.stranger)))


def test_a_server_under_another_name_is_not(bank: Bank) -> None:
    """Its certificate is for localhost and not for the address."""
    with pytest.raises(StoreUnavailableError):
        reach(bank.open(bank.url(host="127.0.0.1")))


def test_a_server_without_tls_is_not(bank: Bank, postgres_server: PostgresServer) -> None:
    """It is not talked to in plain text instead."""
    url = bank.url().replace(f":{bank.port}/", f":{postgres_server.port}/")
    with pytest.raises(StoreUnavailableError):
        reach(bank.open(url))


def test_what_is_wrong_with_the_file_of_the_authority_is_not_guessed(bank: Bank, tmp_path: Path) -> None:
    """A missing file is no reason to trust everybody."""
    with pytest.raises(StoreUnavailableError):
        reach(bank.open(bank.url(ca=tmp_path / "missing.pem")))


def test_a_new_password_needs_no_restart(bank: Bank) -> None:
    """The file is read at each connect; what is connected goes on."""
    database = bank.open(bank.url())
    with database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    with bank.server.connect() as connection:
        connection.execute(f"ALTER ROLE {SERVICE_USER} PASSWORD 'the-next-one'")
    try:
        bank.server.terminate(bank.database)
        with pytest.raises(StoreUnavailableError, match="refuses the login"), database.read():
            pass
        bank.password.write_text("the-next-one", "utf-8")
        assert reach(database)
    finally:
        bank.password.write_text(SECRET, "utf-8")
        with bank.server.connect() as connection:
            connection.execute(f"ALTER ROLE {SERVICE_USER} PASSWORD '{SECRET}'")


def test_a_password_that_others_may_read_is_refused(bank: Bank, tmp_path: Path) -> None:
    """With the command that mends it, and without a word of its content."""
    loose = tmp_path / "password"
    loose.write_text(SECRET, "utf-8")
    loose.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600") as caught:
        assembly.database_of(Settings(database_url=bank.url(), database_password_file=loose))
    assert SECRET not in str(caught.value)


def test_a_wrong_password_shows_neither_it_nor_the_user(bank: Bank, tmp_path: Path) -> None:
    """The error says what to look at."""
    wrong = tmp_path / "password"
    wrong.write_text("nonsense-5391", "utf-8")
    wrong.chmod(0o600)
    database = assembly.database_of(Settings(database_url=bank.url(), database_password_file=wrong))
    with pytest.raises(StoreUnavailableError) as caught:
        reach(database)
    told = repr(caught.value)
    assert caught.value.message == "the database cannot be reached, or refuses the login"
    assert "nonsense" not in told
    assert SERVICE_USER not in told
    assert caught.value.__cause__ is None


def test_a_client_of_the_tests_cannot_come_in_without_it(bank: Bank) -> None:
    """The server really asks for the password."""
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(bank.url(), connect_timeout=3)
