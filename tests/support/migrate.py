"""Homes whose keys move to Transit: made, looked into, and moved until somebody is killed.

    python -m tests.support.migrate TRANSACTION

moves the keys of the home that the environment names, and kills itself with SIGKILL as that transaction (from
0) is about to be committed.
"""

import contextlib
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection

from tests.support.pipelines import House, open_house
from tests.support.service import ORIGIN, POLICIES
from vault.config import Settings, load_settings
from vault.crypto.dev_server import DevTransit
from vault.crypto.envelope import DataKey
from vault.domain.system import SystemRandomness
from vault.domain.types import KeyScope, ValueScope, WrappedKey
from vault.migrating import Moved, migrate_keys
from vault.store.key_rows import EVIDENCE_CLASS
from vault.store.sqlite_database import SqliteDatabase

CUSTOMERS: Final = 12
VALUES: Final = {"email": "ana@mail.example", "given-name": "Ana", "income": "1234.50"}
UNTOUCHED: Final = (
    "subject",
    "subject_lookup",
    "attribute_value",
    "consent_event",
    "consent_state",
)
RECEIPT: Final = bytes(range(16))


def make_home(folder: Path) -> None:
    """A home with local keys and customers, stopped."""
    with open_house(folder) as house:
        for number in range(CUSTOMERS):
            house.write(f"C{number}", VALUES)
        house.record("C0", "email-campaigns", "given")
        leave_evidence(house)
        house.pipelines.integrator.run_once()


def leave_evidence(house: House) -> None:
    """What an erasure leaves: a record sealed under a key of its own."""
    scope = KeyScope("retail", RECEIPT, EVIDENCE_CLASS)
    ((row, key),) = house.pipelines.keyring.create([scope])
    ciphertext = key.seal(ValueScope("retail", RECEIPT, "$evidence", 1, 1), b"{}", SystemRandomness())
    house.sql(
        "INSERT INTO erasure_evidence (tenant, receipt, dek_id, wrapped, ciphertext, created_at, keep_until)"
        " VALUES (?, ?, ?, ?, ?, 1, 2)",
        "retail",
        RECEIPT,
        row.dek_id,
        row.wrapped,
        ciphertext,
    )


def evidence(house: House) -> bytes:
    """It, opened with the keys that the house has now."""
    ((dek_id, wrapped, ciphertext),) = house.sql("SELECT dek_id, wrapped, ciphertext FROM erasure_evidence")
    scope = KeyScope("retail", RECEIPT, EVIDENCE_CLASS)
    (key,) = house.pipelines.keyring.unwrap([(scope, WrappedKey(EVIDENCE_CLASS, dek_id, wrapped))])
    assert isinstance(key, DataKey), key
    return key.open(ValueScope("retail", RECEIPT, "$evidence", 1, 1), ciphertext)


def copy_home(folder: Path, template: Path) -> Path:
    """A copy of a stopped home."""
    shutil.copytree(template / "home", folder / "home")
    return folder


def at(server: DevTransit) -> dict[str, Any]:
    """Settings that reach Transit."""
    return {
        "transit_address": server.address,
        "transit_token_file": server.token_file,
        "transit_cacert": server.ca_certificate,
    }


def settings_of(folder: Path, server: DevTransit, **more: Any) -> Settings:
    known = {"home": folder / "home", "policies": POLICIES, "origin": ORIGIN, **at(server), **more}
    return Settings(**known)


def move(folder: Path, server: DevTransit, *, dry_run: bool = False) -> Moved:
    return migrate_keys(settings_of(folder, server), dry_run=dry_run, progress=lambda what, done, total: None)


@contextlib.contextmanager
def moved_house(folder: Path, server: DevTransit) -> Iterator[House]:
    """The home as a service with DATAVAULT_KEYS=transit has it."""
    with open_house(folder, keys="transit", **at(server)) as house:
        yield house


def rows(folder: Path, *tables: str) -> dict[str, list[Any]]:
    """Everything that stands in these tables (all, by default), in a fixed order."""
    with contextlib.closing(sqlite3.connect(folder / "home/datavault.db")) as connection:
        names = tables or [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    return {name: sorted(values, key=repr) for name, values in found.items()}


def wrapped_by(folder: Path) -> set[bytes]:
    """The providers of all wrapped keys, by the first word of their text."""
    found = rows(folder, "subject_key", "tenant_key", "erasure_evidence")
    parts = [part for values in found.values() for row in values for part in row if isinstance(part, bytes)]
    return {word for part in parts if (word := part.partition(b":")[0]) in (b"local", b"vault")}


class Killed(BaseException):
    """Stands for the process ending: nothing may catch it and go on."""


def kill_at(patch: pytest.MonkeyPatch, transaction: int) -> Callable[[], bool]:
    """End the process as a change is about to be committed, counted from 0 on. What is returned tells whether
    it came to that."""
    hit: list[bool] = []

    def kill() -> None:
        hit.append(True)
        raise Killed

    patch.setattr(SqliteDatabase, "write", _ending(transaction, kill))
    return lambda: bool(hit)


def _ending(transaction: int, end: Callable[[], None]) -> Any:
    write, left = SqliteDatabase.write, [transaction]

    @contextlib.contextmanager
    def counted(self: SqliteDatabase) -> Iterator[Connection]:
        with write(self) as connection:
            yield connection
            if left[0] == 0:
                end()
            left[0] -= 1

    return counted


def main(transaction: int) -> None:
    """See above."""
    SqliteDatabase.write = _ending(  # type: ignore[method-assign]
        transaction, lambda: os.kill(os.getpid(), signal.SIGKILL)
    )
    migrate_keys(load_settings(), dry_run=False, progress=lambda what, done, total: None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
