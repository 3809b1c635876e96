"""What a schema says of itself, so that releases older than it know whether they may serve it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    info = op.create_table(
        "schema_info",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_schema_info"),
    )
    op.bulk_insert(info, [{"name": "serves_from", "value": "0003"}])
