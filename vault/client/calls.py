"""From arguments to calls of vault.v1: pure functions that both clients share.

Each raises InvalidArgument for what cannot be sent. What the arguments mean stands at the methods of
`Client`; `answers.py` is the way back.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from vault.client import answers, methods
from vault.client.errors import Internal, InvalidArgument
from vault.client.fields import mapping, message, names, new_request_id, word
from vault.client.methods import A, Method, Q
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
    Retention,
    WriteReceipt,
)
from vault.client.values import PyValue, optional_timestamp, to_value
from vault.client.words import FORMS, STATES, ConsentState, Form
from vault.v1 import data_service_pb2 as data

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, A, R]):
    """One unary call, and how to read its answer."""

    method: Method[Q, A]
    request: Q = field(repr=False)
    parse: Callable[[A], R]


@dataclass(frozen=True, slots=True)
class Pages(Generic[Q, A, R]):
    """A call whose answer comes in pages, and how to read one page."""

    method: Method[Q, A]
    request: Q = field(repr=False)
    parse: Callable[[A], list[R]]

    def after(self, answer: A) -> "Pages[Q, A, R] | None":
        """The call for the next page, None at the end. Raises Internal where the server goes in circles."""
        token = getattr(answer, "next_page_token", "")
        if not token:
            return None
        if token == getattr(self.request, "page_token", ""):
            raise Internal.unreadable("the same page again")
        request = self.method.request()
        request.CopyFrom(self.request)
        request.MergeFrom(message(self.method.request, page_token=token))
        return Pages(self.method, request, self.parse)


def read_attributes(
    customer_number: str,
    *,
    purpose: str,
    attributes: Iterable[str],
    max_form: Form | str | None,
    require_all: bool,
    request_id: str,
) -> Call[data.ReadAttributesRequest, data.ReadAttributesResponse, Disclosure]:
    request = message(
        data.ReadAttributesRequest,
        customer_number=customer_number,
        purpose=purpose,
        attributes=names("attributes", attributes),
        max_form=word("max_form", FORMS, max_form),
        require_all=require_all,
        request_id=request_id,
    )
    return Call(methods.READ, request, answers.disclosure)


def write_request(
    customer_number: str,
    values: Mapping[str, PyValue],
    *,
    clear: Iterable[str],
    expected_versions: Mapping[str, int] | None,
    jurisdictions: Iterable[str],
    request_id: str | None,
) -> data.WriteAttributesRequest:
    """The request of one write, alone or in a batch; it has a request id in any case."""
    values, expected = mapping("values", values), mapping("expected_versions", expected_versions)
    cleared = names("clear", clear)
    for attribute in cleared:
        if attribute in values:
            raise InvalidArgument.of(f"clear.{attribute}", "is set in the same write")
    for attribute in expected:
        if attribute not in values and attribute not in cleared:
            raise InvalidArgument.of(f"expected_versions.{attribute}", "is neither set nor cleared")
    writes = [
        _attribute_write(attribute, expected, value=to_value(f"values.{attribute}", value))
        for attribute, value in values.items()
    ]
    writes += [_attribute_write(attribute, expected, clear=True) for attribute in cleared]
    return message(
        data.WriteAttributesRequest,
        request_id=new_request_id(request_id),
        customer_number=customer_number,
        writes=writes,
        jurisdictions=names("jurisdictions", jurisdictions),
    )


def _attribute_write(attribute: str, expected: Mapping[str, int], **change: Any) -> data.AttributeWrite:
    return message(
        data.AttributeWrite, attribute=attribute, expected_version=expected.get(attribute), **change
    )


def write_attributes(
    request: data.WriteAttributesRequest,
) -> Call[data.WriteAttributesRequest, data.WriteAttributesResponse, WriteReceipt]:
    return Call(methods.WRITE, request, answers.write_receipt(request.request_id))


def record_consent(
    customer_number: str,
    *,
    purpose: str,
    state: ConsentState | str,
    channel: str,
    notice: str,
    notice_version: int,
    language: str,
    jurisdiction: str,
    evidence: str,
    valid_from: datetime.datetime | None,
    expires_at: datetime.datetime | None,
    jurisdictions: Iterable[str],
    request_id: str | None,
) -> Call[Any, Any, EventReceipt]:
    request = message(
        methods.RECORD_CONSENT.request,
        request_id=new_request_id(request_id),
        customer_number=customer_number,
        purpose=purpose,
        state=word("state", STATES, state),
        notice=notice,
        notice_version=notice_version,
        language=language,
        jurisdiction=jurisdiction,
        channel=channel,
        evidence=evidence,
        valid_from=optional_timestamp("valid_from", valid_from),
        expires_at=optional_timestamp("expires_at", expires_at),
        jurisdictions=names("jurisdictions", jurisdictions),
    )
    return Call(methods.RECORD_CONSENT, request, answers.event_receipt(request.request_id))


def withdraw_consent(
    customer_number: str, *, purpose: str, channel: str, evidence: str, request_id: str | None
) -> Call[Any, Any, EventReceipt]:
    return _event(
        methods.WITHDRAW_CONSENT,
        request_id,
        customer_number=customer_number,
        purpose=purpose,
        channel=channel,
        evidence=evidence,
    )


def restrict_subject(customer_number: str, *, request_id: str | None) -> Call[Any, Any, EventReceipt]:
    return _event(methods.RESTRICT_SUBJECT, request_id, customer_number=customer_number)


def lift_restriction(customer_number: str, *, request_id: str | None) -> Call[Any, Any, EventReceipt]:
    return _event(methods.LIFT_RESTRICTION, request_id, customer_number=customer_number)


def object_to_purpose(
    customer_number: str, *, purpose: str, lift: bool, channel: str, evidence: str, request_id: str | None
) -> Call[Any, Any, EventReceipt]:
    return _event(
        methods.OBJECT_TO_PURPOSE,
        request_id,
        customer_number=customer_number,
        purpose=purpose,
        lift=lift,
        channel=channel,
        evidence=evidence,
    )


def erase_subject(
    customer_number: str, *, dry_run: bool, scrub: bool, request_id: str | None
) -> Call[Any, Any, ErasureReceipt]:
    made = new_request_id(request_id)
    request = message(
        methods.ERASE_SUBJECT.request,
        request_id=made,
        customer_number=customer_number,
        dry_run=dry_run,
        scrub=scrub,
    )
    return Call(methods.ERASE_SUBJECT, request, answers.erasure_receipt(made))


def set_retention(
    customer_number: str,
    *,
    relationship_ended_on: datetime.date | str | None,
    legal_hold: str | None,
    request_id: str | None,
) -> Call[Any, Any, Retention]:
    if (relationship_ended_on is None) is (legal_hold is None):
        raise InvalidArgument.of("relationship_ended_on", "must be given, or legal_hold: one of the two")
    made = new_request_id(request_id)
    change = (
        {"legal_hold": legal_hold}
        if relationship_ended_on is None
        else {"relationship_ended_on": _day(relationship_ended_on)}
    )
    request = message(
        methods.SET_RETENTION.request, request_id=made, customer_number=customer_number, **change
    )
    return Call(methods.SET_RETENTION, request, answers.retention(made))


def get_erasure_evidence(receipt_id: str) -> Call[Any, Any, ErasureEvidence]:
    request = message(methods.GET_ERASURE_EVIDENCE.request, receipt_id=receipt_id)
    return Call(methods.GET_ERASURE_EVIDENCE, request, answers.erasure_evidence)


def _day(day: datetime.date | str) -> str:
    if isinstance(day, datetime.datetime):
        raise InvalidArgument.of("relationship_ended_on", "must be a day, not a moment")
    return day.isoformat() if isinstance(day, datetime.date) else day


def _event(method: Method[Any, Any], request_id: str | None, **values: Any) -> Call[Any, Any, EventReceipt]:
    made = new_request_id(request_id)
    return Call(method, message(method.request, request_id=made, **values), answers.event_receipt(made))


def get_consent(customer_number: str) -> Call[Any, Any, ConsentOverview]:
    request = message(methods.GET_CONSENT.request, customer_number=customer_number)
    return Call(methods.GET_CONSENT, request, answers.consent_overview)


def list_consent_events(customer_number: str, *, page_size: int) -> Pages[Any, Any, ConsentEvent]:
    request = message(
        methods.LIST_CONSENT_EVENTS.request, customer_number=customer_number, page_size=page_size
    )
    return Pages(methods.LIST_CONSENT_EVENTS, request, answers.consent_events)


def explain_decision(
    caller: str, *, purpose: str, attributes: Iterable[str], bases: Iterable[str], max_form: Form | str | None
) -> Call[Any, Any, DecisionExplanation]:
    request = message(
        methods.EXPLAIN_DECISION.request,
        caller=caller,
        purpose=purpose,
        attributes=names("attributes", attributes),
        bases=names("bases", bases),
        max_form=word("max_form", FORMS, max_form),
    )
    return Call(methods.EXPLAIN_DECISION, request, answers.decision_explanation)


def get_bundle(*, include_files: bool) -> Call[Any, Any, Bundle]:
    request = message(methods.GET_BUNDLE.request, include_files=include_files)
    return Call(methods.GET_BUNDLE, request, answers.bundle)


def query_records(
    *,
    start_time: datetime.datetime | None,
    end_time: datetime.datetime | None,
    caller: str,
    customer_number: str,
    purpose: str,
    attribute: str,
    outcome: str,
    action: str,
    newest_first: bool,
    page_size: int,
) -> Pages[Any, Any, LogRecord]:
    request = message(
        methods.QUERY_RECORDS.request,
        start_time=optional_timestamp("start_time", start_time),
        end_time=optional_timestamp("end_time", end_time),
        caller=caller,
        customer_number=customer_number,
        purpose=purpose,
        attribute=attribute,
        outcome=outcome,
        action=action,
        newest_first=newest_first,
        page_size=page_size,
    )
    return Pages(methods.QUERY_RECORDS, request, answers.log_records)


def get_checkpoint() -> Call[Any, Any, Checkpoint]:
    return Call(methods.GET_CHECKPOINT, methods.GET_CHECKPOINT.request(), answers.checkpoint)
