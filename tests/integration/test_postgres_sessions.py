"""Sessions on a real PostgreSQL: what is set on each connection, and what is noticed while one serves."""

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from sqlalchemy import Connection

from tests.support.faults import eventually
from tests.support.pipelines import House, open_house
from tests.support.postgres import SERVICE_USER, PostgresServer, postgres_at
from tests.support.service import run_sql
from tests.support.store import TENANT
from vault.audit.append import Appender, EncodedRecord
from vault.audit.startup import durability_problem
from vault.domain.errors import DatavaultError, StoreUnavailableError, UncertainCommitError
from vault.store import postgres, postgres_database, reader_postgres
from vault.store.postgres_database import PostgresDatabase

PATIENCE = 30.0
LOAD = (TENANT, [b"mac"], ["email"], False)


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    opened = PostgresDatabase(postgres_url, objection=durability_problem)
    yield opened
    opened.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """Its settings are changed."""
    with tempfile.TemporaryDirectory(prefix="datavault-settings-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103  the server runs as another user
        with postgres_at(Path(folder) / "server") as server:
            yield server


def configure(server: PostgresServer, statement: LiteralString) -> None:
    with server.connect() as connection:
        connection.execute(statement)
        connection.execute("SELECT pg_reload_conf()")


def prepared(database: PostgresDatabase) -> set[str]:
    """The names of the statements that PostgreSQL keeps for the connection used last."""
    with database.read_once() as connection:
        rows = postgres.raw(connection).execute("SELECT name FROM pg_prepared_statements", prepare=False)
        return {name for (name,) in rows}


def load(database: PostgresDatabase) -> None:
    with database.read_once() as connection:
        reader_postgres.fetch(postgres.raw(connection), *LOAD)


def test_reads_keep_the_prepared_statements(database: PostgresDatabase) -> None:
    """A block of several reads ends without throwing away what the loads prepared; one that fails may."""
    load(database)
    before = prepared(database)
    assert before
    for _ in range(3):
        with database.read() as connection:
            postgres.raw(connection).execute("SELECT 1")
        load(database)
    assert prepared(database) == before


@pytest.mark.parametrize(
    ("name", "set_to", "here"),
    [
        ("default_transaction_isolation", "serializable", "read committed"),
        ("default_transaction_read_only", "on", "off"),
        ("default_transaction_deferrable", "on", "off"),
    ],
)
def test_a_lone_statement_is_what_we_say(
    postgres_server: PostgresServer, postgres_url: str, name: str, set_to: str, here: str
) -> None:
    """Whatever the role is set to."""
    run_sql(postgres_url, f"ALTER ROLE {SERVICE_USER} SET {name} = '{set_to}'")
    database = PostgresDatabase(postgres_server.for_service(postgres_url))
    try:
        with database.write_once() as connection:
            assert connection.exec_driver_sql(f"SHOW {name}").scalar_one() == here
    finally:
        database.close()
        run_sql(postgres_url, f"ALTER ROLE {SERVICE_USER} RESET {name}")


def test_appends_that_meet_wait_for_each_other(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """A role set to REPEATABLE READ would have the one that waited for the head row fail at it."""
    run_sql(postgres_url, f"ALTER ROLE {SERVICE_USER} SET default_transaction_isolation = 'repeatable read'")
    try:
        with (
            open_house(tmp_path, database_url=postgres_server.for_service(postgres_url)) as house,
            psycopg.connect(postgres_url) as other,
        ):
            other.execute("UPDATE log SET size = size")
            waiting = threading.Thread(target=lambda: house.write("ana", {"email": "ana@b.example"}))
            reading = threading.Thread(target=lambda: read_nobody(house))
            for thread in (waiting, reading):
                thread.start()
            eventually(lambda: waiters(postgres_url) == 2, "both wait for the head row")
            other.commit()
            for thread in (waiting, reading):
                thread.join(PATIENCE)
            recorded = [record["action"] for record in house.records()]
            assert sorted(recorded[-2:]) == ["read", "write"]
    finally:
        run_sql(postgres_url, f"ALTER ROLE {SERVICE_USER} RESET default_transaction_isolation")


def read_nobody(house: House) -> None:
    with suppress(DatavaultError):
        house.read("fraud-detection", "nobody", "fraud-detection", ["email"])


def waiters(url: str) -> int:
    statement = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted"
    return int(run_sql(url, f"{statement} AND datname = current_database()")[0][0])


# --- durability -------------------------------------------------------------------------------------------


def test_durability_that_is_turned_off_while_serving_is_told(
    own_server: PostgresServer,
) -> None:
    """Health names the setting, calls are refused, and all is well again when it is set back."""
    url = own_server.create()
    database = PostgresDatabase(own_server.for_service(url), objection=durability_problem)
    database.join()
    with database.read():
        pass
    for name in ("synchronous_commit", "fsync", "full_page_writes"):
        assert database.problem() == ""
        configure(own_server, f"ALTER SYSTEM SET {name} = off")
        eventually(lambda name=name: name in database.problem(), f"{name} is told")  # type: ignore[misc]
        with pytest.raises(StoreUnavailableError, match=name), database.read():
            pass
        configure(own_server, f"ALTER SYSTEM RESET {name}")
        eventually(lambda: not database.problem(), "it is well again")
        with database.read():
            pass
    database.close()
    eventually(lambda: own_server.connections(url) == 0, "no connection is left")


def test_a_new_connection_that_is_not_durable_is_not_used(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    """A role is set so while one serves: the connections of before are as they were, new ones are refused,
    and none is left open."""
    database = PostgresDatabase(postgres_server.for_service(postgres_url), objection=durability_problem)
    run_sql(postgres_url, f"ALTER ROLE {SERVICE_USER} SET synchronous_commit = off")
    try:
        with pytest.raises(StoreUnavailableError, match="synchronous_commit"), database.write():
            pass
    finally:
        run_sql(postgres_url, f"ALTER ROLE {SERVICE_USER} RESET synchronous_commit")
    eventually(lambda: postgres_server.connections(postgres_url) == 0, "none is left open")
    with database.write():
        pass
    database.close()


def test_a_claim_that_fails_leaves_no_connection(
    postgres_server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the server cancels the statement."""
    database = PostgresDatabase(postgres_url)
    monkeypatch.setattr(postgres_database, "_SHARED", "SELECT 1 / 0, %s")
    # kept with their frames: nothing is closed by being forgotten
    caught = []
    for _ in range(3):
        with pytest.raises(DatavaultError) as error:
            database.join()
        caught.append(error)
    eventually(lambda: postgres_server.connections(postgres_url) == 0, "none is left open")
    database.close()


# --- an append whose answer was lost ----------------------------------------------------------------------


@pytest.mark.parametrize("alone", [True, False])
def test_an_append_that_commits_after_it_was_looked_up_counts_once(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """The connection was cut while PostgreSQL still worked on it: the next attempt collides with it, and the
    caller gets the position that it got."""
    append = Appender.append
    with open_house(tmp_path, database_url=postgres_url) as house, ExitStack() as old:
        backend = old.enter_context(house.rooms.database._engine.connect())  # type: ignore[attr-defined]
        given: list[list[int]] = []

        def cut(self: Appender, connection: Connection, records: Sequence[EncodedRecord]) -> list[int]:
            if given:
                backend.exec_driver_sql("COMMIT")
                return append(self, connection, records)
            backend.exec_driver_sql("BEGIN")
            given.append(append(self, backend, records))
            raise UncertainCommitError("the database did not confirm the change")

        recorder = house.pipelines.recorder
        draft = recorder.draft(house.caller("fraud-detection"), "read")
        encoded = EncodedRecord.of(draft)
        monkeypatch.setattr(Appender, "append", cut)
        if alone:
            positions = recorder.commit_records([encoded])
        else:
            positions = recorder.commit(lambda _: ("done", [encoded])).positions
        assert list(positions) == given[0]
        assert [record["id"] for record in house.records()].count(draft.id) == 1
        assert recorder.problem() == ""
