"""From answers of vault.v1 to results: pure functions that both clients share.

Each raises Internal where the server answered something this client cannot read. What a newer server may
rightly say and this client does not know is UNRECOGNISED, and never a disclosure.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from vault.client.errors import Internal
from vault.client.results import (
    Bundle,
    Checkpoint,
    ConsentEvent,
    ConsentOverview,
    DecisionExplanation,
    Denial,
    DisclosedAttribute,
    Disclosure,
    ErasureEvidence,
    ErasureReceipt,
    EventReceipt,
    Explanation,
    LogRecord,
    MatchingRule,
    PurposeConsent,
    RetainedClass,
    Retention,
    WriteReceipt,
)
from vault.client.values import from_value, read_timestamp
from vault.client.words import DENIALS, FORMS, STATES, ConsentState, DenialReason, Form
from vault.v1 import audit_service_pb2 as audit
from vault.v1 import consent_service_pb2 as consent
from vault.v1 import data_service_pb2 as data
from vault.v1 import policy_service_pb2 as policy
from vault.v1 import rights_service_pb2 as rights


def disclosure(answer: data.ReadAttributesResponse) -> Disclosure:
    """The answer to one read."""
    attributes: dict[str, DisclosedAttribute] = {}
    denied: dict[str, Denial] = {}
    for result in answer.attributes:
        form = FORMS.word(result.form)
        if result.HasField("denial"):
            denied[result.name] = Denial(_denial(result.denial.reason), result.denial.detail)
        elif form is None:
            denied[result.name] = Denial(DenialReason.UNRECOGNISED, "a form that this client does not know")
        else:
            value = None if form is Form.EXISTS else from_value(result.value)
            attributes[result.name] = DisclosedAttribute(result.name, form, value, result.version)
    return Disclosure(
        attributes=MappingProxyType(attributes),
        denied=MappingProxyType(denied),
        record_id=answer.record.record_id,
        position=answer.record.position,
        bundle_hash=answer.bundle_hash,
    )


def write_receipt(request_id: str) -> Callable[[data.WriteAttributesResponse], WriteReceipt]:
    """Reads the answer to the write with this request id."""

    def read(answer: data.WriteAttributesResponse) -> WriteReceipt:
        return WriteReceipt(
            versions=MappingProxyType({each.attribute: each.version for each in answer.versions}),
            subject_created=answer.subject_created,
            replayed=answer.replayed,
            request_id=request_id,
            record_id=answer.record.record_id,
            position=answer.record.position,
        )

    return read


class _EventAnswer(Protocol):
    """What the answers of all calls that record an event have in common."""

    @property
    def token(self) -> consent.ConsentToken: ...
    @property
    def replayed(self) -> bool: ...


def event_receipt(request_id: str) -> Callable[[_EventAnswer], EventReceipt]:
    """Reads the answer to the event with this request id."""

    def read(answer: _EventAnswer) -> EventReceipt:
        token = answer.token
        return EventReceipt(
            event_id=token.event_id,
            seq=token.seq,
            effective=_purposes(getattr(answer, "effective", ())),
            replayed=answer.replayed,
            request_id=request_id,
            record_id=token.record.record_id,
            position=token.record.position,
        )

    return read


def erasure_receipt(request_id: str) -> Callable[[rights.EraseSubjectResponse], ErasureReceipt]:
    """Reads the answer to the erasure with this request id."""

    def read(answer: rights.EraseSubjectResponse) -> ErasureReceipt:
        return ErasureReceipt(
            receipt_id=answer.receipt_id,
            receipt=answer.receipt,
            signature=answer.signature,
            public_key=answer.public_key,
            erased=tuple(answer.erased),
            retained=tuple(map(_retained, answer.retained)),
            whole=answer.whole,
            scrubbed=answer.scrubbed,
            scrub_problem=answer.scrub_problem,
            replayed=answer.replayed,
            request_id=request_id,
            record_id=answer.record.record_id,
            position=answer.record.position,
        )

    return read


def retention(request_id: str) -> Callable[[rights.SetRetentionResponse], Retention]:
    """Reads the answer to the change of retention with this request id."""

    def read(answer: rights.SetRetentionResponse) -> Retention:
        return Retention(
            relationship_ended_on=_day(answer.relationship_ended_on),
            legal_hold=answer.legal_hold,
            replayed=answer.replayed,
            request_id=request_id,
            record_id=answer.record.record_id,
            position=answer.record.position,
        )

    return read


def erasure_evidence(answer: rights.GetErasureEvidenceResponse) -> ErasureEvidence:
    """The sealed consents of an erased customer."""
    return ErasureEvidence(
        evidence=answer.evidence,
        kept_until=_moment(answer, "kept_until"),
        record_id=answer.record.record_id,
        position=answer.record.position,
    )


def consent_overview(answer: consent.GetConsentResponse) -> ConsentOverview:
    """What is in force for one customer."""
    return ConsentOverview(
        purposes=_purposes(answer.purposes),
        jurisdictions=tuple(answer.jurisdictions),
        restricted=answer.restricted,
        record_id=answer.record.record_id,
        position=answer.record.position,
    )


def consent_events(answer: consent.ListConsentEventsResponse) -> list[ConsentEvent]:
    """One page of the ledger."""
    return [_consent_event(event) for event in answer.events]


def decision_explanation(answer: policy.ExplainDecisionResponse) -> DecisionExplanation:
    """One explanation per attribute."""
    return DecisionExplanation(
        explanations=tuple(map(_explanation, answer.explanations)),
        bundle_hash=answer.bundle_hash,
        record_id=answer.record.record_id,
        position=answer.record.position,
    )


def bundle(answer: policy.GetBundleResponse) -> Bundle:
    """The live policies."""
    return Bundle(
        bundle_hash=answer.bundle_hash,
        loaded_at=_moment(answer, "loaded_at"),
        files=MappingProxyType(dict(answer.files)),
        engine=answer.engine,
        record_id=answer.record.record_id,
        position=answer.record.position,
    )


def log_records(answer: audit.QueryRecordsResponse) -> list[LogRecord]:
    """One page of the log."""
    return [LogRecord(record.position, record.entry, record.log) for record in answer.records]


def checkpoint(answer: audit.GetCheckpointResponse) -> Checkpoint:
    """The newest checkpoint."""
    return Checkpoint(
        checkpoint=answer.checkpoint,
        verifier_key=answer.verifier_key,
        size=answer.size,
        record_id=answer.record.record_id,
        position=answer.record.position,
    )


def _denial(number: int) -> DenialReason:
    return DENIALS.word(number) or DenialReason.UNRECOGNISED


def _moment(message: Any, name: str) -> datetime.datetime | None:
    stamp: Timestamp = getattr(message, name)
    return read_timestamp(stamp) if message.HasField(name) else None


def _day(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if text else None
    except ValueError:
        raise Internal.unreadable("a day that is none") from None


def _retained(each: rights.RetainedClass) -> RetainedClass:
    return RetainedClass(
        key_class=each.key_class,
        ground=each.ground,
        legal_hold=each.legal_hold,
        ends_at=_moment(each, "ends_at"),
        purposes=tuple(each.purposes),
    )


def _purposes(purposes: Iterable[consent.PurposeConsent]) -> Mapping[str, PurposeConsent]:
    return MappingProxyType({each.purpose: _purpose_consent(each) for each in purposes})


def _purpose_consent(each: consent.PurposeConsent) -> PurposeConsent:
    return PurposeConsent(
        purpose=each.purpose,
        consented=each.consented,
        reason=_denial(each.reason) if each.reason else None,
        categories=tuple(each.categories),
        expires_at=_moment(each, "expires_at"),
        notice_version=each.notice_version,
        objected=each.objected,
        opted_out=each.opted_out,
        bases=tuple(each.bases),
    )


def _consent_event(event: consent.ConsentEvent) -> ConsentEvent:
    return ConsentEvent(
        event_id=event.event_id,
        seq=event.seq,
        purpose=event.purpose,
        state=STATES.word(event.state) or ConsentState.UNRECOGNISED,
        notice=event.notice,
        notice_version=event.notice_version,
        language=event.language,
        notice_sha256=event.notice_sha256,
        jurisdiction=event.jurisdiction,
        scope=MappingProxyType({each.purpose: tuple(each.categories) for each in event.scope}),
        channel=event.channel,
        evidence=event.evidence,
        valid_from=_moment(event, "valid_from"),
        expires_at=_moment(event, "expires_at"),
        recorded_by=event.recorded_by,
        recorded_at=_moment(event, "recorded_at"),
    )


def _explanation(each: policy.Explanation) -> Explanation:
    form = FORMS.word(each.form)
    return Explanation(
        attribute=each.attribute,
        form=form,
        reason=None if form else _denial(each.reason),
        rule=each.rule,
        rules=tuple(
            MatchingRule(rule.id, rule.line, rule.effect, rule.act, rule.basis, rule.basis_holds)
            for rule in each.rules
        ),
        wanted_bases=tuple(each.wanted_bases),
        text=each.text,
    )
