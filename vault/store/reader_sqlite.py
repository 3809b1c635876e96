"""The load of a read on SQLite: all of a group's subjects in one statement, so one snapshot.

The statement is one constant text whatever the number of subjects and attributes: the MACs go in as one blob
that a recursive CTE cuts up, the attributes as a JSON array. Measured here on 20,000 subjects, microseconds
per subject for 14 rows (1 subject, 4 keys, 5 values, 4 consents), raw `sqlite3`, fetch included:

    subjects                       1      32     256
    blob CTE, JSON attributes    37.3    24.4    26.1     this
    padded IN lists              34.8    24.2    26.7     needs a text per pair of sizes
    keys filtered by class       48.9    36.2    41.0
    tables with rowid            42.5    30.8    31.9     so they have none
"""

import sqlite3
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

# CROSS JOIN keeps SQLite from turning the joins round: few subjects lead, the primary keys follow
_TEXT: Final = """
WITH RECURSIVE
asked(place, mac) AS (
  SELECT 0, substr(?2, 1, 32)
  UNION ALL SELECT place + 32, substr(?2, place + 33, 32) FROM asked WHERE place + 32 < length(?2)
),
found(mac, subject) AS MATERIALIZED (
  SELECT l.mac, l.subject FROM asked CROSS JOIN subject_lookup AS l ON l.tenant = ?1 AND l.mac = asked.mac
){whose}
SELECT 0, u.subject, f.mac, u.audit_pseudonym, u.jurisdictions, u.restricted_seq, u.last_seq,
       u.legal_hold, NULL, NULL, NULL
  FROM found AS f CROSS JOIN subject AS u ON u.tenant = ?1 AND u.subject = f.subject
UNION ALL
SELECT 1, k.subject, k.dek_id, k.key_class, k.wrapped, k.retained_since, NULL, NULL, NULL, NULL, NULL
  FROM {owners} AS f CROSS JOIN subject_key AS k ON k.tenant = ?1 AND k.subject = f.subject
UNION ALL
SELECT 2, v.subject, v.attribute, v.version, v.type_version, v.ciphertext, v.written_at,
       NULL, NULL, NULL, NULL
  FROM {owners} AS f CROSS JOIN attribute_value AS v ON v.tenant = ?1 AND v.subject = f.subject
       AND v.attribute IN (SELECT value FROM json_each(?3))
 WHERE v.ciphertext IS NOT NULL
UNION ALL
SELECT 3, c.subject, c.purpose, c.lane, c.seq, c.event_id, c.state, c.notice_version, c.expires_at,
       c.categories, c.notice
  FROM {owners} AS f CROSS JOIN consent_state AS c ON c.tenant = ?1 AND c.subject = f.subject
"""
_SQL: Final = _TEXT.format(whose="", owners="found")
# while lookup keys rotate two MACs lead to one subject, whose rows are wanted once; that costs a read 2 us
_SQL_ROTATING: Final = _TEXT.format(
    whose=",\nwhose(subject) AS MATERIALIZED (SELECT DISTINCT subject FROM found)", owners="whose"
)


def fetch(
    driver: sqlite3.Connection,
    tenant: str,
    macs: Sequence[bytes],
    attributes: Collection[str],
    rotating: bool,
) -> list[tuple[Any, ...]]:
    """The rows that `reader.assemble` takes."""
    parameters = (tenant, b"".join(macs), _json_array(tuple(sorted(attributes))))
    sql = _SQL_ROTATING if rotating else _SQL
    try:
        return driver.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) is not None:
            raise
    # not SQLite but the driver's decoder failed: one text is not UTF-8, and only its subject may suffer
    driver.text_factory = _text_or_bytes
    try:
        return driver.execute(sql, parameters).fetchall()
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
