"""Calls without the SDK: exactly these bytes go out, and every detail of an error is looked at."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from vault.client.values import to_value
from vault.v1 import (
    audit_service_pb2_grpc,
    consent_service_pb2_grpc,
    data_service_pb2_grpc,
    policy_service_pb2_grpc,
    rights_service_pb2_grpc,
    values_pb2,
)
from vault.v1 import data_service_pb2 as data

DETAILS_BYTES: Final = 4 * 1024
_REQUESTS = itertools.count(1)

data_stub = data_service_pb2_grpc.DataServiceStub
consent_stub = consent_service_pb2_grpc.ConsentServiceStub
rights_stub = rights_service_pb2_grpc.RightsServiceStub
policy_stub = policy_service_pb2_grpc.PolicyServiceStub
audit_stub = audit_service_pb2_grpc.AuditServiceStub


def request_id() -> str:
    """One that this process has not used."""
    return f"wire-{next(_REQUESTS)}"


def read_request(number: str, purpose: str, attributes: Iterable[str], **more: Any) -> Any:
    return data.ReadAttributesRequest(
        customer_number=number, purpose=purpose, attributes=list(attributes), **more
    )


def write_request(number: str, values: Mapping[str, Any], **more: Any) -> Any:
    """A write of `values`, given as to the SDK or as `Value` messages."""
    details = {"request_id": request_id(), "jurisdictions": ["EU"], **more}
    writes = [
        data.AttributeWrite(
            attribute=name, value=value if isinstance(value, values_pb2.Value) else to_value(name, value)
        )
        for name, value in values.items()
    ]
    return data.WriteAttributesRequest(customer_number=number, writes=writes, **details)


@dataclass(frozen=True)
class Failure:
    """An error as it went over the wire. `reason` and `domain` are those of ErrorInfo; `details_bytes` is
    the size of all metadata, `text` all that was said, for searching."""

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    fields: dict[str, str]
    retry_seconds: float | None
    details_bytes: int
    text: str


def failure_of(error: Any) -> Failure:
    """Everything an error says."""
    reason = domain = ""
    fields: dict[str, str] = {}
    retry: float | None = None
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        again = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, domain = info.reason, info.domain
        elif detail.Unpack(bad):
            fields = {each.field: each.description for each in bad.field_violations}
        elif detail.Unpack(again):
            retry = again.retry_delay.ToNanoseconds() / 1e9
    metadata = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
    size = sum(len(key) + len(value) for key, value in metadata)
    return Failure(
        error.code(),
        error.details(),
        reason,
        domain,
        fields,
        retry,
        size,
        f"{error.details()} {metadata!r}",
    )


def refused(call: Callable[[], Any]) -> Failure:
    """The error of a call that must fail; its details are small, as all errors' must be."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    failure = failure_of(caught.value)
    assert failure.details_bytes < DETAILS_BYTES
    return failure
