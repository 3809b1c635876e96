"""The asyncio client, the twin of `Client`: same names, arguments, results and errors."""

# ruff: noqa: ASYNC109 - a timeout here is the deadline of gRPC, which travels with the call

import datetime
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from types import TracebackType

from vault.client import calls
from vault.client.batch import read_batch, write_batch
from vault.client.client import DEFAULT_TIMEOUT_SECONDS
from vault.client.connection import Connection
from vault.client.operators import AsyncOperatorCalls
from vault.client.pacing import Pace, RetryPolicy
from vault.client.results import (
    Bundle,
    Checkpoint,
    ConsentEvent,
    ConsentOverview,
    DecisionExplanation,
    Disclosure,
    ErasureEvidence,
    ErasureReceipt,
    EventReceipt,
    LogRecord,
    ReadResult,
    Retention,
    WriteItem,
    WriteReceipt,
    WriteResult,
)
from vault.client.values import PyValue
from vault.client.words import ConsentState, Form


class AsyncClient(AsyncOperatorCalls):
    """As `Client`, for use in an `async with` block; it belongs to the event loop of its first call.

    async with AsyncClient(Connection.from_environment()) as client:
        answer = await client.read_attributes("4711", purpose="fraud-detection", attributes=["income"])
        async for result in client.read_many(numbers, purpose="fraud-detection", attributes=["income"]):
            ...
    """

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen, so it can be shared
    ) -> None:
        super().__init__(connection, timeout=timeout, retry=retry)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def read_attributes(
        self,
        customer_number: str,
        *,
        purpose: str,
        attributes: Iterable[str],
        max_form: Form | str | None = None,
        require_all: bool = False,
        request_id: str = "",
        timeout: float | None = None,
    ) -> Disclosure:
        """As `Client.read_attributes`."""
        return await self._run(
            calls.read_attributes(
                customer_number,
                purpose=purpose,
                attributes=attributes,
                max_form=max_form,
                require_all=require_all,
                request_id=request_id,
            ),
            timeout,
        )

    def read_many(
        self,
        customer_numbers: AsyncIterable[str] | Iterable[str],
        *,
        purpose: str,
        attributes: Iterable[str],
        max_form: Form | str | None = None,
        require_all: bool = False,
        request_id: str = "",
        chunk: int = 200,
        timeout: float | None = None,
    ) -> AsyncIterator[ReadResult]:
        """As `Client.read_many`; the source may be asynchronous."""
        batch = read_batch(
            purpose=purpose,
            attributes=attributes,
            max_form=max_form,
            require_all=require_all,
            request_id=request_id,
            chunk=chunk,
        )
        return self._run_batch(batch, customer_numbers, Pace(self._retry, timeout))

    async def write_attributes(
        self,
        customer_number: str,
        values: Mapping[str, PyValue],
        *,
        clear: Iterable[str] = (),
        expected_versions: Mapping[str, int] | None = None,
        jurisdictions: Iterable[str] = (),
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> WriteReceipt:
        """As `Client.write_attributes`."""
        return await self._run(
            calls.write_attributes(
                calls.write_request(
                    customer_number,
                    values,
                    clear=clear,
                    expected_versions=expected_versions,
                    jurisdictions=jurisdictions,
                    request_id=request_id,
                )
            ),
            timeout,
        )

    def write_many(
        self,
        items: AsyncIterable[WriteItem] | Iterable[WriteItem],
        *,
        chunk: int = 200,
        timeout: float | None = None,
    ) -> AsyncIterator[WriteResult]:
        """As `Client.write_many`; the source may be asynchronous."""
        batch = write_batch(chunk=chunk)
        return self._run_batch(batch, items, Pace(self._retry, timeout))

    async def record_consent(
        self,
        customer_number: str,
        *,
        purpose: str,
        state: ConsentState | str,
        channel: str,
        notice: str = "",
        notice_version: int = 0,
        language: str = "",
        jurisdiction: str = "",
        evidence: str = "",
        valid_from: datetime.datetime | None = None,
        expires_at: datetime.datetime | None = None,
        jurisdictions: Iterable[str] = (),
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> EventReceipt:
        """As `Client.record_consent`."""
        return await self._run(
            calls.record_consent(
                customer_number,
                purpose=purpose,
                state=state,
                channel=channel,
                notice=notice,
                notice_version=notice_version,
                language=language,
                jurisdiction=jurisdiction,
                evidence=evidence,
                valid_from=valid_from,
                expires_at=expires_at,
                jurisdictions=jurisdictions,
                request_id=request_id,
            ),
            timeout,
        )

    async def withdraw_consent(
        self,
        customer_number: str,
        *,
        purpose: str,
        channel: str,
        evidence: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> EventReceipt:
        """As `Client.withdraw_consent`."""
        return await self._run(
            calls.withdraw_consent(
                customer_number, purpose=purpose, channel=channel, evidence=evidence, request_id=request_id
            ),
            timeout,
        )

    async def get_consent(
        self,
        customer_number: str,
        *,
        timeout: float | None = None,
    ) -> ConsentOverview:
        """As `Client.get_consent`."""
        return await self._run(calls.get_consent(customer_number), timeout)

    def list_consent_events(
        self,
        customer_number: str,
        *,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[ConsentEvent]:
        """As `Client.list_consent_events`."""
        return self._run_pages(calls.list_consent_events(customer_number, page_size=page_size), timeout)

    async def restrict_subject(
        self,
        customer_number: str,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> EventReceipt:
        """As `Client.restrict_subject`."""
        return await self._run(calls.restrict_subject(customer_number, request_id=request_id), timeout)

    async def lift_restriction(
        self,
        customer_number: str,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> EventReceipt:
        """As `Client.lift_restriction`."""
        return await self._run(calls.lift_restriction(customer_number, request_id=request_id), timeout)

    async def object_to_purpose(
        self,
        customer_number: str,
        *,
        purpose: str,
        lift: bool = False,
        channel: str,
        evidence: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> EventReceipt:
        """As `Client.object_to_purpose`."""
        return await self._run(
            calls.object_to_purpose(
                customer_number,
                purpose=purpose,
                lift=lift,
                channel=channel,
                evidence=evidence,
                request_id=request_id,
            ),
            timeout,
        )

    async def erase_subject(
        self,
        customer_number: str,
        *,
        dry_run: bool = False,
        scrub: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> ErasureReceipt:
        """As `Client.erase_subject`."""
        return await self._run(
            calls.erase_subject(customer_number, dry_run=dry_run, scrub=scrub, request_id=request_id),
            timeout,
        )

    async def set_retention(
        self,
        customer_number: str,
        *,
        relationship_ended_on: datetime.date | str | None = None,
        legal_hold: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Retention:
        """As `Client.set_retention`."""
        return await self._run(
            calls.set_retention(
                customer_number,
                relationship_ended_on=relationship_ended_on,
                legal_hold=legal_hold,
                request_id=request_id,
            ),
            timeout,
        )

    async def get_erasure_evidence(
        self,
        receipt_id: str,
        *,
        timeout: float | None = None,
    ) -> ErasureEvidence:
        """As `Client.get_erasure_evidence`."""
        return await self._run(calls.get_erasure_evidence(receipt_id), timeout)

    async def explain_decision(
        self,
        caller: str,
        *,
        purpose: str,
        attributes: Iterable[str],
        bases: Iterable[str] = (),
        max_form: Form | str | None = None,
        timeout: float | None = None,
    ) -> DecisionExplanation:
        """As `Client.explain_decision`."""
        return await self._run(
            calls.explain_decision(
                caller, purpose=purpose, attributes=attributes, bases=bases, max_form=max_form
            ),
            timeout,
        )

    async def get_bundle(
        self,
        *,
        include_files: bool = False,
        timeout: float | None = None,
    ) -> Bundle:
        """As `Client.get_bundle`."""
        return await self._run(calls.get_bundle(include_files=include_files), timeout)

    def query_records(
        self,
        *,
        start_time: datetime.datetime | None = None,
        end_time: datetime.datetime | None = None,
        caller: str = "",
        customer_number: str = "",
        purpose: str = "",
        attribute: str = "",
        outcome: str = "",
        action: str = "",
        newest_first: bool = False,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[LogRecord]:
        """As `Client.query_records`."""
        return self._run_pages(
            calls.query_records(
                start_time=start_time,
                end_time=end_time,
                caller=caller,
                customer_number=customer_number,
                purpose=purpose,
                attribute=attribute,
                outcome=outcome,
                action=action,
                newest_first=newest_first,
                page_size=page_size,
            ),
            timeout,
        )

    async def get_checkpoint(
        self,
        *,
        timeout: float | None = None,
    ) -> Checkpoint:
        """As `Client.get_checkpoint`."""
        return await self._run(calls.get_checkpoint(), timeout)
