"""The SDK that services install: `Client`, its asyncio twin `AsyncClient`, and what they speak in.

It stands apart: besides the generated vault.v1 it needs grpcio, protobuf and googleapis-common-protos.
"""

from vault.client.async_client import AsyncClient
from vault.client.client import Client
from vault.client.connection import Connection
from vault.client.errors import (
    Aborted,
    AlreadyExists,
    AttributeNotDisclosed,
    ClientConfigurationError,
    DatavaultClientError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    NotPermitted,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Violation,
)
from vault.client.pacing import RetryPolicy
from vault.client.results import (
    Bundle,
    Checkpoint,
    ConsentEvent,
    ConsentOverview,
    DecisionExplanation,
    Denial,
    DisclosedAttribute,
    Disclosure,
    EventReceipt,
    Explanation,
    LogRecord,
    MatchingRule,
    PurposeConsent,
    ReadResult,
    WriteItem,
    WriteReceipt,
    WriteResult,
)
from vault.client.values import Json, PyValue
from vault.client.words import ConsentState, DenialReason, ErrorReason, Form

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "AttributeNotDisclosed",
    "Bundle",
    "Checkpoint",
    "Client",
    "ClientConfigurationError",
    "Connection",
    "ConsentEvent",
    "ConsentOverview",
    "ConsentState",
    "DatavaultClientError",
    "DeadlineExceeded",
    "DecisionExplanation",
    "Denial",
    "DenialReason",
    "DisclosedAttribute",
    "Disclosure",
    "ErrorReason",
    "EventReceipt",
    "Explanation",
    "FailedPrecondition",
    "Form",
    "Internal",
    "InvalidArgument",
    "Json",
    "LogRecord",
    "MatchingRule",
    "NotFound",
    "NotPermitted",
    "PurposeConsent",
    "PyValue",
    "ReadResult",
    "ResourceExhausted",
    "RetryPolicy",
    "Unauthenticated",
    "Unavailable",
    "Violation",
    "WriteItem",
    "WriteReceipt",
    "WriteResult",
]
