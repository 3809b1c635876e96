"""Transactions on a real PostgreSQL: what a block begins and ends, and every way it can fail."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tests.support.postgres import PostgresServer
from tests.support.store import TENANT, add_subjects, count, mac_of
from vault.domain.errors import (
    ConfigurationError,
    ConflictError,
    StartRefusedError,
    StoreUnavailableError,
    UncertainCommitError,
)
from vault.store import postgres, schema
from vault.store.opening import open_database
from vault.store.postgres_database import PostgresDatabase
from vault.store.sqlite_database import SqliteDatabase

PATIENCE = 30.0


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    opened = PostgresDatabase(postgres_url, connections=4, wait_seconds=0.2)
    yield opened
    opened.close()


@pytest.fixture
def other(postgres_url: str) -> Iterator[PostgresDatabase]:
    """Another server on the same database."""
    opened = PostgresDatabase(postgres_url)
    yield opened
    opened.close()


def add(database: PostgresDatabase, *numbers: int) -> None:
    with database.write() as connection:
        add_subjects(connection, *numbers)


def subjects(database: PostgresDatabase) -> int:
    with database.read() as connection:
        return count(connection, "subject")


def change(database: PostgresDatabase, work: Callable[[Connection], None]) -> None:
    with database.write() as connection:
        work(connection)


def cut_and_run(server: PostgresServer, url: str, connection: Connection) -> None:
    server.terminate(url)
    postgres.raw(connection).execute("SELECT 1")


def setting(connection: Connection, name: str) -> str:
    return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())


# --- blocks -----------------------------------------------------------------------------------------------


def test_each_block_has_its_isolation(database: PostgresDatabase) -> None:
    """A read is one snapshot that writes nothing, a change reads what is committed, a lone statement is a
    transaction by itself."""
    with database.read() as connection:
        assert setting(connection, "transaction_isolation") == "repeatable read"
        assert setting(connection, "transaction_read_only") == "on"
    with database.write() as connection:
        assert setting(connection, "transaction_isolation") == "read committed"
    with database.read_once() as connection:
        assert postgres.raw(connection).info.transaction_status == 0


def test_nothing_waits_for_ever(database: PostgresDatabase) -> None:
    """Statements, locks and idle transactions have limits on every connection."""
    with database.read() as connection:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert setting(connection, name) not in ("0", "")
        assert setting(connection, "synchronous_commit") == "on"


def test_an_open_read_sees_one_moment(database: PostgresDatabase, other: PostgresDatabase) -> None:
    """What another server commits meanwhile is for the next read."""
    with database.read() as connection:
        assert count(connection, "subject") == 0
        add(other, 1)
        assert count(connection, "subject") == 0
    assert subjects(database) == 1


def test_an_exception_takes_a_change_back(database: PostgresDatabase) -> None:
    """The error comes through as it is, and the connection serves the next block."""

    def fail(connection: Connection) -> None:
        add_subjects(connection, 1)
        raise LookupError

    with pytest.raises(LookupError):
        change(database, fail)
    assert subjects(database) == 0
    add(database, 1)


def test_a_change_whose_statement_failed_is_not_committed(database: PostgresDatabase) -> None:
    """Who swallows an error of the database does not get a commit that PostgreSQL made a rollback of."""

    def swallow(connection: Connection) -> None:
        add_subjects(connection, 1)
        with suppress(DBAPIError):
            add_subjects(connection, 1)

    with pytest.raises(StoreUnavailableError, match="had failed"):
        change(database, swallow)
    assert subjects(database) == 0


def test_what_another_change_did_first_is_a_conflict(database: PostgresDatabase) -> None:
    """It may be done anew, and the message shows no row."""
    add(database, 1)
    with pytest.raises(ConflictError) as caught, database.write() as connection:
        add_subjects(connection, 1)
    assert caught.value.message == "another change was first"
    assert caught.value.__cause__ is None


def test_a_deadlock_is_a_conflict(database: PostgresDatabase, other: PostgresDatabase) -> None:
    """One of two changes that wait for each other is told to begin again; the other commits."""
    add(database, 1, 2)
    lock = text("SELECT 1 FROM subject_lookup WHERE tenant = :tenant AND mac = :mac FOR UPDATE")
    both = threading.Barrier(2)
    outcomes: list[str] = []

    def lock_both(on: PostgresDatabase, first: int, second: int) -> None:
        try:
            with on.write() as connection:
                connection.execute(lock, {"tenant": TENANT, "mac": mac_of(first)})
                both.wait(PATIENCE)
                connection.execute(lock, {"tenant": TENANT, "mac": mac_of(second)})
            outcomes.append("committed")
        except ConflictError:
            outcomes.append("conflict")

    threads = [
        threading.Thread(target=lock_both, args=(database, 1, 2)),
        threading.Thread(target=lock_both, args=(other, 2, 1)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(outcomes) == ["committed", "conflict"]


@pytest.mark.parametrize("block", ["read", "read_once", "write", "write_once"])
def test_blocks_of_one_side_do_not_nest(database: PostgresDatabase, block: str) -> None:
    """That is an error of the program; a read inside a write is none."""
    with pytest.raises(RuntimeError), getattr(database, block)(), getattr(database, block)():
        pass
    with database.write(), database.read():
        pass


# --- lost connections -------------------------------------------------------------------------------------


def test_a_change_that_lost_its_connection_changed_nothing(
    database: PostgresDatabase, postgres_server: PostgresServer, postgres_url: str
) -> None:
    """Before COMMIT a cut is plain: unavailable; the next change has a new connection."""

    def cut(connection: Connection) -> None:
        add_subjects(connection, 1)
        postgres_server.terminate(postgres_url)
        add_subjects(connection, 2)

    with pytest.raises(StoreUnavailableError) as caught:
        change(database, cut)
    assert not isinstance(caught.value, UncertainCommitError)
    add(database, 3)
    assert subjects(database) == 1


def test_a_cut_at_the_commit_is_uncertain(
    database: PostgresDatabase, postgres_server: PostgresServer, postgres_url: str
) -> None:
    """Whether it happened has to be looked up."""

    def cut(connection: Connection) -> None:
        add_subjects(connection, 1)
        postgres_server.terminate(postgres_url)

    with pytest.raises(UncertainCommitError):
        change(database, cut)


def test_a_cut_in_a_lone_statement_is_uncertain(
    database: PostgresDatabase, postgres_server: PostgresServer, postgres_url: str
) -> None:
    """It may have committed before the answer was lost; a refused one certainly has not."""
    with pytest.raises(UncertainCommitError), database.write_once() as connection:
        cut_and_run(postgres_server, postgres_url, connection)
    with pytest.raises(ConflictError), database.write_once() as connection:
        postgres.raw(connection).execute("DO $$ BEGIN RAISE unique_violation; END $$")


@pytest.mark.parametrize("block", ["read", "write"])
def test_connections_lost_while_idle_cost_nobody_a_failure(
    database: PostgresDatabase, postgres_server: PostgresServer, postgres_url: str, block: str
) -> None:
    """After a restart of PostgreSQL the first block begins on a new connection."""
    subjects(database)
    postgres_server.terminate(postgres_url)
    with getattr(database, block)() as connection:
        assert count(connection, "subject") == 0


def test_no_more_connections_than_allowed(
    database: PostgresDatabase, postgres_server: PostgresServer, postgres_url: str
) -> None:
    """The fifth of four waits, and is told so; afterwards all are idle, and `close` leaves none."""
    entered, leave = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        with database.read():
            entered.release()
            leave.wait(PATIENCE)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert entered.acquire(timeout=PATIENCE)
    with pytest.raises(StoreUnavailableError, match="all connections are in use"), database.read():
        pass
    assert postgres_server.connections(postgres_url) == 4
    leave.set()
    for thread in threads:
        thread.join(PATIENCE)
    subjects(database)
    database.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        subjects(database)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """The message names neither host nor user."""
    database = PostgresDatabase("postgresql://somebody@127.0.0.1:1/bank")
    with pytest.raises(StoreUnavailableError) as caught, database.read():
        pass
    assert caught.value.message == "the database cannot be reached, or refuses the login"
    with pytest.raises(StoreUnavailableError):
        database.join()


# --- who serves it ----------------------------------------------------------------------------------------


def test_servers_share_and_commands_do_not(
    database: PostgresDatabase, other: PostgresDatabase, postgres_server: PostgresServer, postgres_url: str
) -> None:
    """Two servers take part; a command that must be alone is refused while one does, and refuses servers."""
    database.join()
    other.join()
    alone = PostgresDatabase(database_url(database))
    with pytest.raises(StartRefusedError, match="stop all its servers"):
        alone.lock_exclusively()
    database.close()
    other.close()
    postgres_server.let_go(postgres_url)
    alone.lock_exclusively()
    late = PostgresDatabase(database_url(alone))
    with pytest.raises(StartRefusedError, match="must be alone"):
        late.join()
    alone.close()
    postgres_server.let_go(postgres_url)
    late.join()
    late.close()


def test_a_lost_lock_is_claimed_again(
    database: PostgresDatabase, postgres_server: PostgresServer, postgres_url: str
) -> None:
    """After a restart the server takes part again by itself; not where a command was quicker."""
    database.join()
    assert database.problem() == ""
    postgres_server.terminate(postgres_url)
    assert database.problem() == ""
    postgres_server.terminate(postgres_url)
    alone = PostgresDatabase(postgres_url)
    alone.lock_exclusively()
    assert "must be alone" in database.problem()
    alone.close()
    postgres_server.let_go(postgres_url)
    assert database.problem() == ""


def test_a_schema_is_the_operators_to_raise(postgres_server: PostgresServer) -> None:
    """An empty database is refused with the command to run, and left empty."""
    url = postgres_server.create(schema_too=False)
    database = PostgresDatabase(url)
    with pytest.raises(StartRefusedError, match="datavault db upgrade"):
        schema.require_current(database)
    with database.read() as connection:
        tables: Any = connection.exec_driver_sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert tables.scalar_one() == 0
    database.close()
    postgres_server.drop(url)


# --- which database ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (
            "postgresql://ana:secret@db.bank.example:5433/vault?sslmode=verify-full",
            "db.bank.example:5433/vault",
        ),
        ("postgresql+psycopg://db.bank.example/vault", "db.bank.example/vault"),
        ("postgres://a:secret@h1,h2/vault", "h1,h2/vault"),
        ("postgresql:///vault?host=/run/postgresql", "/run/postgresql/vault"),
    ],
)
def test_a_name_shows_where_and_not_who(url: str, name: str) -> None:
    """Messages name the database without user and password."""
    database = open_database(url)
    assert database.name == f"postgresql://{name}"
    assert "secret" not in repr(vars(database)["name"])


@pytest.mark.parametrize(
    "url", ["postgresql://", "postgresql://host", "postgresql://h/d?nonsense=1", "mysql://h/d"]
)
def test_a_wrong_url_names_the_setting(url: str) -> None:
    """And what would be right."""
    with pytest.raises(ConfigurationError, match=r"DATAVAULT_DATABASE_URL.*postgresql://"):
        open_database(url)


def test_production_wants_to_know_who_answers() -> None:
    """TLS that checks the server, unless the socket is on this machine."""
    for url in (
        "postgresql://u@h/d",
        "postgresql://u@h/d?sslmode=require",
        "postgresql://u@h/d?hostaddr=10.0.0.1",
    ):
        with pytest.raises(ConfigurationError, match="sslmode=verify-full"):
            open_database(url, production=True)
    open_database("postgresql://u@h/d?sslmode=verify-full", production=True)
    open_database("postgresql:///d?host=/run/postgresql", production=True)


def test_sqlite_stays_the_other_one(tmp_path: Path) -> None:
    """A file is still a file."""
    assert isinstance(open_database(f"sqlite:///{tmp_path}/vault.db"), SqliteDatabase)


def database_url(database: PostgresDatabase) -> str:
    """A superuser's URL of the same database."""
    return database.name.replace("postgresql://", "postgresql://postgres@")
