"""The consent ledger: events are appended, never changed (consent.md, "Events, never updates").

    1 lock     the subject's row, so that `seq` orders all events of the subject
    2 build    check the request; fix the scope of a grant
    3 append   the event, the subject's last seq and the state rows, together
    4 show     what is in force now

All of it happens in the caller's transaction, which also holds the audit record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vault.consent.events import ConsentRequest, EventStamp, Notices, build_event, leaves_below
from vault.consent.overview import InForce, in_force
from vault.domain.errors import NotFoundError
from vault.domain.protocols import Clock, ConsentRepository, Randomness
from vault.domain.system import uuid7
from vault.domain.types import ConsentEvent, ConsentState, Purpose

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["ConsentRequest", "ConsentResult", "ConsentToken", "Ledger"]


@dataclass(frozen=True, slots=True)
class ConsentToken:
    """Names an event. The log position joins it once the record is committed with it."""

    event_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class ConsentResult:
    """`effective` has one entry per leaf at or below the event's purpose, by id.

    It shows what holds, which need not be what was asked: a grant does not lift an objection.
    """

    event: ConsentEvent
    effective: tuple[InForce, ...]

    @property
    def token(self) -> ConsentToken:
        return ConsentToken(self.event.id, self.event.seq)


class Ledger:
    """Records events. Stateless and thread-safe."""

    def __init__(self, repository: ConsentRepository, clock: Clock, randomness: Randomness) -> None:
        self._repository = repository
        self._clock = clock
        self._randomness = randomness

    def record(
        self,
        connection: "Connection",
        purposes: Mapping[str, Purpose],
        notices: Notices,
        tenant: str,
        subject: bytes,
        request: ConsentRequest,
        recorded_by: str,
    ) -> ConsentResult:
        """Append one event of any state, in any lane, for a subject that is in the store.

        Raises:
            InvalidArgumentError: with a violation per wrong field; nothing was changed.
            NotFoundError: no such subject.
        """
        locked = self._repository.lock_subject(connection, tenant, subject)  # 1
        if locked is None:
            raise NotFoundError("no such customer")
        now = self._clock.now()
        stamp = EventStamp(uuid7(self._clock, self._randomness), locked.last_seq + 1, recorded_by, now)
        event, rows = build_event(purposes, notices, request, stamp)  # 2
        self._repository.append_event(connection, tenant, subject, event, rows)  # 3
        consents = self._repository.state(connection, tenant, subject)  # 4
        shown = leaves_below(purposes, request.purpose)
        return ConsentResult(event, tuple(in_force(purposes, locked, consents, leaf, now) for leaf in shown))

    def withdraw(
        self,
        connection: "Connection",
        purposes: Mapping[str, Purpose],
        notices: Notices,
        tenant: str,
        subject: bytes,
        purpose: str,
        recorded_by: str,
        *,
        channel: str,
        evidence: str = "",
    ) -> ConsentResult:
        """Withdraw consent for a purpose and everything below it, leaves added later included.

        Raises: as `record`.
        """
        request = ConsentRequest(purpose, ConsentState.WITHDRAWN, channel, evidence)
        return self.record(connection, purposes, notices, tenant, subject, request, recorded_by)
