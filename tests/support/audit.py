"""What the tests of the audit room share: a database, a signing key, records, a log ready to use."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from vault.audit.announcement import ACTION, announcement_detail
from vault.audit.append import Appender, EncodedRecord
from vault.audit.checkpoint import vkey
from vault.audit.integration import Integration
from vault.audit.log_keys import LogKey, add_key, read_keys, signer_of
from vault.audit.origins import OpenLog
from vault.audit.outside import OutsideStore
from vault.audit.outside_folder import FolderStore
from vault.audit.record import AttributeEntry, Record
from vault.audit.startup import open_log
from vault.audit.tables import metadata
from vault.domain.errors import KeysUnavailableError, StoreUnavailableError
from vault.domain.protocols import Clock, LogSigners, PublicKey, Signer
from vault.testing import FakeClock

ORIGIN = "bank.example/datavault"
TENANT = "retail"
NOW = 1_760_000_000_000_000
SEED = bytes(range(32))


class Database:
    """`Transactions` over a SQLite file: one connection per thread, WAL, synchronous=FULL."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
        event.listen(self._engine, "connect", _configure)
        self._local = threading.local()
        self._opened: list[Connection] = []

    def create(self) -> "Database":
        with self.write() as connection:
            metadata.create_all(connection)
        return self

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def idle(self) -> Iterator[Connection]:
        """This thread's connection outside any transaction, for settings of SQLite."""
        connection = self._connection()
        try:
            yield connection
        finally:
            connection.rollback()

    def close(self) -> None:
        for connection in self._opened:
            connection.close()
        self._engine.dispose()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        connection = self._connection()
        driver = connection.connection.driver_connection
        try:
            connection.exec_driver_sql(begin)
            yield connection
            connection.exec_driver_sql("COMMIT")
        except DBAPIError as error:
            raise StoreUnavailableError("the database refused") from error
        finally:
            if driver is not None and driver.in_transaction:
                driver.execute("ROLLBACK")
            connection.rollback()

    def _connection(self) -> Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._engine.connect()
            self._opened.append(self._local.connection)
        connection: Connection = self._local.connection
        return connection


def _configure(connection: object, _: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=20000"):
        connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]


class KeySigner:
    """Signs with one Ed25519 key; `fail` makes it raise."""

    def __init__(self, seed: bytes = SEED) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.fail: Exception | None = None

    def sign(self, message: bytes) -> bytes:
        if self.fail is not None:
            raise self.fail
        return self._key.sign(message)

    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()


class Signers:
    """`LogSigners` over versions of a key in memory. `rotate` adds one; `fail` makes all of them raise."""

    def __init__(self, *keys: KeySigner) -> None:
        self.providers: tuple[str, ...] = ("local",)
        self.keys = list(keys) or [KeySigner()]

    @property
    def fail(self) -> Exception | None:
        return self.keys[-1].fail

    @fail.setter
    def fail(self, error: Exception | None) -> None:
        for key in self.keys:
            key.fail = error

    def newest(self) -> PublicKey:
        return self.versions()[-1]

    def versions(self) -> list[PublicKey]:
        return [PublicKey(number, key.public_key()) for number, key in enumerate(self.keys, 1)]

    def signer(self, provider: str, version: int) -> Signer:
        if provider not in self.providers or version > len(self.keys):
            raise KeysUnavailableError("there is no such key")
        return self.keys[version - 1]

    def rotate(self, seed: bytes) -> int:
        self.keys.append(KeySigner(seed))
        return len(self.keys)


def vkey_of(origin: str = ORIGIN, seed: bytes = SEED) -> str:
    return vkey(origin, KeySigner(seed).public_key())


BASE = Record(
    id="00000000-0000-7000-8000-000000000000",
    time=NOW,
    tenant=TENANT,
    caller="personalization-engine",
    identity="spiffe://bank.example/personalization-engine",
    action="read",
    subject="5f" * 16,
    outcome="partial",
    purpose="personalised-offers",
    attributes={
        "income": AttributeEntry("read.generalise", bases=("consent",), rule="offers-income"),
        "iban": AttributeEntry("read.clear", reason="not-permitted"),
    },
    require_all=0,
    policy="ab" * 32,
    consents=("0190a000-0000-7000-8000-000000000001",),
)


def make_record(number: int, **changes: object) -> Record:
    identity = {"id": f"00000000-0000-7000-8000-{number:012x}", "time": NOW + number}
    return replace(BASE, **(identity | changes))  # type: ignore[arg-type]


def encoded(record: Record) -> EncodedRecord:
    return EncodedRecord.of(record)


def records(first: int, count: int) -> list[EncodedRecord]:
    return [encoded(make_record(number)) for number in range(first, first + count)]


def announce(connection: Connection, log: int, signers: LogSigners, version: int) -> int:
    """Append the announcement of a version of the log key, and its row; returns its place."""
    appender = Appender(log)
    current, place = read_keys(connection, log)[-1], appender.head(connection)
    following = signers.signer("local", version)
    detail = announcement_detail(ORIGIN, signer_of(current, signers), following)
    record = make_record(
        place,
        action=ACTION,
        subject="unknown",
        outcome="authorised",
        purpose="",
        attributes={},
        detail=detail,
    )
    row = LogKey(current.number + 1, "local", version, following.public_key(), place)
    add_key(connection, log, row, NOW)
    assert appender.append(connection, [encoded(record)]) == [place]
    return place


class Log:
    """An open log in a database of its own."""

    def __init__(self, folder: Path, *, outside: OutsideStore | None = None) -> None:
        self.database = Database(folder / "audit.db").create()
        self.outside: OutsideStore = outside or FolderStore(folder / "outside")
        self.signers = Signers()
        with quiet():
            self.clock: Clock = FakeClock(NOW)
        self.open: OpenLog = open_log(self.database, ORIGIN, self.signers, self.clock)
        self.appender = Appender(self.open.log)

    @property
    def id(self) -> int:
        return self.open.log

    def append(self, count: int) -> list[int]:
        """Append `count` records numbered by their index, in one transaction."""
        with self.database.write() as connection:
            return self.appender.append(connection, records(self.appender.head(connection), count))

    def rotate(self, seed: bytes) -> int:
        """Announce a new key, as a rotation does; returns the place of the announcement."""
        version = self.signers.rotate(seed)
        with self.database.write() as connection:
            return announce(connection, self.id, self.signers, version)

    def integrator(self) -> Integration:
        return Integration(self.database, self.signers, self.clock, self.outside)

    def grow(self, *counts: int) -> None:
        """Append and integrate, a checkpoint after each."""
        integrator = self.integrator()
        for count in counts:
            self.append(count)
            integrator.run_once()

    def sql(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Run one statement as someone with access to the database file would."""
        with self.database.write() as connection:
            result = connection.exec_driver_sql(statement, tuple(parameters))
            return [tuple(row) for row in result] if result.returns_rows else []

    def refreshed(self) -> OpenLog:
        """The head row as it is now."""
        (row,) = self.sql("SELECT log, origin, size, integrated, state FROM log ORDER BY log DESC LIMIT 1")
        return OpenLog(*row)  # type: ignore[arg-type]


@contextmanager
def quiet() -> Iterator[None]:
    """Use a fake of vault.testing without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def in_threads(*work: Callable[[], None]) -> None:
    """Run all at once; raise the first error."""
    errors: list[BaseException] = []

    def guarded(item: Callable[[], None]) -> None:
        try:
            item()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(item,)) for item in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
