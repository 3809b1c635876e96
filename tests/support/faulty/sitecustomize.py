"""Faults that no real machine shows on command, inside a real service process.

Python imports this at start, before anything else, where the folder is on PYTHONPATH (faults.faulty_service).

    DATAVAULT_TEST_HANG     while this file exists, COMMIT of a change hangs, as fsync does on a hung disk
    DATAVAULT_TEST_LIMITS   JSON: limits in place of the published ones, so that they can be reached in a test
"""

import json
import os
import sqlite3
import time

from vault.domain import limits

_HANG = os.environ["DATAVAULT_TEST_HANG"]


class _HangingConnection(sqlite3.Connection):
    def commit(self) -> None:
        while os.path.exists(_HANG):
            time.sleep(0.005)
        super().commit()


# the default of vault.store.database.Database, which is not imported yet
sqlite3.Connection = _HangingConnection  # type: ignore[misc]
limits.LIMITS = limits.Limits(**json.loads(os.environ["DATAVAULT_TEST_LIMITS"]))
