"""The tables of the audit log (audit.md). They lead with a `log` id: each origin is a log of its own."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

ACTIVE: Final = "active"
"""The log that takes records and is served."""
ADOPTING: Final = "adopting"
"""Takes records, and nothing is served from it yet: what a restore lost is being applied again."""
CLOSED: Final = "closed"
"""Never appended to again."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_LOG_ID: Final = "log.log"


def _log_column() -> Column[int]:
    return Column("log", Integer, ForeignKey(_LOG_ID), primary_key=True, autoincrement=False)


log = Table(
    "log",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("origin", Text, nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("integrated", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    CheckConstraint("size >= 0 AND integrated >= 0", name="sizes"),
    CheckConstraint(f"state IN ('{ACTIVE}', '{ADOPTING}', '{CLOSED}')", name="state"),
)
"""The head row. `size` counts appended records, `integrated` those whose hashes stand in `log_tile`."""

log_key = Table(
    "log_key",
    metadata,
    _log_column(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("provider", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("announced", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""The keys that sign the log's checkpoints, from number 1: the key provider's name and the version there, and
the index of the record that announced it (-1 for the first). The highest number signs."""

log_entry = Table(
    "log_entry",
    metadata,
    _log_column(),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("record_id", Text, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Index("uq_log_entry_log_record_id", "log", "record_id", unique=True),
)
"""One row per record: its exact bytes and SHA-256(00 | entry). Never updated, never deleted."""

log_tile = Table(
    "log_tile",
    metadata,
    _log_column(),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)
"""A hash tile, 32 bytes per hash, at most 256. A narrower partial tile is a prefix of the wider one, so one
growing row serves every width that a checkpoint was signed for."""

log_checkpoint = Table(
    "log_checkpoint",
    metadata,
    _log_column(),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("signed_at", BigInteger, nullable=False),
)
"""Signed checkpoints as they went out. `signed_at` in microseconds since 1970 UTC."""

audit_index = Table(
    "audit_index",
    metadata,
    _log_column(),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Index(None, "log", "tenant", "subject", "index"),
    Index(None, "log", "tenant", "caller", "index"),
    Index(None, "log", "tenant", "time"),
)
"""What queries filter by, copied from the entries by the integrator ('' where the record leaves it out)."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("log", Integer, ForeignKey(_LOG_ID), nullable=False),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("delivered_at", BigInteger),
)
"""What still has to reach the outside store. Times in microseconds since 1970 UTC."""

_UNDELIVERED: Final = outbox.c.delivered_at.is_(None)
Index(
    "ix_outbox_undelivered",
    outbox.c.log,
    outbox.c.id,
    sqlite_where=_UNDELIVERED,
    postgresql_where=_UNDELIVERED,
)
