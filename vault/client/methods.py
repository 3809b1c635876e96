"""The methods of vault.v1 that the client calls, with their message types."""

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from vault.v1 import audit_service_pb2 as audit
from vault.v1 import consent_service_pb2 as consent
from vault.v1 import data_service_pb2 as data
from vault.v1 import key_service_pb2 as key
from vault.v1 import policy_service_pb2 as policy
from vault.v1 import rights_service_pb2 as rights

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, A]):
    """One method: its path on the wire, the type of its request and of its answer."""

    path: str
    request: type[Q]
    answer: type[A]


def _method(service: str, name: str, request: type[Q], answer: type[A]) -> Method[Q, A]:
    return Method(f"/vault.v1.{service}/{name}", request, answer)


READ: Final = _method(
    "DataService", "ReadAttributes", data.ReadAttributesRequest, data.ReadAttributesResponse
)
WRITE: Final = _method(
    "DataService", "WriteAttributes", data.WriteAttributesRequest, data.WriteAttributesResponse
)
BATCH_READ: Final = _method(
    "DataService", "BatchReadAttributes", data.BatchReadAttributesRequest, data.BatchReadAttributesResponse
)
BATCH_WRITE: Final = _method(
    "DataService", "BatchWriteAttributes", data.BatchWriteAttributesRequest, data.BatchWriteAttributesResponse
)
RECORD_CONSENT: Final = _method(
    "ConsentService", "RecordConsent", consent.RecordConsentRequest, consent.RecordConsentResponse
)
WITHDRAW_CONSENT: Final = _method(
    "ConsentService", "WithdrawConsent", consent.WithdrawConsentRequest, consent.WithdrawConsentResponse
)
GET_CONSENT: Final = _method(
    "ConsentService", "GetConsent", consent.GetConsentRequest, consent.GetConsentResponse
)
LIST_CONSENT_EVENTS: Final = _method(
    "ConsentService", "ListConsentEvents", consent.ListConsentEventsRequest, consent.ListConsentEventsResponse
)
RESTRICT_SUBJECT: Final = _method(
    "RightsService", "RestrictSubject", rights.RestrictSubjectRequest, rights.RestrictSubjectResponse
)
LIFT_RESTRICTION: Final = _method(
    "RightsService", "LiftRestriction", rights.LiftRestrictionRequest, rights.LiftRestrictionResponse
)
OBJECT_TO_PURPOSE: Final = _method(
    "RightsService", "ObjectToPurpose", rights.ObjectToPurposeRequest, rights.ObjectToPurposeResponse
)
ERASE_SUBJECT: Final = _method(
    "RightsService", "EraseSubject", rights.EraseSubjectRequest, rights.EraseSubjectResponse
)
SET_RETENTION: Final = _method(
    "RightsService", "SetRetention", rights.SetRetentionRequest, rights.SetRetentionResponse
)
GET_ERASURE_EVIDENCE: Final = _method(
    "RightsService", "GetErasureEvidence", rights.GetErasureEvidenceRequest, rights.GetErasureEvidenceResponse
)
EXPLAIN_DECISION: Final = _method(
    "PolicyService", "ExplainDecision", policy.ExplainDecisionRequest, policy.ExplainDecisionResponse
)
GET_BUNDLE: Final = _method("PolicyService", "GetBundle", policy.GetBundleRequest, policy.GetBundleResponse)
QUERY_RECORDS: Final = _method(
    "AuditService", "QueryRecords", audit.QueryRecordsRequest, audit.QueryRecordsResponse
)
GET_CHECKPOINT: Final = _method(
    "AuditService", "GetCheckpoint", audit.GetCheckpointRequest, audit.GetCheckpointResponse
)

GET_KEY_STATUS: Final = _method(
    "KeyService", "GetKeyStatus", key.GetKeyStatusRequest, key.GetKeyStatusResponse
)
ROTATE_KEY: Final = _method("KeyService", "RotateKey", key.RotateKeyRequest, key.RotateKeyResponse)
REWRAP_KEYS: Final = _method("KeyService", "RewrapKeys", key.RewrapKeysRequest, key.RewrapKeysResponse)
ROTATE_LOOKUP_KEY: Final = _method(
    "KeyService", "RotateLookupKey", key.RotateLookupKeyRequest, key.RotateLookupKeyResponse
)
REKEY_SUBJECT: Final = _method(
    "KeyService", "RekeySubject", key.RekeySubjectRequest, key.RekeySubjectResponse
)

STREAMING: Final = (BATCH_READ, BATCH_WRITE, REWRAP_KEYS, ROTATE_LOOKUP_KEY)
ONCE: Final = (ROTATE_KEY,)
"""Unary too, but what it does twice is done twice."""
UNARY: Final = (
    READ,
    WRITE,
    RECORD_CONSENT,
    WITHDRAW_CONSENT,
    GET_CONSENT,
    LIST_CONSENT_EVENTS,
    RESTRICT_SUBJECT,
    LIFT_RESTRICTION,
    OBJECT_TO_PURPOSE,
    ERASE_SUBJECT,
    SET_RETENTION,
    GET_ERASURE_EVIDENCE,
    EXPLAIN_DECISION,
    GET_BUNDLE,
    QUERY_RECORDS,
    GET_CHECKPOINT,
    GET_KEY_STATUS,
    REKEY_SUBJECT,
)
