"""The load of a read (architecture.md, step 1): all of a group's subjects in one statement, so one snapshot.

Rows are decoded straight from the driver's tuples: SQLAlchemy's Row costs as much again as the statement.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from vault.domain.errors import DatavaultError, IntegrityError
from vault.domain.types import ConsentEntry, StoredValue, Subject, SubjectSnapshot, WrappedKey
from vault.store import reader_sqlite, sqlite
from vault.store.codec import lane_and_state, name_set, names

Found = SubjectSnapshot | IntegrityError
Row = tuple[Any, ...]
MAC_BYTES: Final = 32
_SUBJECT, _KEY, _VALUE, _CONSENT = 0, 1, 2, 3


class SubjectReader:
    """Loads what reads need. Stateless and thread-safe.

    `sharded`: the tables are distributed (docs/architecture/scale.md), so lookup and load are two statements.
    """

    def __init__(self, *, sharded: bool = False) -> None:
        self._sharded = sharded

    def load(
        self,
        connection: Connection,
        tenant: str,
        macs: Sequence[bytes],
        attributes: Collection[str],
        *,
        rotating: bool = False,
    ) -> dict[bytes, Found]:
        """Snapshots by MAC (32 bytes each); an unknown MAC is left out, a repeated one loaded once.

        With `rotating`, several MACs may lead to one subject. All keys and consents of each subject, and of
        `attributes` those with a value. A subject with a row that is not of the types that were written is
        an IntegrityError of its own. `connection` comes from `Database.read()`, which also turns the driver's
        errors into StoreUnavailableError.

        Raises:
            DatavaultError: a MAC is not 32 bytes long.
        """
        if not macs:
            return {}
        if any(len(mac) != MAC_BYTES for mac in macs):
            raise DatavaultError("a lookup MAC is not 32 bytes long")
        once = list(dict.fromkeys(macs))
        if connection.dialect.name == "postgresql":
            # psycopg is loaded where it is used: opening.py
            from vault.store import postgres, reader_postgres, reader_shards

            driver = postgres.raw(connection)
            if self._sharded:
                rows = reader_shards.fetch(driver, tenant, once, attributes)
            else:
                rows = reader_postgres.fetch(driver, tenant, once, attributes, rotating)
        else:
            rows = reader_sqlite.fetch(sqlite.raw(connection), tenant, once, attributes, rotating)
        return _assemble(rows)


def _assemble(rows: list[Row]) -> dict[bytes, Found]:
    """SQLite stores any type in any column: a row with another one than was written damages its subject."""
    asked: list[tuple[bytes, bytes]] = []
    subjects: dict[bytes, Subject] = {}
    keys: defaultdict[bytes, dict[bytes, WrappedKey]] = defaultdict(dict)
    values: defaultdict[bytes, dict[str, StoredValue]] = defaultdict(dict)
    consents: defaultdict[bytes, list[ConsentEntry]] = defaultdict(list)
    damaged: set[bytes] = set()
    # what calling the class comes to, without its checks of arguments, which take as long again
    made = tuple.__new__
    for kind, subject, a, b, c, d, e, f, g, h, i in rows:
        if kind == _VALUE:
            if type(a) is str and type(b) is type(c) is type(e) is int and type(d) is bytes:
                values[subject][a] = made(StoredValue, (a, b, c, d, e))
                continue
        elif kind == _CONSENT:
            texts = type(a) is type(b) is type(d) is type(e) is type(h) is type(i) is str
            if texts and type(c) is type(f) is type(g) is int:
                lane, state = lane_and_state(b, e)
                entry = made(ConsentEntry, (a, lane, c, d, state, f, g, name_set(h), i))
                consents[subject].append(entry)
                continue
        elif kind == _KEY:
            if type(a) is type(c) is bytes and type(b) is str and type(d) is int:
                keys[subject][a] = made(WrappedKey, (b, a, c, d != 0))
                continue
        else:
            asked.append((a, subject))
            if type(b) is type(c) is type(f) is str and type(d) is type(e) is int:
                subjects[subject] = made(Subject, (subject, b, names(c), d, e, f))
                continue
        damaged.add(subject)
    return {
        mac: IntegrityError("the customer's record is not whole; operators have been told")
        if found in damaged
        else SubjectSnapshot(subjects[found], keys[found], values[found], tuple(consents[found]))
        for mac, found in asked
    }
