"""Every policy bundle that served, so that a decision of any day can be explained and replayed."""

from typing import Final

from sqlalchemy import Connection, select

from vault.store.statements import insert_new
from vault.store.tables import bundle

_KEEP: Final = insert_new(bundle)


class BundleRepository:
    """In the caller's transaction."""

    def keep(self, connection: Connection, bundle_hash: str, files: bytes, first_served_at: int) -> None:
        """Keep a bundle; one that is there stays as it is. `first_served_at` in microseconds UTC."""
        connection.execute(_KEEP, {"hash": bundle_hash, "files": files, "first_served_at": first_served_at})

    def load(self, connection: Connection, bundle_hash: str) -> bytes | None:
        """The files of a bundle as they were kept."""
        found: bytes | None = connection.execute(
            select(bundle.c.files).where(bundle.c.hash == bundle_hash)
        ).scalar_one_or_none()
        return found

    def served(self, connection: Connection) -> list[tuple[str, int]]:
        """(hash, first served at) of all bundles, the oldest first."""
        rows = connection.execute(
            select(bundle.c.hash, bundle.c.first_served_at).order_by(bundle.c.first_served_at, bundle.c.hash)
        )
        return [(found, at) for found, at in rows]
