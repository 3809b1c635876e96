"""Records appended durably in groups, against the plain way: one INSERT and one COMMIT per record.

Both put the same bytes into a database of the same kind and settings, and both wait for the disk:
`synchronous=FULL` on SQLite, `fsync` and `synchronous_commit` on PostgreSQL, where the plain way is a
prepared INSERT in autocommit mode. The product's append gives each record its place in the log and its leaf
hash besides (vault/audit/append.py). A group of 16 is what 32 clients make; one of 256, the largest that the
worker takes, is beside it.
"""

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from bench.figures import Figure, figure
from tests.support.audit import make_record
from tests.support.postgres import PostgresServer
from vault.assembly import Use, log_signers, open_logs, open_rooms
from vault.audit.append import Appender, EncodedRecord
from vault.config import load_settings
from vault.domain.protocols import Transactions

GROUPS: Final = (16, 256)
GOALS: Final = {16: 10}
_TABLE: Final = "CREATE TABLE plain (id {serial} PRIMARY KEY, entry {bytes} NOT NULL)"

Say = Callable[[str], None]
Put = Callable[[Sequence[EncodedRecord]], None]
Make = Callable[[int], list[EncodedRecord]]


@dataclass(frozen=True, slots=True)
class Ways:
    """What is compared on one database: the product's transactions and log, and a plain insert."""

    transactions: Transactions
    log: int
    insert: Put

    def append(self, records: Sequence[EncodedRecord]) -> None:
        """As the recorder does it for reads (vault/recording.py)."""
        with self.transactions.write_once() as connection:
            Appender(self.log).append(connection, records)


def sqlite_appends(folder: Path, seconds: float, rounds: int, say: Say) -> list[Figure]:
    """`audit-append-sqlite-16` and `-256`."""
    connected = sqlite3.connect(folder / "plain.db", isolation_level=None)
    with contextlib.closing(connected) as plain, _log(folder / "home") as (transactions, log):
        plain.execute("PRAGMA journal_mode = WAL")
        plain.execute("PRAGMA synchronous = FULL")
        plain.execute(_TABLE.format(serial="INTEGER", bytes="BLOB"))

        def insert(records: Sequence[EncodedRecord]) -> None:
            plain.execute("BEGIN IMMEDIATE")
            plain.execute("INSERT INTO plain (entry) VALUES (?)", (records[0].entry,))
            plain.execute("COMMIT")

        return _measure("sqlite", Ways(transactions, log, insert), seconds, rounds, say)


def postgres_appends(
    folder: Path, server: PostgresServer, seconds: float, rounds: int, say: Say
) -> list[Figure]:
    """`audit-append-postgres-16` and `-256`."""
    url = server.create()
    with _log(folder / "home", url) as (transactions, log), psycopg.connect(url, autocommit=True) as plain:
        plain.execute(_TABLE.format(serial="bigserial", bytes="bytea"))

        def insert(records: Sequence[EncodedRecord]) -> None:
            plain.execute("INSERT INTO plain (entry) VALUES (%s)", (records[0].entry,), prepare=True)

        return _measure("postgres", Ways(transactions, log, insert), seconds, rounds, say)


@contextlib.contextmanager
def _log(home: Path, url: str = "") -> Iterator[tuple[Transactions, int]]:
    with open_rooms(load_settings(home=home, database_url=url), Use.SERVE) as rooms:
        places = open_logs(rooms, log_signers(rooms)).every
        yield rooms.database, places[0].log


def _measure(store: str, ways: Ways, seconds: float, rounds: int, say: Say) -> list[Figure]:
    """Each way for `seconds` in each round."""
    made = _records()
    plain: list[float] = []
    grouped: dict[int, list[float]] = {size: [] for size in GROUPS}
    for number in range(rounds):
        say(f"{store}, round {number + 1} of {rounds}")
        plain.append(_per_second(ways.insert, 1, made, seconds))
        for size, found in grouped.items():
            found.append(_per_second(ways.append, size, made, seconds))
    return [
        figure(f"audit-append-{store}-{size}", "records/s", found, plain, GOALS.get(size))
        for size, found in grouped.items()
    ]


def _records() -> Make:
    """Gives the next so many records, each once."""
    numbers = itertools.count()
    return lambda count: [EncodedRecord.of(make_record(next(numbers))) for _ in range(count)]


def _per_second(put: Put, size: int, made: Make, seconds: float) -> float:
    """Records a second when so many are put at a time; making them is not counted."""
    done, spent = 0, 0.0
    while spent < seconds:
        records = made(size)
        began = time.perf_counter()
        put(records)
        spent += time.perf_counter() - began
        done += size
    return done / spent
