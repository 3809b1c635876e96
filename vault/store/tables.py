"""The tables of the store (architecture.md, "Growing"): portable between SQLite and PostgreSQL.

Subject-owned tables lead their primary key with (tenant, subject), so that an engine that distributes rows
serves each read from one shard; `subject_lookup` is found, and would be distributed, by its hash, which is
why it has no foreign key. On SQLite the tables are stored in primary-key order (`WITHOUT ROWID`): the rows of
one subject lie together, so a read touches few pages however many subjects there are.

Times are microseconds since 1970, UTC. No column holds a value, key or customer number in clear.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

NAMING: Final = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(referred_table_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}
metadata = MetaData(naming_convention=NAMING)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _counted(name: str) -> Column[int]:
    """A number that older rows do not have: 0 there."""
    return Column(name, BigInteger, nullable=False, server_default="0")


def _bytes(name: str, length: int | None = None) -> Column[bytes]:
    return Column(name, LargeBinary(length), nullable=False)


def _table(name: str, *parts: Any) -> Table:
    return Table(name, metadata, *parts, sqlite_with_rowid=False)


def _of_subject() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant", "subject"], ["subject.tenant", "subject.subject"])


subject = _table(
    "subject",
    _text("tenant"),
    _bytes("subject", 16),
    _text("audit_pseudonym"),
    _text("jurisdictions"),
    _number("restricted_seq"),
    _number("last_seq"),
    _number("created_at"),
    Column("relationship_ended_on", Date, nullable=True),
    # why nothing may be destroyed; '' where there is no hold
    Column("legal_hold", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("tenant", "subject"),
    CheckConstraint("length(subject) = 16", name="subject"),
    CheckConstraint("jurisdictions <> ''", name="jurisdictions"),
)

subject_lookup = _table(
    "subject_lookup",
    _text("tenant"),
    _bytes("mac", 32),
    Column("key_version", Integer, nullable=False),
    _bytes("subject", 16),
    PrimaryKeyConstraint("tenant", "mac"),
    CheckConstraint("length(mac) = 32", name="mac"),
)
Index(None, subject_lookup.c.tenant, subject_lookup.c.subject)

subject_key = _table(
    "subject_key",
    _text("tenant"),
    _bytes("subject", 16),
    _bytes("dek_id", 32),
    _text("key_class"),
    _bytes("wrapped"),
    _number("created_at"),
    # when an erasure left the key because of a ground or a hold; 0 for keys in use
    _counted("retained_since"),
    PrimaryKeyConstraint("tenant", "subject", "dek_id"),
    _of_subject(),
    CheckConstraint("length(dek_id) = 32", name="dek_id"),
)

attribute_value = _table(
    "attribute_value",
    _text("tenant"),
    _bytes("subject", 16),
    _text("attribute"),
    _number("version"),
    Column("type_version", Integer, nullable=False),
    _text("key_class"),
    # NULL once the attribute was cleared: the row stays, so that versions never start again
    Column("ciphertext", LargeBinary, nullable=True),
    _number("written_at"),
    PrimaryKeyConstraint("tenant", "subject", "attribute"),
    _of_subject(),
)

consent_event = _table(
    "consent_event",
    _text("tenant"),
    _bytes("subject", 16),
    _number("seq"),
    _text("id"),
    _text("purpose"),
    _text("state"),
    _text("notice"),
    Column("notice_version", Integer, nullable=False),
    _text("language"),
    _text("notice_sha256"),
    _text("jurisdiction"),
    _text("scope"),
    _text("channel"),
    _text("evidence"),
    _number("valid_from"),
    _number("expires_at"),
    _text("recorded_by"),
    _number("recorded_at"),
    PrimaryKeyConstraint("tenant", "subject", "seq"),
    UniqueConstraint("id"),
    _of_subject(),
)

consent_state = _table(
    "consent_state",
    _text("tenant"),
    _bytes("subject", 16),
    _text("purpose"),
    _text("lane"),
    _number("seq"),
    _text("event_id"),
    _text("state"),
    _text("notice"),
    Column("notice_version", Integer, nullable=False),
    _number("expires_at"),
    _text("categories"),
    PrimaryKeyConstraint("tenant", "subject", "purpose", "lane"),
    _of_subject(),
)

request = _table(
    "request",
    _text("tenant"),
    _text("caller"),
    _text("request_id"),
    _text("record_id"),
    _bytes("fingerprint"),
    _bytes("answer"),
    _number("created_at"),
    PrimaryKeyConstraint("tenant", "caller", "request_id"),
)
Index(None, request.c.created_at)

bundle = Table(
    "bundle",
    metadata,
    _text("hash"),
    _bytes("files"),
    _number("first_served_at"),
    PrimaryKeyConstraint("hash"),
)

# what the schema says of itself: `serves_from` is the oldest release's revision that may serve it
schema_info = Table(
    "schema_info",
    metadata,
    _text("name"),
    _text("value"),
    PrimaryKeyConstraint("name"),
)

tenant_key = _table(
    "tenant_key",
    _text("tenant"),
    _text("use"),
    Column("version", Integer, nullable=False),
    _bytes("wrapped"),
    # when the rotation to a later version was finished; 0 while it serves lookups
    _counted("retired_at"),
    PrimaryKeyConstraint("tenant", "use", "version"),
)

# the sealed record of an erased subject's consents: found by its receipt, and by nothing else
erasure_evidence = _table(
    "erasure_evidence",
    _text("tenant"),
    _bytes("receipt", 16),
    _bytes("dek_id", 32),
    _bytes("wrapped"),
    _bytes("ciphertext"),
    _number("created_at"),
    _number("keep_until"),
    PrimaryKeyConstraint("tenant", "receipt"),
    CheckConstraint("length(receipt) = 16", name="receipt"),
    CheckConstraint("length(dek_id) = 32", name="dek_id"),
)

quota_use = _table(
    "quota_use",
    _text("tenant"),
    _text("caller"),
    _text("purpose"),
    _number("hour"),
    _number("subjects"),
    PrimaryKeyConstraint("tenant", "caller", "purpose", "hour"),
)
