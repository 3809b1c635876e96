"""The load of a read on PostgreSQL: all of a group's subjects in one prepared statement, so one snapshot.

The branches of the UNION share columns by type, because PostgreSQL gives a column one type.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import psycopg

_TEXT: Final = """
WITH found AS MATERIALIZED (
  SELECT l.mac, l.subject FROM subject_lookup AS l
   WHERE l.tenant = %(tenant)s AND l.mac = ANY(%(macs)s::bytea[])
){whose}
SELECT 0, u.subject, f.mac, NULL::bytea, u.audit_pseudonym, u.jurisdictions, u.legal_hold, NULL, NULL, NULL,
       u.restricted_seq, u.last_seq, NULL::bigint
  FROM found AS f JOIN subject AS u ON u.tenant = %(tenant)s AND u.subject = f.subject
UNION ALL
SELECT 1, k.subject, k.dek_id, k.wrapped, k.key_class, NULL, NULL, NULL, NULL, NULL,
       k.retained_since, NULL, NULL
  FROM {owners} AS f JOIN subject_key AS k ON k.tenant = %(tenant)s AND k.subject = f.subject
UNION ALL
SELECT 2, v.subject, v.ciphertext, NULL, v.attribute, NULL, NULL, NULL, NULL, NULL,
       v.version, v.type_version, v.written_at
  FROM {owners} AS f JOIN attribute_value AS v ON v.tenant = %(tenant)s AND v.subject = f.subject
       AND v.attribute = ANY(%(attributes)s::text[])
 WHERE v.ciphertext IS NOT NULL
UNION ALL
SELECT 3, c.subject, NULL, NULL, c.purpose, c.lane, c.event_id, c.state, c.categories, c.notice,
       c.seq, c.notice_version, c.expires_at
  FROM {owners} AS f JOIN consent_state AS c ON c.tenant = %(tenant)s AND c.subject = f.subject
"""
_SQL: Final = _TEXT.format(whose="", owners="found")
# while lookup keys rotate two MACs lead to one subject, whose rows are wanted once
_SQL_ROTATING: Final = _TEXT.format(
    whose=",\nwhose(subject) AS MATERIALIZED (SELECT DISTINCT subject FROM found)", owners="whose"
)


def fetch(
    driver: psycopg.Connection[Any],
    tenant: str,
    macs: Sequence[bytes],
    attributes: Collection[str],
    rotating: bool,
) -> list[tuple[Any, ...]]:
    """The rows that `reader.assemble` takes."""
    parameters = {"tenant": tenant, "macs": list(macs), "attributes": sorted(attributes)}
    sql = _SQL_ROTATING if rotating else _SQL
    rows = driver.cursor(binary=True).execute(sql, parameters, prepare=True).fetchall()
    return in_order(rows)


def in_order(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows of a load with their columns where `reader.assemble` takes them."""
    return [_ROW[row[0]](row) for row in rows]


def _subject(row: tuple[Any, ...]) -> tuple[Any, ...]:
    kind, subject, mac, _, pseudonym, jurisdictions, hold, _, _, _, restricted_seq, last_seq, _ = row
    return kind, subject, mac, pseudonym, jurisdictions, restricted_seq, last_seq, hold, None, None, None


def _key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    kind, subject, dek_id, wrapped, key_class, _, _, _, _, _, retained, _, _ = row
    return kind, subject, dek_id, key_class, wrapped, retained, None, None, None, None, None


def _value(row: tuple[Any, ...]) -> tuple[Any, ...]:
    kind, subject, ciphertext, _, attribute, _, _, _, _, _, version, type_version, written_at = row
    return kind, subject, attribute, version, type_version, ciphertext, written_at, None, None, None, None


def _consent(row: tuple[Any, ...]) -> tuple[Any, ...]:
    kind, subject, _, _, purpose, lane, event, state, categories, notice, seq, version, expires = row
    return kind, subject, purpose, lane, seq, event, state, version, expires, categories, notice


_ROW: Final = (_subject, _key, _value, _consent)
