"""ConsentService: what customers decide."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from vault.consent.overview import InForce
from vault.consents import ConsentWrite, Token
from vault.domain.errors import InvalidArgumentError, Violation
from vault.domain.types import Caller, ConsentEvent, ConsentState
from vault.rights import RightsPipeline
from vault.server.blocking import BlockingWorker
from vault.server.convert import REASON_NUMBERS, STATE_NUMBERS, STATES, microseconds, record_ref, timestamp
from vault.server.edge import Edge, unary
from vault.showing import ConsentViews
from vault.v1 import consent_service_pb2 as pb
from vault.v1 import consent_service_pb2_grpc

_DEFAULT_PAGE: Final = 100
_LARGEST_PAGE: Final = 250
_MOST_JURISDICTIONS: Final = 17
"""One more than is allowed, so that too many are still noticed."""


class ConsentServicer(consent_service_pb2_grpc.ConsentServiceServicer):
    """Recording and showing consent."""

    def __init__(
        self,
        edge: Edge,
        rights: RightsPipeline,
        views: ConsentViews,
        changes: BlockingWorker,
        queries: BlockingWorker,
    ) -> None:
        self.edge = edge
        self._rights = rights
        self._views = views
        self._changes = changes
        self._queries = queries

    @unary
    async def RecordConsent(
        self, request: pb.RecordConsentRequest, caller: Caller
    ) -> pb.RecordConsentResponse:
        problems: list[Violation] = []
        state = STATES.get(request.state)
        if state is None:
            problems.append(Violation("state", "must be set"))
        write = ConsentWrite(
            request_id=request.request_id,
            customer_number=request.customer_number,
            purpose=request.purpose,
            state=state or ConsentState.GIVEN,
            channel=request.channel,
            evidence=request.evidence,
            notice=request.notice,
            notice_version=request.notice_version,
            language=request.language,
            jurisdiction=request.jurisdiction,
            valid_from=_moment(request, "valid_from", problems),
            expires_at=_moment(request, "expires_at", problems),
            jurisdictions=tuple(request.jurisdictions[:_MOST_JURISDICTIONS]),
            problems=tuple(problems),
        )
        outcome = await self._changes.run(partial(self._rights.record_consent, caller, write))
        return pb.RecordConsentResponse(
            token=consent_token(outcome.token),
            effective=effective_purposes(outcome.effective),
            replayed=outcome.replayed,
        )

    @unary
    async def WithdrawConsent(
        self, request: pb.WithdrawConsentRequest, caller: Caller
    ) -> pb.WithdrawConsentResponse:
        write = ConsentWrite(
            request_id=request.request_id,
            customer_number=request.customer_number,
            purpose=request.purpose,
            state=ConsentState.WITHDRAWN,
            channel=request.channel,
            evidence=request.evidence,
        )
        outcome = await self._changes.run(partial(self._rights.withdraw_consent, caller, write))
        return pb.WithdrawConsentResponse(
            token=consent_token(outcome.token),
            effective=effective_purposes(outcome.effective),
            replayed=outcome.replayed,
        )

    @unary
    async def GetConsent(self, request: pb.GetConsentRequest, caller: Caller) -> pb.GetConsentResponse:
        overview = await self._queries.run(partial(self._views.overview, caller, request.customer_number))
        return pb.GetConsentResponse(
            purposes=effective_purposes(overview.purposes),
            jurisdictions=overview.jurisdictions,
            restricted=overview.restricted,
            record=record_ref(overview.recorded),
        )

    @unary
    async def ListConsentEvents(
        self, request: pb.ListConsentEventsRequest, caller: Caller
    ) -> pb.ListConsentEventsResponse:
        problems: list[Violation] = []
        if not 0 <= request.page_size <= _LARGEST_PAGE:
            problems.append(Violation("page_size", f"must be 1 to {_LARGEST_PAGE}, or 0 for the default"))
        page = await self._queries.run(
            partial(
                self._views.events,
                caller,
                request.customer_number,
                _after(request.page_token, problems),
                request.page_size or _DEFAULT_PAGE,
                problems,
            )
        )
        return pb.ListConsentEventsResponse(
            events=[_event(event) for event in page.events],
            next_page_token=str(page.next_seq) if page.next_seq else "",
            record=record_ref(page.recorded),
        )


def _moment(request: pb.RecordConsentRequest, field: str, problems: list[Violation]) -> int:
    """Microseconds of an optional moment, 0 for none; what is wrong with it goes to `problems`."""
    if not request.HasField(field):  # type: ignore[arg-type]
        return 0
    try:
        found = microseconds(getattr(request, field), field)
    except InvalidArgumentError as error:
        problems.extend(error.violations)
        return 0
    if found <= 0:
        problems.append(Violation(field, "must be after 1970"))
    return found


def _after(page_token: str, problems: list[Violation]) -> int:
    if not page_token:
        return 0
    if page_token.isascii() and page_token.isdigit() and len(page_token) < 19:
        return int(page_token)
    problems.append(Violation("page_token", "must be one that an answer gave"))
    return 0


def consent_token(token: Token) -> pb.ConsentToken:
    """Names an acknowledged change."""
    return pb.ConsentToken(event_id=token.event_id, seq=token.seq, record=record_ref(token.recorded))


def effective_purposes(purposes: Sequence[InForce]) -> list[pb.PurposeConsent]:
    """What is in force, as every answer about consent shows it."""
    messages = []
    for one in purposes:
        message = pb.PurposeConsent(
            purpose=one.purpose,
            consented=one.reason is None,
            categories=sorted(one.categories),
            notice_version=one.notice_version,
            objected=one.objected,
            opted_out=one.opted_out,
            bases=sorted(one.bases),
        )
        if one.reason is not None:
            message.reason = REASON_NUMBERS[one.reason]
        if one.expires_at:
            message.expires_at.CopyFrom(timestamp(one.expires_at))
        messages.append(message)
    return messages


def _event(event: ConsentEvent) -> pb.ConsentEvent:
    message = pb.ConsentEvent(
        event_id=event.id,
        seq=event.seq,
        purpose=event.purpose,
        state=STATE_NUMBERS[event.state],
        notice=event.notice,
        notice_version=event.notice_version,
        language=event.language,
        notice_sha256=event.notice_sha256,
        jurisdiction=event.jurisdiction,
        scope=[
            pb.CoveredPurpose(purpose=leaf, categories=sorted(categories))
            for leaf, categories in sorted(event.scope.items())
        ],
        channel=event.channel,
        evidence=event.evidence,
        valid_from=timestamp(event.valid_from),
        recorded_by=event.recorded_by,
        recorded_at=timestamp(event.recorded_at),
    )
    if event.expires_at:
        message.expires_at.CopyFrom(timestamp(event.expires_at))
    return message
