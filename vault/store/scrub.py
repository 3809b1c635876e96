"""Rewriting a SQLite file so that no free page and no frame of its WAL holds what was deleted.

`secure_delete` overwrites what is deleted from a page, and leaves fragments where cells moved before
(keys.md, "Erasure"). VACUUM writes every page anew from live rows; the WAL keeps older pages until it is
truncated, which waits until no reader needs it.

VACUUM copies the live rows to a temporary file first (in SQLITE_TMPDIR, else /var/tmp or /tmp; deleted by
SQLite itself): it takes as much room as the database, and holds nothing that was deleted before.
"""

import sqlite3
import threading
import time
from typing import Final

from vault.domain.errors import StoreUnavailableError

SCRUB_SECONDS: Final = 4.0
"""How long a scrub may take. Changes wait meanwhile and give up after `SLOT_SECONDS`: none may fail by it."""


def scrub(driver: sqlite3.Connection, seconds: float = SCRUB_SECONDS) -> None:
    """Rewrite the file and empty its WAL, within `seconds`. `driver` has no transaction open.

    Raises:
        StoreUnavailableError: a reader did not end, or it takes too long. Nothing is lost by that.
        sqlite3.Error.
    """
    until = time.monotonic() + seconds
    clock = threading.Timer(seconds, driver.interrupt)
    clock.daemon = True
    clock.start()
    try:
        # before the long part, so that a reader that does not end costs no rewriting
        _truncate(driver, until)
        _within(driver, until)
        driver.execute("VACUUM")
        _truncate(driver, until)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise _too_long() from None
        raise
    finally:
        clock.cancel()
        # it must not meet a connection that the caller has closed
        clock.join()


def _truncate(driver: sqlite3.Connection, until: float) -> None:
    _within(driver, until)
    ((busy, _, _),) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if busy:
        raise StoreUnavailableError(
            "the database was not rewritten: a reader kept an older state of it; repeat the request"
        )


def _within(driver: sqlite3.Connection, until: float) -> None:
    """Let the next statement wait for others until the end and no longer."""
    left = until - time.monotonic()
    if left <= 0:
        # an interrupt between two statements is none
        raise _too_long()
    # somewhat less, so that it is told what it waited for and not only that it took too long
    driver.execute(f"PRAGMA busy_timeout = {max(1, int(left * 800))}").fetchall()


def _too_long() -> StoreUnavailableError:
    return StoreUnavailableError(
        "the database was not rewritten: it takes too long while it is in service; stop the service and run"
        " VACUUM and PRAGMA wal_checkpoint(TRUNCATE) on the file"
    )
