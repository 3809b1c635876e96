"""The load of a read on PostgreSQL whose tables are distributed over shards (docs/architecture/scale.md).

Two statements: the lookup, which goes to the shard of the MAC, and the load, which names (tenant, subject) in
every branch and so goes to the shard of the subject. Each is a snapshot by itself, and that is enough: a MAC
leads to one subject for ever, and everything else that decides is in the second.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import psycopg

from vault.store.reader_postgres import in_order

_Row = tuple[Any, ...]
_LOOKUP: Final = """
SELECT l.mac, l.subject FROM subject_lookup AS l
 WHERE l.tenant = %(tenant)s AND l.mac = ANY(%(macs)s::bytea[])
"""
_LOAD: Final = """
SELECT 0, u.subject, NULL::bytea, NULL::bytea, u.audit_pseudonym, u.jurisdictions, u.legal_hold, NULL, NULL,
       NULL, u.restricted_seq, u.last_seq, NULL::bigint
  FROM subject AS u
 WHERE u.tenant = %(tenant)s AND u.subject = ANY(%(subjects)s::bytea[])
UNION ALL
SELECT 1, k.subject, k.dek_id, k.wrapped, k.key_class, NULL, NULL, NULL, NULL,
       NULL, k.retained_since, NULL, NULL
  FROM subject_key AS k
 WHERE k.tenant = %(tenant)s AND k.subject = ANY(%(subjects)s::bytea[])
UNION ALL
SELECT 2, v.subject, v.ciphertext, NULL, v.attribute, NULL, NULL, NULL, NULL,
       NULL, v.version, v.type_version, v.written_at
  FROM attribute_value AS v
 WHERE v.tenant = %(tenant)s AND v.subject = ANY(%(subjects)s::bytea[])
   AND v.attribute = ANY(%(attributes)s::text[]) AND v.ciphertext IS NOT NULL
UNION ALL
SELECT 3, c.subject, NULL, NULL, c.purpose, c.lane, c.event_id, c.state, c.categories,
       c.notice, c.seq, c.notice_version, c.expires_at
  FROM consent_state AS c
 WHERE c.tenant = %(tenant)s AND c.subject = ANY(%(subjects)s::bytea[])
"""


def fetch(
    driver: psycopg.Connection[Any], tenant: str, macs: Sequence[bytes], attributes: Collection[str]
) -> list[tuple[Any, ...]]:
    """Rows as those of the joined statement of `reader_postgres`: one of the subject for each of its MACs."""
    lookup = driver.cursor(binary=True).execute(_LOOKUP, {"tenant": tenant, "macs": list(macs)}, prepare=True)
    asked: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for mac, subject in lookup.fetchall():
        asked[subject].append(mac)
    if not asked:
        return []
    parameters = {"tenant": tenant, "subjects": list(asked), "attributes": sorted(attributes)}
    rows = driver.cursor(binary=True).execute(_LOAD, parameters, prepare=True).fetchall()
    return in_order(_per_mac(rows, asked))


def _per_mac(rows: Iterable[tuple[Any, ...]], asked: Mapping[bytes, list[bytes]]) -> Iterator[_Row]:
    for row in rows:
        kind, subject, *rest = row
        if kind != 0:
            yield row
            continue
        for mac in asked[subject]:
            yield kind, subject, mac, *rest[1:]
