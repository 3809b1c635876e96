"""A scripted server with the generated servicers over real TLS, and one face for both clients."""

import asyncio
import contextlib
import datetime
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from vault.client import AsyncClient, Client, Connection, RetryPolicy
from vault.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    consent_service_pb2,
    consent_service_pb2_grpc,
    data_service_pb2_grpc,
    key_service_pb2,
    key_service_pb2_grpc,
    policy_service_pb2,
    policy_service_pb2_grpc,
    rights_service_pb2,
    rights_service_pb2_grpc,
)
from vault.v1 import data_service_pb2 as data

KINDS = ("sync", "async")
AT_ONCE = RetryPolicy(attempts=3, first_seconds=0.0, longest_seconds=0.0)
SERVICES = (
    (data.DESCRIPTOR, data_service_pb2_grpc, "DataService"),
    (consent_service_pb2.DESCRIPTOR, consent_service_pb2_grpc, "ConsentService"),
    (rights_service_pb2.DESCRIPTOR, rights_service_pb2_grpc, "RightsService"),
    (policy_service_pb2.DESCRIPTOR, policy_service_pb2_grpc, "PolicyService"),
    (audit_service_pb2.DESCRIPTOR, audit_service_pb2_grpc, "AuditService"),
    (key_service_pb2.DESCRIPTOR, key_service_pb2_grpc, "KeyService"),
)
Handler = Callable[[Any, Any], Any]


# --- certificates -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Issued:
    """Paths of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder; its own certificate is `ca.certificate`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"CA {folder.name}")])
        unsigned = _builder(self._name, self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca = _write(folder, "ca", unsigned.sign(self._key, hashes.SHA256()), self._key)

    def issue(self, name: str) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        unsigned = (
            _builder(subject, self._name, key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(usages, critical=False)
        )
        return _write(self._folder, name, unsigned.sign(self._key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    issued = Issued(folder / f"{name}.pem", folder / f"{name}.key")
    issued.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    issued.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return issued


# --- the server -------------------------------------------------------------------------------------------


@dataclass
class Script:
    """What the server answers, per method name, and the requests it got since the last `clear`."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    requests: dict[str, list[Any]] = field(default_factory=dict)

    def on(self, method: str, *handlers: Handler) -> None:
        """Answer `method` by these handlers in turn; the last one stays."""
        left = list(handlers)

        def run(request: Any, context: Any) -> Any:
            return (left.pop(0) if len(left) > 1 else left[0])(request, context)

        self.handlers[method] = run

    def says(self, method: str, answer: Any) -> None:
        self.on(method, lambda _request, _context: answer)

    def got(self, method: str) -> list[Any]:
        return self.requests.get(method, [])

    def clear(self) -> None:
        self.handlers.clear()
        self.requests.clear()

    def run(self, method: str, request: Any, context: Any) -> Any:
        if not hasattr(request, "__next__"):
            self.requests.setdefault(method, []).append(request)
        handler = self.handlers.get(method)
        if handler is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "not in the script")
            raise AssertionError("abort raises")
        return handler(request, context)

    def stream(self, method: str, chunks: Iterator[Any]) -> Iterator[Any]:
        """The chunks of one stream, kept as one list among the requests."""
        kept: list[Any] = []
        self.requests.setdefault(method, []).append(kept)
        for chunk in chunks:
            kept.append(chunk)
            yield chunk


@dataclass(frozen=True)
class Bank:
    """A running server: its script, its authority, and a good connection to each of its two ports."""

    script: Script
    authority: Authority
    connection: Connection
    token_connection: Connection


@contextlib.contextmanager
def running_bank(folder: Path) -> Iterator[Bank]:
    """A server with a port for client certificates and one for tokens."""
    authority, script = Authority(folder / "bank"), Script()
    own, caller = authority.issue("localhost"), authority.issue("engine.bank.example")
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    for descriptor, module, service in SERVICES:
        servicer = _servicer(script, getattr(module, f"{service}Servicer"), descriptor, service)
        getattr(module, f"add_{service}Servicer_to_server")(servicer, server)
    pair = [(own.key.read_bytes(), own.certificate.read_bytes())]
    ca = authority.ca.certificate
    strict = grpc.ssl_server_credentials(pair, ca.read_bytes(), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", strict)
    token_port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
    server.start()
    try:
        yield Bank(
            script,
            authority,
            Connection(f"localhost:{port}", ca, caller.certificate, caller.key),
            Connection(f"localhost:{token_port}", ca, token="token-one"),
        )
    finally:
        server.stop(None).wait()


def _servicer(script: Script, base: type, descriptor: Any, service: str) -> Any:
    def method(name: str) -> Any:
        return lambda _self, request, context: script.run(name, request, context)

    names = [each.name for each in descriptor.services_by_name[service].methods]
    return type(f"Scripted{service}", (base,), {name: method(name) for name in names})()


def fail(
    code: grpc.StatusCode,
    reason: str = "",
    message: str = "",
    *,
    domain: str = "datavault",
    violations: Iterable[tuple[str, str]] = (),
    retry_after: float | None = None,
) -> Handler:
    """A handler that aborts with the details the real server sends."""

    def run(_request: Any, context: Any) -> Any:
        abort(context, code, reason, message, domain=domain, violations=violations, retry_after=retry_after)

    return run


def abort(
    context: Any,
    code: grpc.StatusCode,
    reason: str = "",
    message: str = "",
    *,
    domain: str = "datavault",
    violations: Iterable[tuple[str, str]] = (),
    retry_after: float | None = None,
) -> None:
    """Abort the call, with the details the real server sends."""
    details: list[Any] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    fields = [
        error_details_pb2.BadRequest.FieldViolation(field=name, description=text) for name, text in violations
    ]
    if fields:
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code.value[0], message=message, details=list(map(_packed, details)))
    context.abort_with_status(rpc_status.to_status(status))


def packed_status(code: grpc.StatusCode, reason: str) -> bytes:
    """The bytes of a google.rpc.Status with this reason, as they stand in the trailing metadata."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="datavault")
    status = status_pb2.Status(code=code.value[0], message="", details=[_packed(info)])
    encoded: bytes = status.SerializeToString()
    return encoded


def _packed(detail: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


# --- one face for both clients ----------------------------------------------------------------------------


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """One event loop for all tests of a process: grpc.aio serves several of them poorly."""
    return asyncio.new_event_loop()


class _Blocking:
    """An AsyncClient behind the face of a Client."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if inspect.isawaitable(result):
                return loop().run_until_complete(_awaited(result))
            return _drawn(result)

        return call


async def _awaited(result: Any) -> Any:
    return await result


def _drawn(results: Any) -> Iterator[Any]:
    end = object()

    async def draw() -> Any:
        return await anext(results, end)

    try:
        while (item := loop().run_until_complete(draw())) is not end:
            yield item
    finally:
        loop().run_until_complete(results.aclose())


@contextlib.contextmanager
def client_of(kind: str, connection: Connection, **options: Any) -> Iterator[Any]:
    """A client of either kind, with the methods of the synchronous one."""
    options.setdefault("retry", AT_ONCE)
    if kind == "sync":
        with Client(connection, **options) as client:
            yield client
        return

    async def opened() -> AsyncClient:
        return await AsyncClient(connection, **options).__aenter__()

    asynchronous = loop().run_until_complete(opened())
    try:
        yield _Blocking(asynchronous)
    finally:
        loop().run_until_complete(asynchronous.close())
