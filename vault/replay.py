"""Idempotency of changes: the same request id with the same content gives the first answer again.

The fingerprint of the content is an HMAC under a key derived from the tenant's lookup key, because a plain
hash of values would leak them (architecture.md, "Changes"). Kept answers hold no values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection

from vault.domain.errors import RequestIdReusedError
from vault.domain.protocols import Clock
from vault.domain.types import Caller
from vault.store.requests import RequestRepository, StoredRequest


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer of an earlier call with the same request id and content."""

    record_id: str
    answer: Mapping[str, Any]


class Replays:
    """Looks earlier answers up and keeps new ones, inside the transaction of the change."""

    def __init__(self, requests: RequestRepository, clock: Clock) -> None:
        self._requests = requests
        self._clock = clock

    def look_up(
        self, connection: Connection, caller: Caller, fingerprints: Mapping[str, bytes]
    ) -> dict[str, Replay | RequestIdReusedError]:
        """What is kept for request ids, by id; an error where the content was another."""
        found = self._requests.get_many(connection, caller.tenant, caller.id, list(fingerprints))
        return {
            request_id: Replay(stored.record_id, orjson.loads(stored.answer))
            if stored.fingerprint == fingerprints[request_id]
            else RequestIdReusedError("request_id: was used before with other content; take a new one")
            for request_id, stored in found.items()
        }

    def keep(self, connection: Connection, caller: Caller, kept: Sequence["Kept"]) -> None:
        """Keep the answers of this transaction."""
        now = self._clock.now()
        self._requests.put_many(
            connection,
            caller.tenant,
            caller.id,
            [
                StoredRequest(one.request_id, one.record_id, one.fingerprint, orjson.dumps(one.answer), now)
                for one in kept
            ],
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer to keep; `answer` is JSON without values."""

    request_id: str
    record_id: str
    fingerprint: bytes
    answer: Mapping[str, Any]
