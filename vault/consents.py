"""Consent events from request to answer: the types that go through the rights pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vault.consent.ledger import ConsentRequest
from vault.consent.overview import InForce
from vault.domain.errors import Violation
from vault.domain.types import Act, ConsentEvent, ConsentState
from vault.recording import RecordedAt

NEGATIVE: Final = frozenset(
    {
        ConsentState.REFUSED,
        ConsentState.WITHDRAWN,
        ConsentState.EXPIRED,
        ConsentState.INVALIDATED,
        ConsentState.OBJECTED,
        ConsentState.OPTED_OUT,
    }
)
"""States that a restored backup must not forget: they also go to the outside store."""
RECORDABLE: Final = frozenset(ConsentState) - {
    ConsentState.WITHDRAWN,
    ConsentState.OBJECTED,
    ConsentState.OBJECTION_LIFTED,
}
"""States of RecordConsent; the others have a call, and an act, of their own."""


@dataclass(frozen=True, slots=True)
class ConsentWrite:
    """One event as a channel sends it. Times are microseconds since 1970 UTC, 0 for not given."""

    request_id: str
    customer_number: str = field(repr=False)
    purpose: str
    state: ConsentState
    channel: str
    evidence: str = ""
    notice: str = ""
    notice_version: int = 0
    language: str = ""
    jurisdiction: str = ""
    valid_from: int = 0
    expires_at: int = 0
    jurisdictions: tuple[str, ...] = ()
    problems: tuple[Violation, ...] = ()
    """What was wrong with the message itself: told after the caller was found to be permitted."""


@dataclass(frozen=True, slots=True)
class Token:
    """Names an acknowledged change: event id, seq in the customer's ledger, and where the record stands."""

    event_id: str
    seq: int
    recorded: RecordedAt


@dataclass(frozen=True, slots=True)
class ConsentOutcome:
    """The answer to a change."""

    token: Token
    effective: tuple[InForce, ...]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class ConsentOverview:
    """The answer to GetConsent."""

    purposes: tuple[InForce, ...]
    jurisdictions: tuple[str, ...]
    restricted: bool
    recorded: RecordedAt


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order of seq; `next_seq` 0 at the end, else the seq to go on after."""

    events: tuple[ConsentEvent, ...]
    next_seq: int
    recorded: RecordedAt


def fingerprinted(act: Act, write: ConsentWrite) -> tuple[str, ...]:
    """What the fingerprint of a request covers: everything but the request id."""
    return (
        act.value,
        write.customer_number,
        write.purpose,
        write.state.value,
        write.channel,
        write.evidence,
        write.notice,
        str(write.notice_version),
        write.language,
        write.jurisdiction,
        str(write.valid_from),
        str(write.expires_at),
        ",".join(sorted(write.jurisdictions)),
    )


def ledger_request(write: ConsentWrite) -> ConsentRequest:
    """The request as the ledger takes it."""
    return ConsentRequest(
        purpose=write.purpose,
        state=write.state,
        notice=write.notice,
        notice_version=write.notice_version,
        language=write.language,
        jurisdiction=write.jurisdiction,
        channel=write.channel,
        evidence=write.evidence,
        valid_from=write.valid_from,
        expires_at=write.expires_at,
    )


def outside_document(event: ConsentEvent) -> Mapping[str, Any]:
    """A negative event as the outside store keeps it: what is needed to apply it again."""
    return {
        "kind": "consent",
        "event": event.id,
        "purpose": event.purpose,
        "state": event.state.value,
        "jurisdiction": event.jurisdiction,
        "channel": event.channel,
        "recorded_by": event.recorded_by,
        "recorded_at": event.recorded_at,
    }
