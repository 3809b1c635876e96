"""Idempotency of changes: the same request id with the same content gives the first answer again.

The fingerprint of the content is an HMAC under a key derived from the tenant's lookup key, because a plain
hash of values would leak them (architecture.md, "Changes"). Kept answers hold no values.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection

from vault.crypto.lookup_keys import LookupKeys
from vault.customers import require_current
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
        self,
        connection: Connection,
        caller: Caller,
        lookup: LookupKeys,
        fingerprints: Mapping[str, Collection[bytes]],
        *,
        claim: bool = True,
    ) -> dict[str, Replay | RequestIdReusedError]:
        """What is kept for request ids, by id; an error where the content was another. `fingerprints` are
        those of each request's content, by `lookup`.

        In a change this comes first, and waits for others with these ids: their answer is what counts, not
        what the customer looks like after them. Without `claim` it only looks.

        Raises:
            StaleLookupError: the content may be the same under a lookup key that is not in `lookup`.
        """
        if claim:
            self._requests.claim(connection, caller.tenant, caller.id, fingerprints.keys())
        found = self._requests.get_many(connection, caller.tenant, caller.id, list(fingerprints))
        if any(stored.fingerprint not in fingerprints[each] for each, stored in found.items()):
            require_current(connection, lookup)
        return {
            request_id: Replay(stored.record_id, orjson.loads(stored.answer))
            if stored.fingerprint in fingerprints[request_id]
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
    """One answer to keep; `fingerprint` is by the newest lookup key, `answer` is JSON without values."""

    request_id: str
    record_id: str
    fingerprint: bytes
    answer: Mapping[str, Any]
