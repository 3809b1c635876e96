"""Runs migrations on the connection that `schema.py` hands over, inside its transaction: all or nothing."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
)
with context.begin_transaction():
    context.run_migrations()
