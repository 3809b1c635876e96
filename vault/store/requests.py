"""Answers kept for repeated requests (architecture.md, "Changes"). They hold no values."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, text, tuple_

from vault.domain.limits import LIMITS
from vault.store.tables import request

KEPT_MICROSECONDS: Final = LIMITS.request_kept_days * 24 * 3_600 * 1_000_000


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request that was carried out: its record, the fingerprint of its content, its answer.

    `created_at` in microseconds since 1970 UTC.
    """

    request_id: str
    record_id: str
    fingerprint: bytes
    answer: bytes
    created_at: int


_FIND: Final = (
    select(
        request.c.request_id,
        request.c.record_id,
        request.c.fingerprint,
        request.c.answer,
        request.c.created_at,
    )
    .where(request.c.tenant == bindparam("tenant"))
    .where(request.c.caller == bindparam("caller"))
    .where(request.c.request_id.in_(bindparam("ids", expanding=True)))
)


_CLAIM: Final = text(
    "SELECT pg_catalog.pg_advisory_xact_lock(id) FROM"
    " (SELECT id FROM pg_catalog.unnest(CAST(:ids AS bigint[])) AS id ORDER BY id) AS each"
)


class RequestRepository:
    """In the caller's transaction."""

    def claim(self, connection: Connection, tenant: str, caller: str, request_ids: Collection[str]) -> None:
        """Wait until no other transaction carries out one of these requests, and keep others out until the
        end of this one. First of all its locks.

        SQLite has one writer anyway. Two requests may share a lock by chance, which costs them a wait.
        """
        if connection.dialect.name == "postgresql" and request_ids:
            locks = {_lock_of(tenant, caller, request_id) for request_id in request_ids}
            connection.execute(_CLAIM, {"ids": list(locks)}).all()

    def get(self, connection: Connection, tenant: str, caller: str, request_id: str) -> StoredRequest | None:
        """The request, if it is kept."""
        return self.get_many(connection, tenant, caller, [request_id]).get(request_id)

    def get_many(
        self, connection: Connection, tenant: str, caller: str, request_ids: Collection[str]
    ) -> dict[str, StoredRequest]:
        """Those of the requests that are kept, by id."""
        if not request_ids:
            return {}
        rows = connection.execute(_FIND, {"tenant": tenant, "caller": caller, "ids": list(request_ids)})
        return {row[0]: StoredRequest(*row) for row in rows}

    def put(self, connection: Connection, tenant: str, caller: str, stored: StoredRequest) -> None:
        """Keep one request; its id must be free."""
        self.put_many(connection, tenant, caller, [stored])

    def put_many(
        self, connection: Connection, tenant: str, caller: str, stored: Sequence[StoredRequest]
    ) -> None:
        """Keep requests; their ids must be free."""
        columns = [
            {
                "tenant": tenant,
                "caller": caller,
                "request_id": one.request_id,
                "record_id": one.record_id,
                "fingerprint": one.fingerprint,
                "answer": one.answer,
                "created_at": one.created_at,
            }
            for one in stored
        ]
        if columns:
            connection.execute(insert(request), columns)

    def purge(self, connection: Connection, now: int, most: int) -> int:
        """Forget at most `most` requests older than 7 days, the oldest first; returns how many. `now` in
        microseconds since 1970 UTC."""
        key = request.primary_key.columns
        old = (
            select(*key)
            .where(request.c.created_at < now - KEPT_MICROSECONDS)
            .order_by(request.c.created_at)
            .limit(most)
        )
        return connection.execute(delete(request).where(tuple_(*key).in_(old))).rowcount


def _lock_of(tenant: str, caller: str, request_id: str) -> int:
    """A signed 64-bit number, as advisory locks have."""
    named = "\0".join((tenant, caller, request_id)).encode("utf-8")
    return int.from_bytes(hashlib.sha256(named).digest()[:8], "big", signed=True)
