"""What both clients raise: details of the server, failures of the network, of TLS and of tokens."""

import copy
import dataclasses
import pickle
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.support.client import KINDS, Authority, Bank, client_of, fail, packed_status, running_bank
from vault.client import (
    Aborted,
    AlreadyExists,
    Client,
    Connection,
    DatavaultClientError,
    DeadlineExceeded,
    ErrorReason,
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
from vault.v1 import audit_service_pb2 as audit
from vault.v1 import data_service_pb2 as data

CLASSES = [
    (grpc.StatusCode.PERMISSION_DENIED, "REQUIRE_ALL", NotPermitted),
    (grpc.StatusCode.INVALID_ARGUMENT, "PURPOSE_NOT_LEAF", InvalidArgument),
    (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", Unauthenticated),
    (grpc.StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE", Unavailable),
    (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", AlreadyExists),
    (grpc.StatusCode.ABORTED, "VERSION_MISMATCH", Aborted),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", DeadlineExceeded),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", ResourceExhausted),
    (grpc.StatusCode.NOT_FOUND, "NOT_FOUND", NotFound),
    (grpc.StatusCode.FAILED_PRECONDITION, "SUBJECT_RESTRICTED", FailedPrecondition),
    (grpc.StatusCode.INTERNAL, "INTEGRITY", Internal),
    (grpc.StatusCode.DATA_LOSS, "INTEGRITY", Internal),
]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    with running_bank(tmp_path_factory.mktemp("bank")) as bank:
        yield bank


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, bank: Bank) -> str:
    bank.script.clear()
    return str(request.param)


def raised(kind: str, connection: Connection) -> DatavaultClientError:
    with client_of(kind, connection) as client, pytest.raises(DatavaultClientError) as caught:
        client.get_checkpoint()
    return caught.value


@pytest.mark.parametrize(("code", "reason", "error_class"), CLASSES)
def test_each_status_has_its_class_and_reason(
    kind: str, bank: Bank, code: grpc.StatusCode, reason: str, error_class: type[DatavaultClientError]
) -> None:
    """The exception has the class of the status, the reason of the ErrorInfo, and the server's message."""
    bank.script.on("GetCheckpoint", fail(code, reason, "told by the server"))
    error = raised(kind, bank.connection)
    assert type(error) is error_class
    assert (error.reason, error.code, error.message) == (ErrorReason(reason), code, "told by the server")


def test_violations_name_the_fields(kind: str, bank: Bank) -> None:
    """The field violations of BadRequest are in `violations`, in order."""
    handler = fail(
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        violations=[("writes[2].value", "must be a date"), ("purpose", "unknown")],
    )
    bank.script.on("GetCheckpoint", handler)
    wanted = (Violation("writes[2].value", "must be a date"), Violation("purpose", "unknown"))
    assert raised(kind, bank.connection).violations == wanted


def test_the_server_says_when_to_try_again(kind: str, bank: Bank) -> None:
    """The delay of RetryInfo is in `retry_after_seconds`."""
    bank.script.on("GetCheckpoint", fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_after=1.5))
    assert raised(kind, bank.connection).retry_after_seconds == 1.5


def test_a_reason_of_a_newer_server_is_unrecognised(kind: str, bank: Bank) -> None:
    """A reason that this client does not know keeps its class and message."""
    bank.script.on("GetCheckpoint", fail(grpc.StatusCode.ABORTED, "BRAND_NEW", "told"))
    error = raised(kind, bank.connection)
    assert (type(error), error.reason, error.message) == (Aborted, ErrorReason.UNRECOGNISED, "told")


def test_a_reason_of_another_domain_is_not_believed(kind: str, bank: Bank) -> None:
    """The ErrorInfo of a proxy or another service does not become our reason."""
    bank.script.on("GetCheckpoint", fail(grpc.StatusCode.ABORTED, "VERSION_MISMATCH", domain="proxy"))
    assert raised(kind, bank.connection).reason is ErrorReason.UNRECOGNISED


def test_details_that_contradict_the_status_are_ignored(kind: str, bank: Bank) -> None:
    """Details for another code than that of the call are not believed."""

    def contradict(_request: Any, context: Any) -> None:
        details = packed_status(grpc.StatusCode.ABORTED, "VERSION_MISMATCH")
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    bank.script.on("GetCheckpoint", contradict)
    error = raised(kind, bank.connection)
    assert (type(error), error.reason, error.message) == (NotFound, ErrorReason.NOT_FOUND, "gone")


def test_broken_details_leave_the_status(kind: str, bank: Bank) -> None:
    """Details that are no google.rpc.Status do not hide the error they came with."""

    def garble(_request: Any, context: Any) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")

    bank.script.on("GetCheckpoint", garble)
    error = raised(kind, bank.connection)
    assert (type(error), error.reason) == (NotPermitted, ErrorReason.NOT_PERMITTED)


def test_a_crash_of_the_server_is_internal(kind: str, bank: Bank) -> None:
    """An exception in a handler (UNKNOWN) becomes Internal."""

    def crash(_request: Any, _context: Any) -> None:
        raise RuntimeError

    bank.script.on("GetCheckpoint", crash)
    assert type(raised(kind, bank.connection)) is Internal


def test_a_method_the_server_lacks_is_an_error_of_the_base_class(kind: str, bank: Bank) -> None:
    """UNIMPLEMENTED has no class of its own and keeps its code."""
    error = raised(kind, bank.connection)
    assert (type(error), error.code) == (DatavaultClientError, grpc.StatusCode.UNIMPLEMENTED)


def test_a_call_that_the_server_drops_is_unavailable(kind: str, bank: Bank) -> None:
    """A stopping or flooded gRPC server ends calls as CANCELLED, which may be sent again like any other that
    found no server."""

    def drop(_request: Any, context: Any) -> None:
        context.abort(grpc.StatusCode.CANCELLED, "")

    bank.script.on("GetCheckpoint", drop)
    error = raised(kind, bank.connection)
    assert (type(error), error.reason, error.code) == (
        Unavailable,
        ErrorReason.UNREACHABLE,
        grpc.StatusCode.UNAVAILABLE,
    )


def test_no_server_is_unavailable(kind: str, bank: Bank) -> None:
    """Where nothing listens the client raises Unavailable with the reason UNREACHABLE."""
    nowhere = dataclasses.replace(bank.connection, address="localhost:1")
    error = raised(kind, nowhere)
    assert (type(error), error.reason) == (Unavailable, ErrorReason.UNREACHABLE)


def test_a_server_of_another_authority_is_a_tls_failure(kind: str, bank: Bank, tmp_path: Any) -> None:
    """A server whose certificate our CA did not issue is refused, and the message says so."""
    foreign = Authority(tmp_path / "foreign")
    error = raised(kind, dataclasses.replace(bank.connection, ca_certificate=foreign.ca.certificate))
    assert (type(error), error.reason) == (Unavailable, ErrorReason.TLS_FAILED)
    assert "its certificate does not match" in error.message


def test_a_server_of_another_name_is_a_tls_failure(kind: str, bank: Bank) -> None:
    """A server whose certificate bears another name is refused."""
    error = raised(kind, dataclasses.replace(bank.connection, server_name="other.bank.example"))
    assert error.reason is ErrorReason.TLS_FAILED


def test_the_server_name_stands_in_for_the_address(kind: str, bank: Bank) -> None:
    """With server_name the certificate is checked against that name instead of the host of the address."""
    bank.script.says("GetCheckpoint", audit.GetCheckpointResponse(size=1))
    address = bank.connection.address.replace("localhost", "127.0.0.1")
    named = dataclasses.replace(bank.connection, address=f"https://{address}", server_name="localhost")
    with client_of(kind, named) as client:
        assert client.get_checkpoint().size == 1


def test_a_client_certificate_of_another_authority_is_refused(kind: str, bank: Bank, tmp_path: Any) -> None:
    """A server that does not accept our certificate makes Unavailable, never an answer."""
    foreign = Authority(tmp_path / "foreign").issue("engine.bank.example")
    error = raised(
        kind,
        dataclasses.replace(bank.connection, client_certificate=foreign.certificate, client_key=foreign.key),
    )
    assert type(error) is Unavailable
    assert "refused" in error.message
    assert not bank.script.got("GetCheckpoint")


def test_a_token_is_sent_with_each_call(kind: str, bank: Bank) -> None:
    """A callable token is asked at every call, and goes out as a bearer token."""
    seen: list[Any] = []

    def note(_request: Any, context: Any) -> Any:
        seen.append(dict(context.invocation_metadata())["authorization"])
        return audit.GetCheckpointResponse()

    bank.script.on("GetCheckpoint", note)
    tokens = iter(["one", "two"])
    with client_of(kind, dataclasses.replace(bank.token_connection, token=lambda: next(tokens))) as client:
        client.get_checkpoint()
        client.get_checkpoint()
    assert seen == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("token", ["two\nlines", "  ", "ümlaut"])
def test_a_token_that_is_none_is_not_sent(kind: str, bank: Bank, token: str) -> None:
    """What no header can carry ends the call before the server hears of it, and is not quoted."""
    error = raised(kind, dataclasses.replace(bank.token_connection, token=token))
    assert not bank.script.got("GetCheckpoint")
    assert not token.strip() or token not in str(error)


def test_a_failing_token_source_is_not_quoted(kind: str, bank: Bank) -> None:
    """An error of the callable ends the call without showing its text, which could hold the token."""

    def broken() -> str:
        raise RuntimeError("secret-token")

    error = raised(kind, dataclasses.replace(bank.token_connection, token=broken))
    assert "secret-token" not in str(error)


def test_a_token_does_not_open_the_certificate_port(kind: str, bank: Bank) -> None:
    """Without a client certificate the main port gives no answer."""
    error = raised(kind, dataclasses.replace(bank.token_connection, address=bank.connection.address))
    assert type(error) is Unavailable
    assert not bank.script.got("GetCheckpoint")


def test_a_message_over_the_limit_is_not_sent(kind: str, bank: Bank) -> None:
    """A request over 4 MiB raises ResourceExhausted in the client."""
    bank.script.says("WriteAttributes", data.WriteAttributesResponse())
    with client_of(kind, bank.connection) as client, pytest.raises(ResourceExhausted):
        client.write_attributes("4711", {"note": "x" * (4 * 1024 * 1024)})
    assert not bank.script.got("WriteAttributes")


def test_a_closed_client_makes_no_calls(kind: str, bank: Bank) -> None:
    """After the end of its block a client raises Unavailable with the reason CLOSED, streams included."""
    with client_of(kind, bank.connection) as client:
        pass
    with pytest.raises(Unavailable) as caught:
        client.get_checkpoint()
    assert caught.value.reason is ErrorReason.CLOSED
    with pytest.raises(Unavailable) as caught:
        list(client.read_many(["1"], purpose="p", attributes=["a"]))
    assert caught.value.reason is ErrorReason.CLOSED


def test_errors_survive_pickling(bank: Bank) -> None:
    """An error that crosses processes keeps its class, reason and violations."""
    bank.script.clear()
    error = raised("sync", bank.connection)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert (type(twin), twin.reason, twin.message) == (type(error), error.reason, error.message)


def test_a_client_needs_readable_certificates(bank: Bank, tmp_path: Any) -> None:
    """A client whose key went away is refused when it is made, naming the file."""
    gone = dataclasses.replace(bank.connection, client_key=tmp_path / "gone.key")
    with pytest.raises(DatavaultClientError, match=r"client_key: .*gone\.key cannot be read"):
        Client(gone)
