"""A process that appends and says what it was told is durable, until it is killed.

    python -m tests.support.audit_crash FOLDER [STATEMENT]

With STATEMENT it kills itself with SIGKILL as the database is about to run that statement (from 0, counted
from the second transaction on); without, it appends until someone kills it.
"""

import os
import signal
import sys
from pathlib import Path

from tests.support.audit import Database, records
from vault.audit.append import Appender

GROUP = 4


def main(folder: Path, kill_at: int | None) -> None:
    database = Database(folder / "audit.db")
    appender = Appender(1)
    append(database, appender)
    if kill_at is not None:
        with database.read() as connection:
            driver = connection.connection.driver_connection
        assert driver is not None
        driver.set_trace_callback(Countdown(kill_at))
    while True:
        append(database, appender)


def append(database: Database, appender: Appender) -> None:
    with database.write() as connection:
        indices = appender.append(connection, records(appender.head(connection), GROUP))
    print(*indices, flush=True)  # noqa: T201 -- the parent reads the acknowledgements


class Countdown:
    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, statement: str) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
