"""Append: gives records their places in the log, in the transaction of the caller (audit.md, "Durable
before release")."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

from sqlalchemy import Connection

from vault.audit.merkle import leaf_hash
from vault.audit.record import Record, encode
from vault.audit.sql import POSTGRESQL, driver_errors, execute, execute_many, fetch
from vault.domain.errors import AuditUnavailableError

_TAKE_HEAD: Final = "UPDATE log SET size = size + ? WHERE log = ? AND state <> 'closed' RETURNING size"
_INSERT: Final = 'INSERT INTO log_entry (log, "index", record_id, entry, leaf_hash) VALUES (?, ?, ?, ?, ?)'
# One statement instead of three: the head row is locked for two round trips less (audit.md).
_APPEND_POSTGRESQL: Final = """
WITH head AS (
  UPDATE log SET size = size + %(count)s WHERE log = %(log)s AND state <> 'closed'
  RETURNING size - %(count)s AS first
), added AS (
  INSERT INTO log_entry (log, "index", record_id, entry, leaf_hash)
  SELECT %(log)s, head.first + item.place - 1, item.record_id, item.entry, item.leaf_hash
  FROM head, unnest(%(ids)s::text[], %(entries)s::bytea[], %(leaves)s::bytea[])
    WITH ORDINALITY AS item (record_id, entry, leaf_hash, place)
  RETURNING "index"
) SELECT min("index"), count(*) FROM added
"""
_REOPEN: Final = "UPDATE log SET state = 'active' WHERE log = ? AND state = 'closed'"
_CLOSE: Final = "UPDATE log SET state = 'closed' WHERE log = ?"
_TOUCH: Final = "UPDATE log SET size = size WHERE log = ? AND state <> 'closed'"
_SHIFT: Final = "UPDATE log SET size = size + ? WHERE log = ? AND state <> 'closed'"
_HEAD: Final = "SELECT size FROM log WHERE log = ?"
_FIND: Final = 'SELECT record_id, "index" FROM log_entry WHERE log = ? AND record_id IN ({marks})'
_FIND_IDS_PER_STATEMENT: Final = 500


class EncodedRecord(NamedTuple):
    """A record's id (UUIDv7), its exact bytes (`record.encode`), and the tenant, which decides on its log."""

    id: str
    entry: bytes
    tenant: str

    @classmethod
    def of(cls, record: Record) -> Self:
        """
        Raises:
            RecordTooLargeError: as `record.encode`.
        """
        return cls(record.id, encode(record), record.tenant)


@contextmanager
def reopened(connection: Connection, log: int) -> Iterator[None]:
    """Let a closed log take records in this transaction, and close it again.

    Raises:
        AuditUnavailableError: the database refused.
    """
    with driver_errors(connection):
        closed = execute(connection, _REOPEN, (log,))
    yield
    if closed:
        with driver_errors(connection):
            execute(connection, _CLOSE, (log,))


class Appender:
    """Appends to one log. Stateless: every thread and replica may have its own."""

    def __init__(self, log: int) -> None:
        self.log: Final = log

    def append(self, connection: Connection, records: Sequence[EncodedRecord]) -> list[int]:
        """Give `records` the next indices, in order, and insert them.

        The head row is the last lock of a transaction: call this after every other change, then commit. The
        records are durable when that commit has succeeded, not before.

        Returns:
            0-based indices without gaps, one per record.

        Raises:
            AuditUnavailableError: the database refused, or the log is closed. Roll the transaction back.
        """
        if not records:
            return []
        with driver_errors(connection):
            if connection.dialect.name == POSTGRESQL:
                first = self._append_postgresql(connection, records)
            else:
                first = self._append_sqlite(connection, records)
        return list(range(first, first + len(records)))

    def find(self, connection: Connection, record_ids: Sequence[str]) -> dict[str, int]:
        """The indices of those of `record_ids` that are in the log: what to ask after an uncertain COMMIT.

        Raises:
            AuditUnavailableError: the database did not answer.
        """
        found: dict[str, int] = {}
        with driver_errors(connection):
            for start in range(0, len(record_ids), _FIND_IDS_PER_STATEMENT):
                ids = record_ids[start : start + _FIND_IDS_PER_STATEMENT]
                sql = _FIND.format(marks=", ".join("?" * len(ids)))
                found.update(fetch(connection, sql, (self.log, *ids)))
        return found

    def head(self, connection: Connection) -> int:
        """How many records the log holds: the index the next one will get.

        Raises:
            AuditUnavailableError: the database did not answer, or there is no such log.
        """
        with driver_errors(connection):
            rows = fetch(connection, _HEAD, (self.log,))
        if not rows:
            raise AuditUnavailableError("the audit log is not open")
        return int(rows[0][0])

    def touch(self, connection: Connection) -> None:
        """Lock the head row for this transaction.

        Raises:
            AuditUnavailableError: the database refused, or the log is closed.
        """
        with driver_errors(connection):
            if execute(connection, _TOUCH, (self.log,)) != 1:
                raise AuditUnavailableError("the audit log is closed")

    def probe(self, connection: Connection) -> None:
        """Write the head row and put it back: whether a record could be made durable now, for health.

        A row that stays as it is costs SQLite no write at all, so `touch` succeeds on a full disk.

        Raises:
            AuditUnavailableError: the database refused, or the log is closed.
        """
        with driver_errors(connection):
            for step in (1, -1):
                if execute(connection, _SHIFT, (step, self.log)) != 1:
                    raise AuditUnavailableError("the audit log is closed")

    def _append_sqlite(self, connection: Connection, records: Sequence[EncodedRecord]) -> int:
        head = fetch(connection, _TAKE_HEAD, (len(records), self.log))
        if not head:
            raise AuditUnavailableError("the audit log is closed")
        first: int = head[0][0] - len(records)
        log = self.log
        execute_many(
            connection,
            _INSERT,
            [
                (log, index, record.id, record.entry, leaf_hash(record.entry))
                for index, record in enumerate(records, first)
            ],
        )
        return first

    def _append_postgresql(self, connection: Connection, records: Sequence[EncodedRecord]) -> int:
        parameters = {
            "log": self.log,
            "count": len(records),
            "ids": [record.id for record in records],
            "entries": [record.entry for record in records],
            "leaves": [leaf_hash(record.entry) for record in records],
        }
        ((first, count),) = fetch(connection, _APPEND_POSTGRESQL, parameters, prepare=True)
        if count != len(records):
            raise AuditUnavailableError("the audit log is closed")
        return int(first)
