"""The first tables: subjects, keys, values, consent, requests, bundles, quotas; the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _subjects()
    _consent()
    _others()
    _log()
    _log_copies()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _bytes(name: str, length: int | None = None) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(length), nullable=False)


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _of_subject(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant", "subject"], ["subject.tenant", "subject.subject"], name=f"fk_{table}_subject"
    )


def _of_log(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["log"], ["log.log"], name=f"fk_{table}_log")


def _check(name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(name))


def _subjects() -> None:
    op.create_table(
        "subject",
        _text("tenant"),
        _bytes("subject", 16),
        _text("audit_pseudonym"),
        _text("jurisdictions"),
        _number("restricted_seq"),
        _number("last_seq"),
        _number("created_at"),
        sa.Column("relationship_ended_on", sa.Date, nullable=True),
        _key("subject", "tenant", "subject"),
        _check("ck_subject_subject", "length(subject) = 16"),
        _check("ck_subject_jurisdictions", "jurisdictions <> ''"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "subject_lookup",
        _text("tenant"),
        _bytes("mac", 32),
        _small("key_version"),
        _bytes("subject", 16),
        _key("subject_lookup", "tenant", "mac"),
        _check("ck_subject_lookup_mac", "length(mac) = 32"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_subject_lookup_tenant_subject", "subject_lookup", ["tenant", "subject"])
    op.create_table(
        "subject_key",
        _text("tenant"),
        _bytes("subject", 16),
        _bytes("dek_id", 32),
        _text("key_class"),
        _bytes("wrapped"),
        _number("created_at"),
        _key("subject_key", "tenant", "subject", "dek_id"),
        _of_subject("subject_key"),
        _check("ck_subject_key_dek_id", "length(dek_id) = 32"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attribute_value",
        _text("tenant"),
        _bytes("subject", 16),
        _text("attribute"),
        _number("version"),
        _small("type_version"),
        _text("key_class"),
        sa.Column("ciphertext", sa.LargeBinary, nullable=True),
        _number("written_at"),
        _key("attribute_value", "tenant", "subject", "attribute"),
        _of_subject("attribute_value"),
        sqlite_with_rowid=False,
    )


def _consent() -> None:
    op.create_table(
        "consent_event",
        _text("tenant"),
        _bytes("subject", 16),
        _number("seq"),
        _text("id"),
        _text("purpose"),
        _text("state"),
        _text("notice"),
        _small("notice_version"),
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
        _key("consent_event", "tenant", "subject", "seq"),
        sa.UniqueConstraint("id", name="uq_consent_event_id"),
        _of_subject("consent_event"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "consent_state",
        _text("tenant"),
        _bytes("subject", 16),
        _text("purpose"),
        _text("lane"),
        _number("seq"),
        _text("event_id"),
        _text("state"),
        _text("notice"),
        _small("notice_version"),
        _number("expires_at"),
        _text("categories"),
        _key("consent_state", "tenant", "subject", "purpose", "lane"),
        _of_subject("consent_state"),
        sqlite_with_rowid=False,
    )


def _others() -> None:
    op.create_table(
        "request",
        _text("tenant"),
        _text("caller"),
        _text("request_id"),
        _text("record_id"),
        _bytes("fingerprint"),
        _bytes("answer"),
        _number("created_at"),
        _key("request", "tenant", "caller", "request_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_request_created_at", "request", ["created_at"])
    op.create_table(
        "bundle",
        _text("hash"),
        _bytes("files"),
        _number("first_served_at"),
        _key("bundle", "hash"),
    )
    op.create_table(
        "tenant_key",
        _text("tenant"),
        _text("use"),
        _small("version"),
        _bytes("wrapped"),
        _key("tenant_key", "tenant", "use", "version"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quota_use",
        _text("tenant"),
        _text("caller"),
        _text("purpose"),
        _number("hour"),
        _number("subjects"),
        _key("quota_use", "tenant", "caller", "purpose", "hour"),
        sqlite_with_rowid=False,
    )


def _log() -> None:
    op.create_table(
        "log",
        sa.Column("log", sa.Integer, nullable=False, autoincrement=False),
        _text("origin"),
        _number("size"),
        _number("integrated"),
        _text("state"),
        _key("log", "log"),
        _check("ck_log_sizes", "size >= 0 AND integrated >= 0"),
        _check("ck_log_state", "state IN ('active', 'adopting', 'closed')"),
        sa.UniqueConstraint("origin", name="uq_log_origin"),
    )
    op.create_table(
        "log_entry",
        sa.Column("log", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("index", sa.BigInteger, nullable=False, autoincrement=False),
        _text("record_id"),
        _bytes("entry"),
        _bytes("leaf_hash"),
        _key("log_entry", "log", "index"),
        _of_log("log_entry"),
    )
    op.create_index("uq_log_entry_log_record_id", "log_entry", ["log", "record_id"], unique=True)
    op.create_table(
        "log_tile",
        sa.Column("log", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("level", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("index", sa.BigInteger, nullable=False, autoincrement=False),
        _bytes("hashes"),
        _key("log_tile", "log", "level", "index"),
        _of_log("log_tile"),
    )
    op.create_table(
        "log_checkpoint",
        sa.Column("log", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False, autoincrement=False),
        _bytes("root"),
        _text("note"),
        _number("signed_at"),
        _key("log_checkpoint", "log", "size"),
        _of_log("log_checkpoint"),
    )


def _log_copies() -> None:
    op.create_table(
        "audit_index",
        sa.Column("log", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("index", sa.BigInteger, nullable=False, autoincrement=False),
        _number("time"),
        _text("tenant"),
        _text("caller"),
        _text("subject"),
        _text("purpose"),
        _text("action"),
        _text("outcome"),
        _key("audit_index", "log", "index"),
        _of_log("audit_index"),
    )
    for columns in (
        ["log", "tenant", "subject", "index"],
        ["log", "tenant", "caller", "index"],
        ["log", "tenant", "time"],
    ):
        op.create_index("ix_audit_index_" + "_".join(columns), "audit_index", columns)
    op.create_table(
        "outbox",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False, autoincrement=True
        ),
        _small("log"),
        _text("kind"),
        _text("path"),
        _bytes("document"),
        _number("created_at"),
        sa.Column("delivered_at", sa.BigInteger, nullable=True),
        _key("outbox", "id"),
        _of_log("outbox"),
    )
    undelivered = sa.text("delivered_at IS NULL")
    op.create_index(
        "ix_outbox_undelivered",
        "outbox",
        ["log", "id"],
        sqlite_where=undelivered,
        postgresql_where=undelivered,
    )
