"""The WAL is emptied beside the changes of a server, and by them where that fails."""

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.support.faults import eventually
from tests.support.store import database_at
from vault.store.checkpointer import Checkpointer
from vault.store.sqlite_database import SqliteDatabase

COMMITS = 150


def change(database: SqliteDatabase, times: int) -> None:
    for number in range(times):
        with database.write() as connection:
            connection.exec_driver_sql(f"PRAGMA user_version = {number}")


def stored_without_wal(path: Path) -> int:
    """What the database file alone says."""
    copy = path.with_name("copy.db")
    shutil.copyfile(path, copy)
    connection = sqlite3.connect(copy)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_a_server_moves_what_was_committed_into_the_file(tmp_path: Path) -> None:
    """After so many commits a thread has done it, and no COMMIT."""
    path = tmp_path / "vault.db"
    with database_at(path) as database:
        database.join()
        change(database, COMMITS)
        eventually(lambda: stored_without_wal(path) == COMMITS - 1, "the last change is in the file")


def test_a_command_has_no_such_thread(tmp_path: Path) -> None:
    """What lasts a moment leaves the WAL to its last connection, which empties it."""
    before = threading.active_count()
    with database_at(tmp_path / "vault.db") as database:
        change(database, COMMITS)
        assert threading.active_count() == before


def test_changes_go_on_where_it_fails(tmp_path: Path) -> None:
    """They copy the pages themselves when the WAL is long; the failure is said and repeated later."""
    opened = threading.Semaphore(0)

    def broken() -> sqlite3.Connection:
        opened.release()
        raise sqlite3.OperationalError("disk I/O error")

    made = Checkpointer(broken)
    made.start()
    for _ in range(2):
        for _ in range(COMMITS):
            made.committed()
        assert opened.acquire(timeout=30)
    made.stop(30)
    assert made.checkpoints == 0


@pytest.mark.parametrize("commits", [0, COMMITS])
def test_closing_ends_the_thread(tmp_path: Path, commits: int) -> None:
    """Whatever it was doing."""
    before = threading.active_count()
    with database_at(tmp_path / "vault.db") as database:
        database.join()
        change(database, commits)
    assert threading.active_count() == before
