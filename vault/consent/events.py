"""From what a channel sends to an event of the ledger and the state rows it replaces. Pure.

The scope of a grant is fixed here, once: adding a leaf or moving a category later never widens it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vault.domain.checks import FieldChecks
from vault.domain.types import ConsentEntry, ConsentEvent, ConsentState, Notice, Purpose

CHANNEL_CHARACTERS: Final = 64
EVIDENCE_CHARACTERS: Final = 256
_JURISDICTION_CHARACTERS: Final = 64
_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_NOTHING: Final[Mapping[str, frozenset[str]]] = {}

Notices = Mapping[tuple[str, int], Notice]
"""By (id, version), as a bundle holds them."""


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """One event to record. Times are microseconds since 1970 UTC, 0 for not given.

    `evidence` refers to evidence kept elsewhere. A grant needs notice, version and language.
    """

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


@dataclass(frozen=True, slots=True)
class EventStamp:
    """What the vault adds to a request: `recorded_by` is the caller, `recorded_at` microseconds UTC."""

    id: str
    seq: int
    recorded_by: str
    recorded_at: int


def leaves_below(purposes: Mapping[str, Purpose], purpose: str) -> tuple[Purpose, ...]:
    """The leaves at or below a purpose, by id; none for an unknown one."""
    return tuple(
        purposes[leaf]
        for leaf in sorted(purposes)
        if purposes[leaf].leaf and (leaf == purpose or purpose in purposes[leaf].ancestors)
    )


def grant_scope(purposes: Mapping[str, Purpose], purpose: str, notice: Notice) -> dict[str, frozenset[str]]:
    """What a grant for `purpose` on `notice` covers: leaf to categories, without empty ones.

    A leaf whose purpose names another notice is not covered.
    """
    return {
        leaf.id: notice.covers[leaf.id]
        for leaf in leaves_below(purposes, purpose)
        if notice.covers.get(leaf.id) and leaf.notice in ("", notice.id)
    }


def build_event(
    purposes: Mapping[str, Purpose], notices: Notices, request: ConsentRequest, stamp: EventStamp
) -> tuple[ConsentEvent, tuple[ConsentEntry, ...]]:
    """The event, and the rows of consent_state that it replaces whole.

    A grant gives one row per covered leaf, `requested` none, every other state one at its own purpose.

    Raises:
        InvalidArgumentError: with a violation per wrong field, named as in `ConsentRequest`.
    """
    checks = FieldChecks()
    notice = _check(purposes, notices, request, stamp.recorded_at, checks)
    scope = _NOTHING
    if request.state.grants and notice is not None and request.purpose in purposes:
        scope = grant_scope(purposes, request.purpose, notice)
        checks.require(bool(scope), "notice", "covers nothing at or below the purpose")
        _check_expiry(purposes, scope, request.expires_at, stamp.recorded_at, checks)
    checks.raise_if_any()
    event = ConsentEvent(
        id=stamp.id,
        seq=stamp.seq,
        purpose=request.purpose,
        state=request.state,
        notice=request.notice,
        notice_version=request.notice_version,
        language=request.language,
        notice_sha256=notice.sha256.get(request.language, "") if notice else "",
        jurisdiction=request.jurisdiction,
        scope=scope,
        channel=request.channel,
        evidence=request.evidence,
        valid_from=request.valid_from or stamp.recorded_at,
        expires_at=request.expires_at,
        recorded_by=stamp.recorded_by,
        recorded_at=stamp.recorded_at,
    )
    return event, state_rows(event)


def state_rows(event: ConsentEvent) -> tuple[ConsentEntry, ...]:
    """The rows of consent_state that an event replaces whole."""
    if event.state is ConsentState.REQUESTED:
        return ()
    if not event.state.grants:
        return (ConsentEntry(event.purpose, event.state.lane, event.seq, event.id, event.state),)
    return tuple(
        ConsentEntry(
            purpose=leaf,
            lane=event.state.lane,
            seq=event.seq,
            event_id=event.id,
            state=event.state,
            notice_version=event.notice_version,
            expires_at=event.expires_at,
            categories=categories,
            notice=event.notice,
        )
        for leaf, categories in sorted(event.scope.items())
    )


def _check(
    purposes: Mapping[str, Purpose],
    notices: Notices,
    request: ConsentRequest,
    recorded_at: int,
    checks: FieldChecks,
) -> Notice | None:
    """Check all fields that need no scope; the notice, where one is named and known."""
    checks.require(request.purpose in purposes, "purpose", "must be a purpose of the policy")
    checks.text(request.channel, "channel", CHANNEL_CHARACTERS)
    checks.text(request.evidence, "evidence", EVIDENCE_CHARACTERS, optional=True)
    checks.text(request.jurisdiction, "jurisdiction", _JURISDICTION_CHARACTERS, optional=True)
    checks.require(0 <= request.valid_from <= recorded_at, "valid_from", "must not be in the future")
    if not request.state.grants:
        checks.require(request.expires_at == 0, "expires_at", "can be given for a grant alone")
    return _check_notice(notices, request, checks)


def _check_notice(notices: Notices, request: ConsentRequest, checks: FieldChecks) -> Notice | None:
    if not request.notice:
        checks.require(not request.state.grants, "notice", "must name the notice that the customer was shown")
        checks.require(request.notice_version == 0, "notice_version", "needs the notice it counts")
        checks.require(not request.language, "language", "needs the notice it belongs to")
        return None
    notice = notices.get((request.notice, request.notice_version))
    if notice is None:
        known = sorted(version for name, version in notices if name == request.notice)
        if not known:
            checks.require(False, "notice", "must be a notice of the policy")
        else:
            versions = ", ".join(map(str, known))
            checks.require(False, "notice_version", f"must be a version of the notice: {versions}")
        return None
    if request.language or request.state.grants:
        languages = ", ".join(sorted(notice.sha256))
        checks.require(
            request.language in notice.sha256, "language", f"must be a language of the notice: {languages}"
        )
    return notice


def _period(seconds: int) -> str:
    """The largest unit that divides it, as the policies say it: 730 days."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    count = seconds // size
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _check_expiry(
    purposes: Mapping[str, Purpose],
    scope: Mapping[str, frozenset[str]],
    expires_at: int,
    recorded_at: int,
    checks: FieldChecks,
) -> None:
    lifetimes = [purposes[leaf].consent_lifetime_seconds for leaf in scope]
    longest = min((seconds for seconds in lifetimes if seconds), default=0)
    if expires_at == 0:
        checks.require(not longest, "expires_at", "must be given: the purpose limits how long consent lasts")
        return
    checks.require(expires_at > recorded_at, "expires_at", "must be in the future")
    if longest:
        checks.require(
            expires_at <= recorded_at + longest * 1_000_000,
            "expires_at",
            f"must be at most {_period(longest)} after the recording",
        )
