"""The synchronous client."""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType

from vault.client import calls
from vault.client.batch import read_batch, write_batch
from vault.client.connection import Connection
from vault.client.operators import OperatorCalls
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

DEFAULT_TIMEOUT_SECONDS = 10.0


class Client(OperatorCalls):
    """One connection to a datavault server, for use in a `with` block. Safe to share between threads.

    Every call has a deadline: `timeout` seconds, by default those of the client; paged calls have it per
    page. Every method raises DatavaultClientError, of the class and with the reason that fit; InvalidArgument
    and ClientConfigurationError before anything is sent.

        with Client(Connection.from_environment()) as client:
            answer = client.read_attributes("4711", purpose="personalised-offers", attributes=["income"])
            band = answer.value("income")
    """

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen, so it can be shared
    ) -> None:
        super().__init__(connection, timeout=timeout, retry=retry)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def read_attributes(
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
        """Read attributes of one customer for one purpose (a leaf, e.g. `personalised-offers`).

        A denied attribute is an answer, not an error: see `Disclosure.denied`. `max_form` asks for no more
        than this form. With `require_all` any denial raises NotPermitted and no value is released.
        `request_id` is kept in the audit record.
        """
        return self._run(
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
        customer_numbers: Iterable[str],
        *,
        purpose: str,
        attributes: Iterable[str],
        max_form: Form | str | None = None,
        require_all: bool = False,
        request_id: str = "",
        chunk: int = 200,
        timeout: float | None = None,
    ) -> Iterator[ReadResult]:
        """Read the same attributes of many customers: one result each, in their order, as they come.

        The error of one customer is in its own result. A stream that breaks is resumed with the customers
        that have no result yet; what is raised in the end is final. `timeout` holds for the whole batch;
        without one the batch lasts as long as results come.
        """
        batch = read_batch(
            purpose=purpose,
            attributes=attributes,
            max_form=max_form,
            require_all=require_all,
            request_id=request_id,
            chunk=chunk,
        )
        return self._run_batch(batch, customer_numbers, Pace(self._retry, timeout))

    def write_attributes(
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
        """Set the attributes in `values` and remove those in `clear`, all or none.

        `expected_versions` maps an attribute to the version this change builds on (0: there must be none);
        another version raises Aborted. A new customer needs `jurisdictions` (`EU`, `US-CA` ...). The same
        `request_id` makes a write happen once; without one a new one is made, kept over all retries.
        """
        return self._run(
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
        items: Iterable[WriteItem],
        *,
        chunk: int = 200,
        timeout: float | None = None,
    ) -> Iterator[WriteResult]:
        """Write many customers: one result per item, in their order, as they come.

        Each item is a write of its own with its own request id, so a stream that breaks is resumed without
        writing anything twice. `timeout` as in `read_many`.
        """
        batch = write_batch(chunk=chunk)
        return self._run_batch(batch, items, Pace(self._retry, timeout))

    def record_consent(
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
        """Record one consent event. `given` and `renewed` need the notice, its version and language.

        `channel` is how the customer said so (`app`, `branch`, `gpc` ...), `evidence` a reference to evidence
        kept elsewhere. A customer not yet known needs `jurisdictions`. To withdraw, use `withdraw_consent`.
        """
        return self._run(
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

    def withdraw_consent(
        self,
        customer_number: str,
        *,
        purpose: str,
        channel: str,
        evidence: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> EventReceipt:
        """Withdraw consent for a purpose and everything below it; every read that starts later sees it."""
        return self._run(
            calls.withdraw_consent(
                customer_number, purpose=purpose, channel=channel, evidence=evidence, request_id=request_id
            ),
            timeout,
        )

    def get_consent(
        self,
        customer_number: str,
        *,
        timeout: float | None = None,
    ) -> ConsentOverview:
        """What is in force now, by leaf purpose."""
        return self._run(calls.get_consent(customer_number), timeout)

    def list_consent_events(
        self,
        customer_number: str,
        *,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> Iterator[ConsentEvent]:
        """The ledger of one customer, oldest first. `page_size` 0 leaves it to the server."""
        return self._run_pages(calls.list_consent_events(customer_number, page_size=page_size), timeout)

    def restrict_subject(
        self,
        customer_number: str,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> EventReceipt:
        """Restrict processing (GDPR 18): only what stands above a restriction goes on."""
        return self._run(calls.restrict_subject(customer_number, request_id=request_id), timeout)

    def lift_restriction(
        self,
        customer_number: str,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> EventReceipt:
        """Lift a restriction."""
        return self._run(calls.lift_restriction(customer_number, request_id=request_id), timeout)

    def object_to_purpose(
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
        """Record an objection (GDPR 21) to a purpose and everything below it; `lift` takes it back."""
        return self._run(
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

    def erase_subject(
        self,
        customer_number: str,
        *,
        dry_run: bool = False,
        scrub: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> ErasureReceipt:
        """Erase a customer (GDPR 17, CCPA delete): destroy the keys, values and index entries of every key
        class that no retention ground and no legal hold keeps. It cannot be undone.

        `dry_run` only tells what would go and what would stay. `scrub` rewrites the database file afterwards
        (SQLite; changes wait meanwhile). The same `request_id` answers the same receipt.
        """
        return self._run(
            calls.erase_subject(customer_number, dry_run=dry_run, scrub=scrub, request_id=request_id),
            timeout,
        )

    def set_retention(
        self,
        customer_number: str,
        *,
        relationship_ended_on: datetime.date | str | None = None,
        legal_hold: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Retention:
        """Say when the relationship ended, from which retention is counted (`""`: it goes on), or why nothing
        may be destroyed (`legal_hold`, `""` lifts it); one of the two."""
        return self._run(
            calls.set_retention(
                customer_number,
                relationship_ended_on=relationship_ended_on,
                legal_hold=legal_hold,
                request_id=request_id,
            ),
            timeout,
        )

    def get_erasure_evidence(
        self,
        receipt_id: str,
        *,
        timeout: float | None = None,
    ) -> ErasureEvidence:
        """The consents of an erased customer, sealed by the erasure with this receipt."""
        return self._run(calls.get_erasure_evidence(receipt_id), timeout)

    def explain_decision(
        self,
        caller: str,
        *,
        purpose: str,
        attributes: Iterable[str],
        bases: Iterable[str] = (),
        max_form: Form | str | None = None,
        timeout: float | None = None,
    ) -> DecisionExplanation:
        """What the live policy decides for `caller` where these legal bases hold, and why. Reads no data."""
        return self._run(
            calls.explain_decision(
                caller, purpose=purpose, attributes=attributes, bases=bases, max_form=max_form
            ),
            timeout,
        )

    def get_bundle(
        self,
        *,
        include_files: bool = False,
        timeout: float | None = None,
    ) -> Bundle:
        """The live policies, with the files themselves if asked for."""
        return self._run(calls.get_bundle(include_files=include_files), timeout)

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
    ) -> Iterator[LogRecord]:
        """The audit records that match all filters given: at or after `start_time`, before `end_time`."""
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

    def get_checkpoint(
        self,
        *,
        timeout: float | None = None,
    ) -> Checkpoint:
        """The newest signed checkpoint of the audit log."""
        return self._run(calls.get_checkpoint(), timeout)
