"""Rotation of lookup and log keys; retention, legal holds and the evidence of erasures."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("subject", sa.Column("legal_hold", sa.Text, nullable=False, server_default=""))
    op.add_column("subject_key", _counted("retained_since"))
    op.add_column("tenant_key", _counted("retired_at"))
    _evidence()
    _log_keys()


def _counted(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _evidence() -> None:
    op.create_table(
        "erasure_evidence",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("receipt", sa.LargeBinary(16), nullable=False),
        sa.Column("dek_id", sa.LargeBinary(32), nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("keep_until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "receipt", name="pk_erasure_evidence"),
        sa.CheckConstraint("length(receipt) = 16", name=op.f("ck_erasure_evidence_receipt")),
        sa.CheckConstraint("length(dek_id) = 32", name=op.f("ck_erasure_evidence_dek_id")),
        sqlite_with_rowid=False,
    )


def _log_keys() -> None:
    op.create_table(
        "log_key",
        sa.Column("log", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("announced", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("log", "number", name="pk_log_key"),
        sa.ForeignKeyConstraint(["log"], ["log.log"], name="fk_log_key_log"),
    )
