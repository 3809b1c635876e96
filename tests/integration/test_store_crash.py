"""kill -9 in the middle of changes: all of a change is there, or nothing of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.store import TENANT, count, database_at, database_url, subject_of
from vault.store import schema
from vault.store.sqlite_database import SqliteDatabase
from vault.store.subjects import SubjectRepository

PER_CHANGE = 50
CHANGES = 5

WRITER = """
import sys
from tests.support.store import add_subjects, subject_of, value_of, TENANT
from vault.store.sqlite_database import SqliteDatabase
from vault.store.subjects import SubjectRepository

database = SqliteDatabase(sys.argv[1])
database.lock_exclusively()
number = 0
while True:
    with database.write() as connection:
        chunk = range(number * 50, number * 50 + 50)
        add_subjects(connection, *chunk)
        print("begun", number, flush=True)
        rows = [value_of(subject_of(one).id, "email", ciphertext=bytes(2_000)) for one in chunk]
        SubjectRepository().put_values(connection, TENANT, rows)
    print("committed", number, flush=True)
    number += 1
"""


def killed_writer(path: Path, at: str) -> None:
    """Run a writer, kill it once it printed the line `at`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, database_url(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == at:
                break
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("at", [f"begun {CHANGES}", f"committed {CHANGES - 1}"])
def test_kill_9_leaves_whole_changes_only(tmp_path: Path, at: str) -> None:
    """Every acknowledged change is there, no change is there in part, and the file is sound."""
    path = tmp_path / "vault.db"
    with database_at(path):
        pass
    killed_writer(path, at)
    database = SqliteDatabase(database_url(path))
    # the lock of the killed server died with it
    database.lock_exclusively()
    schema.require_current(database)
    with database.read() as connection:
        subjects, values = count(connection, "subject"), count(connection, "attribute_value")
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        last = subject_of(CHANGES * PER_CHANGE - 1).id
        assert SubjectRepository().versions(connection, TENANT, [last])
    assert subjects == values
    assert subjects % PER_CHANGE == 0
    assert subjects >= CHANGES * PER_CHANGE
    database.close()
