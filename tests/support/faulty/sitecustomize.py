"""What tests change inside a real service process, among it faults that no real machine shows on command.

Python imports this at start, before anything else, where the folder is on PYTHONPATH (service.py).

    DATAVAULT_TEST_HANG     while this file exists, COMMIT of a change hangs, as fsync does on a hung disk
    DATAVAULT_TEST_LIMITS   JSON: limits in place of the published ones, so that they can be reached in a test

The engines are compared for a moment only: a start spends two seconds on it, and tests of its own see to it.
"""

import json
import os
import sqlite3
import time

from vault.domain import limits

_HANG = os.environ.get("DATAVAULT_TEST_HANG")
_LIMITS = {"policy_compare_seconds": 0.05} | json.loads(os.environ.get("DATAVAULT_TEST_LIMITS", "{}"))


class _HangingConnection(sqlite3.Connection):
    def commit(self) -> None:
        while _HANG and os.path.exists(_HANG):
            time.sleep(0.005)
        super().commit()


if _HANG:
    # the default of vault.store.sqlite_database.SqliteDatabase, which is not imported yet
    sqlite3.Connection = _HangingConnection  # type: ignore[misc]
limits.LIMITS = limits.Limits(**_LIMITS)
