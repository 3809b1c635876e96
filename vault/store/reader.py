"""The load of a read (architecture.md, step 1): all of a group's subjects in one statement, so one snapshot.

The statement is one constant text whatever the number of subjects and attributes: the MACs go in as one blob
that a recursive CTE cuts up, the attributes as a JSON array. Measured here on 20,000 subjects, microseconds
per subject for 14 rows (1 subject, 4 keys, 5 values, 4 consents), raw `sqlite3`, fetch included:

    subjects                       1      32     256
    blob CTE, JSON attributes    37.3    24.4    26.1     this
    padded IN lists              34.8    24.2    26.7     needs a text per pair of sizes
    keys filtered by class       48.9    36.2    41.0
    tables with rowid            42.5    30.8    31.9     so they have none

Rows are decoded straight from the driver's tuples: SQLAlchemy's Row costs as much again as the statement.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from vault.domain.errors import DatavaultError, IntegrityError
from vault.domain.types import ConsentEntry, StoredValue, Subject, SubjectSnapshot, WrappedKey
from vault.store import sqlite
from vault.store.codec import lane_and_state, name_set, names

Found = SubjectSnapshot | IntegrityError
Row = tuple[Any, ...]
MAC_BYTES: Final = 32
_SUBJECT, _KEY, _VALUE, _CONSENT = 0, 1, 2, 3

# CROSS JOIN keeps SQLite from turning the joins round: few subjects lead, the primary keys follow
_SQL: Final = """
WITH RECURSIVE
asked(place, mac) AS (
  SELECT 0, substr(?2, 1, 32)
  UNION ALL SELECT place + 32, substr(?2, place + 33, 32) FROM asked WHERE place + 32 < length(?2)
),
found(mac, subject) AS MATERIALIZED (
  SELECT l.mac, l.subject FROM asked CROSS JOIN subject_lookup AS l ON l.tenant = ?1 AND l.mac = asked.mac
)
SELECT 0, u.subject, f.mac, u.audit_pseudonym, u.jurisdictions, u.restricted_seq, u.last_seq,
       NULL, NULL, NULL, NULL
  FROM found AS f CROSS JOIN subject AS u ON u.tenant = ?1 AND u.subject = f.subject
UNION ALL
SELECT 1, k.subject, k.dek_id, k.key_class, k.wrapped, NULL, NULL, NULL, NULL, NULL, NULL
  FROM found AS f CROSS JOIN subject_key AS k ON k.tenant = ?1 AND k.subject = f.subject
UNION ALL
SELECT 2, v.subject, v.attribute, v.version, v.type_version, v.ciphertext, v.written_at,
       NULL, NULL, NULL, NULL
  FROM found AS f CROSS JOIN attribute_value AS v ON v.tenant = ?1 AND v.subject = f.subject
       AND v.attribute IN (SELECT value FROM json_each(?3))
 WHERE v.ciphertext IS NOT NULL
UNION ALL
SELECT 3, c.subject, c.purpose, c.lane, c.seq, c.event_id, c.state, c.notice_version, c.expires_at,
       c.categories, c.notice
  FROM found AS f CROSS JOIN consent_state AS c ON c.tenant = ?1 AND c.subject = f.subject
"""


class SubjectReader:
    """Loads what reads need. Stateless and thread-safe."""

    def load(
        self, connection: Connection, tenant: str, macs: Sequence[bytes], attributes: Collection[str]
    ) -> dict[bytes, Found]:
        """Snapshots by MAC (32 bytes each); an unknown MAC is left out, a repeated one loaded once.

        All keys and consents of each subject, and of `attributes` those with a value. A subject with a row
        that is not of the types that were written is an IntegrityError of its own. `connection` comes from
        `Database.read()`, which also turns the driver's errors into StoreUnavailableError.

        Raises:
            DatavaultError: a MAC is not 32 bytes long.
        """
        if not macs:
            return {}
        blob = b"".join(dict.fromkeys(macs))
        if any(len(mac) != MAC_BYTES for mac in macs):
            raise DatavaultError("a lookup MAC is not 32 bytes long")
        parameters = (tenant, blob, _json_array(tuple(sorted(attributes))))
        return _assemble(_fetch(sqlite.raw(connection), parameters))


def _fetch(driver: sqlite3.Connection, parameters: tuple[object, ...]) -> list[Row]:
    try:
        return driver.execute(_SQL, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) is not None:
            raise
    # not SQLite but the driver's decoder failed: one text is not UTF-8, and only its subject may suffer
    driver.text_factory = _text_or_bytes
    try:
        return driver.execute(_SQL, parameters).fetchall()
    finally:
        driver.text_factory = str


def _text_or_bytes(stored: bytes) -> str | bytes:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


@lru_cache(maxsize=1_024)
def _json_array(attributes: tuple[str, ...]) -> str:
    return orjson.dumps(attributes).decode()


def _assemble(rows: list[Row]) -> dict[bytes, Found]:
    """SQLite stores any type in any column: a row with another one than was written damages its subject."""
    asked: list[tuple[bytes, bytes]] = []
    subjects: dict[bytes, Subject] = {}
    keys: defaultdict[bytes, dict[bytes, WrappedKey]] = defaultdict(dict)
    values: defaultdict[bytes, dict[str, StoredValue]] = defaultdict(dict)
    consents: defaultdict[bytes, list[ConsentEntry]] = defaultdict(list)
    damaged: set[bytes] = set()
    for kind, subject, a, b, c, d, e, f, g, h, i in rows:
        if kind == _VALUE:
            if type(a) is str and type(b) is type(c) is type(e) is int and type(d) is bytes:
                values[subject][a] = StoredValue(a, b, c, d, e)
                continue
        elif kind == _CONSENT:
            texts = type(a) is type(b) is type(d) is type(e) is type(h) is type(i) is str
            if texts and type(c) is type(f) is type(g) is int:
                lane, state = lane_and_state(b, e)
                consents[subject].append(ConsentEntry(a, lane, c, d, state, f, g, name_set(h), i))
                continue
        elif kind == _KEY:
            if type(a) is type(c) is bytes and type(b) is str:
                keys[subject][a] = WrappedKey(b, a, c)
                continue
        else:
            asked.append((a, subject))
            if type(b) is type(c) is str and type(d) is type(e) is int:
                subjects[subject] = Subject(subject, b, names(c), d, e)
                continue
        damaged.add(subject)
    return {
        mac: IntegrityError("the customer's record is not whole; operators have been told")
        if found in damaged
        else SubjectSnapshot(subjects[found], keys[found], values[found], tuple(consents[found]))
        for mac, found in asked
    }
