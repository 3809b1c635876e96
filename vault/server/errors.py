"""The one place where domain errors become gRPC status (api.md, "Errors").

Details: ErrorInfo (domain `datavault`, reason as in the proto enum), BadRequest for fields, RetryInfo for
overload. All details together stay under 4 KiB, else gRPC turns the error into RESOURCE_EXHAUSTED.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from vault.domain.errors import DatavaultError, ErrorReason, Violation
from vault.domain.limits import LIMITS
from vault.v1 import values_pb2

DOMAIN: Final = "datavault"
_DESCRIPTION_CHARACTERS: Final = 120
_MESSAGE_CHARACTERS: Final = 400

CODES: Final[Mapping[ErrorReason, grpc.StatusCode]] = {
    ErrorReason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorReason.NOT_PERMITTED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorReason.REQUIRE_ALL: grpc.StatusCode.PERMISSION_DENIED,
    ErrorReason.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorReason.PURPOSE_NOT_LEAF: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorReason.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorReason.REQUEST_ID_REUSED: grpc.StatusCode.ALREADY_EXISTS,
    ErrorReason.VERSION_MISMATCH: grpc.StatusCode.ABORTED,
    ErrorReason.SUBJECT_RESTRICTED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorReason.ANSWER_TOO_LARGE: grpc.StatusCode.OUT_OF_RANGE,
    ErrorReason.RECORD_TOO_LARGE: grpc.StatusCode.OUT_OF_RANGE,
    ErrorReason.QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorReason.AUDIT_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorReason.STORE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorReason.KEYS_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorReason.SHUTTING_DOWN: grpc.StatusCode.UNAVAILABLE,
    ErrorReason.INTEGRITY: grpc.StatusCode.DATA_LOSS,
    ErrorReason.INTERNAL: grpc.StatusCode.INTERNAL,
}
_RETRY: Final = frozenset(
    {
        ErrorReason.OVERLOADED,
        ErrorReason.QUOTA_EXCEEDED,
        ErrorReason.AUDIT_UNAVAILABLE,
        ErrorReason.STORE_UNAVAILABLE,
        ErrorReason.KEYS_UNAVAILABLE,
        ErrorReason.SHUTTING_DOWN,
    }
)


def status_of(error: DatavaultError) -> status_pb2.Status:
    """google.rpc.Status of a domain error, details within LIMITS.error_details_bytes."""
    status = status_pb2.Status(code=CODES[error.reason].value[0], message=error.message[:_MESSAGE_CHARACTERS])
    _add(status, error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN))
    if error.reason in _RETRY:
        seconds = error.retry_after_seconds or LIMITS.retry_after_seconds
        delay = duration_pb2.Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    if error.violations:
        _add(status, _bad_request(error.violations))
    return status


def item_error(error: DatavaultError) -> values_pb2.ItemError:
    """The error of one item of a batch."""
    return values_pb2.ItemError(
        code=CODES[error.reason].value[0],
        reason=values_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason.value}"),
        message=error.message[:_MESSAGE_CHARACTERS],
    )


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: DatavaultError) -> None:
    """End the call with the status of `error`; the caller returns right after (api.md)."""
    if error.violations:
        converted = rpc_status.to_status(status_of(error))
    else:
        converted = _plain_status(error.reason, error.message, error.retry_after_seconds)
    await context.abort(converted.code, converted.details, converted.trailing_metadata)


@lru_cache(256)
def _plain_status(reason: ErrorReason, message: str, retry_after_seconds: float | None) -> Any:
    """Under overload most calls end in the same few errors."""
    error = DatavaultError(message, retry_after_seconds=retry_after_seconds)
    error.reason = reason
    return rpc_status.to_status(status_of(error))


def _add(status: status_pb2.Status, detail: object) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)  # type: ignore[arg-type]
    status.details.append(packed)


def _bad_request(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    """The first violations that fit."""
    detail = error_details_pb2.BadRequest()
    for violation in violations[: LIMITS.error_violations]:
        detail.field_violations.add(
            field=violation.field[:_DESCRIPTION_CHARACTERS],
            description=violation.description[:_DESCRIPTION_CHARACTERS],
        )
    while detail.ByteSize() > LIMITS.error_details_bytes - 1_024:
        del detail.field_violations[-1]
    return detail
