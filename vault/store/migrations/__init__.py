"""Alembic migrations of the whole database: the tables of the store and of the audit log.

Each spells out its columns, so that a migration written once does the same for ever. `schema.py` runs them.
"""
