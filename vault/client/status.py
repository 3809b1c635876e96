"""From a failed gRPC call to one exception with its reason.

The details are a google.rpc.Status in the trailing metadata `grpc-status-details-bin` (grpc,
"Richer error model"). It is read here because grpcio-status is no dependency of the client.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from vault.client.errors import (
    Aborted,
    AlreadyExists,
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
from vault.client.words import ERRORS, ErrorReason
from vault.v1 import values_pb2

DETAILS_KEY: Final = "grpc-status-details-bin"
DOMAIN: Final = "datavault"

_CLASSES: Final[dict[grpc.StatusCode, type[DatavaultClientError]]] = {
    grpc.StatusCode.PERMISSION_DENIED: NotPermitted,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.DATA_LOSS: Internal,
    grpc.StatusCode.UNKNOWN: Internal,
}
_UNTOLD: Final = {
    grpc.StatusCode.PERMISSION_DENIED: ErrorReason.NOT_PERMITTED,
    grpc.StatusCode.INVALID_ARGUMENT: ErrorReason.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED: ErrorReason.UNAUTHENTICATED,
    grpc.StatusCode.UNAVAILABLE: ErrorReason.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ErrorReason.DEADLINE_EXCEEDED,
    grpc.StatusCode.NOT_FOUND: ErrorReason.NOT_FOUND,
    grpc.StatusCode.INTERNAL: ErrorReason.INTERNAL,
}
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
# what the TLS libraries under grpc say when a handshake fails, on either side of it
_HANDSHAKE: Final = re.compile(
    r"handshake|TSI_|SSL_ERROR|tls(?:v1)?[ _]alert|certificate|hostname verification", re.IGNORECASE
)
# with TLS 1.3 a server that refuses the client's certificate closes the connection after the handshake
_CLOSED: Final = re.compile(r"socket closed|connection reset|broken pipe", re.IGNORECASE)
# grpc.aio replaces the server's status by this when it writes to a stream that has just ended
# (grpc issue 36066); the true status shows when the stream is resumed
_LOST_STATUS: Final = "Internal error from Core"


def from_rpc_error(error: grpc.RpcError) -> DatavaultClientError:
    """The exception for a failed call, whether from a synchronous or an asyncio channel."""
    code = error.code()
    text = error.details() or ""
    status = _rich_status(code, error.trailing_metadata() or ())
    info = next(_unpacked(status, error_details_pb2.ErrorInfo), None)
    if info is None or info.domain != DOMAIN:
        return _untold(code, text)
    word = ERRORS.word(_number(info.reason))
    return _CLASSES.get(code, DatavaultClientError)(
        word or ErrorReason.UNRECOGNISED, text, code, _violations(status), _retry_after(status)
    )


def from_item_error(error: values_pb2.ItemError) -> DatavaultClientError:
    """The exception for one item of a batch."""
    code = _CODES.get(error.code, grpc.StatusCode.UNKNOWN)
    word = ERRORS.word(error.reason) or _UNTOLD.get(code, ErrorReason.UNRECOGNISED)
    return _CLASSES.get(code, DatavaultClientError)(word, error.message, code)


def stream_ended() -> Unavailable:
    """The failure of a stream that ended well, but before it answered everything."""
    return Unavailable(
        ErrorReason.UNREACHABLE,
        "the stream ended before all results had come",
        grpc.StatusCode.UNAVAILABLE,
    )


def _untold(code: grpc.StatusCode, text: str) -> DatavaultClientError:
    """The failures that gRPC itself, a proxy or the network reports."""
    reason = _UNTOLD.get(code, ErrorReason.UNRECOGNISED)
    if code is grpc.StatusCode.UNAVAILABLE and _HANDSHAKE.search(text):
        reason = ErrorReason.TLS_FAILED
        text = (
            "the server refused the connection or its certificate does not match: check that the address, "
            f"the CA and the client certificate belong together ({text})"
        )
    elif code is grpc.StatusCode.UNAVAILABLE and _CLOSED.search(text):
        text = (
            f"the server closed the connection: it is stopping, or it refused the client certificate ({text})"
        )
    elif code is grpc.StatusCode.UNAVAILABLE:
        text = f"the server cannot be reached ({text})"
    elif code is grpc.StatusCode.INTERNAL and text == _LOST_STATUS:
        code, reason = grpc.StatusCode.UNAVAILABLE, ErrorReason.UNREACHABLE
        text = "the server ended the stream while it was written to"
    elif code is grpc.StatusCode.CANCELLED:
        # who gives up a call here is told by no status: gRPC on the other side dropped it, unanswered, as it
        # does with calls that came while the server stopped, or came in a flood
        code, reason = grpc.StatusCode.UNAVAILABLE, ErrorReason.UNREACHABLE
        text = "the server dropped the call unanswered: it is stopping or overloaded"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        text = "no answer within the time given"
    return _CLASSES.get(code, DatavaultClientError)(reason, text, code)


def _number(reason: str) -> int:
    return ERRORS.number(reason) or 0


def _rich_status(code: grpc.StatusCode, metadata: Iterable[Any]) -> Any:
    """The details, or none of them where they are missing, broken or contradict the status of the call."""
    for key, value in metadata:
        if key != DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:
            break
        if status.code == code.value[0]:
            return status
    return status_pb2.Status()


def _unpacked(status: Any, kind: Any) -> Iterator[Any]:
    for detail in status.details:
        if not detail.Is(kind.DESCRIPTOR):
            continue
        message = kind()
        try:
            detail.Unpack(message)
        except DecodeError:
            continue
        yield message


def _violations(status: Any) -> tuple[Violation, ...]:
    return tuple(
        Violation(violation.field, violation.description)
        for bad in _unpacked(status, error_details_pb2.BadRequest)
        for violation in bad.field_violations
    )


def _retry_after(status: Any) -> float | None:
    info = next(_unpacked(status, error_details_pb2.RetryInfo), None)
    if info is None:
        return None
    return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
