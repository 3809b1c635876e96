"""A reverse proxy before the KMS for the faults that the real server cannot be made to show.

It ends TLS with a certificate of its own, passes every request on, and answers as a `Fault` says while one is
set: a status, nothing, half an answer, an answer byte by byte, the connection cut before or after the KMS did
what it was asked.

    with kms_proxy(folder, server.address, server.ca_certificate) as proxy:
        with proxy.trouble(Status(429)): ...
"""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Protocol

import requests

from vault.domain.system import SystemClock, SystemRandomness
from vault.identity.authority import Authority

_KMS_SECONDS: Final = 60.0
_TRICKLE_SECONDS: Final = 0.05
_HOP_BY_HOP: Final = frozenset({"host", "connection", "content-length", "accept-encoding"})


@dataclass(frozen=True)
class Forwarded:
    """What the KMS answered."""

    status: int
    body: bytes


class Exchange(Protocol):
    """One request, as a fault sees it."""

    path: str
    healed: threading.Event

    def forward(self) -> Forwarded:
        """Have the KMS answer it."""

    def send(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        """Answer, perhaps with less of a body than is promised."""

    def more(self, body: bytes) -> None:
        """More of the body."""

    def cut(self) -> None:
        """Close the connection."""


class Fault(Protocol):
    """How requests are answered instead."""

    def answer(self, exchange: Exchange) -> None: ...


@dataclass(frozen=True)
class Status:
    """The KMS is not asked; its words are those of Vault."""

    code: int
    says: str = "the test says so"

    def answer(self, exchange: Exchange) -> None:
        exchange.send(self.code, json.dumps({"errors": [self.says]}).encode())


@dataclass(frozen=True)
class Page:
    """The KMS is not asked; a load balancer answers with a page of its own."""

    code: int

    def answer(self, exchange: Exchange) -> None:
        exchange.send(self.code, b"<html><body>503 Service Unavailable</body></html>")


@dataclass(frozen=True)
class Silence:
    """The request is taken and nothing is answered."""

    def answer(self, exchange: Exchange) -> None:
        exchange.healed.wait()
        exchange.cut()


@dataclass(frozen=True)
class LostRequest:
    """The connection is cut before the KMS hears of it."""

    def answer(self, exchange: Exchange) -> None:
        exchange.cut()


@dataclass(frozen=True)
class LostAnswer:
    """The KMS does it, and the connection is cut before its answer."""

    def answer(self, exchange: Exchange) -> None:
        exchange.forward()
        exchange.cut()


@dataclass(frozen=True)
class HalfAnswer:
    """The connection is cut in the middle of the answer."""

    def answer(self, exchange: Exchange) -> None:
        answer = exchange.forward()
        exchange.send(answer.status, answer.body[: len(answer.body) // 2], len(answer.body))
        exchange.cut()


@dataclass(frozen=True)
class Trickle:
    """The answer comes byte by byte, each in time for a timeout that counts from the byte before, and never
    ends."""

    def answer(self, exchange: Exchange) -> None:
        exchange.send(200, b"{", 1_000_000)
        with contextlib.suppress(OSError):
            while not exchange.healed.wait(_TRICKLE_SECONDS):
                exchange.more(b" ")
        exchange.cut()


class KmsProxy:
    """`address` and `ca_certificate` are what the service is to be told instead of the KMS's own."""

    def __init__(self, folder: Path, upstream: str, upstream_ca: Path) -> None:
        self.upstream = upstream
        self.upstream_ca = upstream_ca
        self._guard = threading.Lock()
        self._fault: tuple[Fault, Callable[[str], bool], threading.Event] | None = None
        self._open: set[socket.socket] = set()
        self._requests: list[str] = []
        self.ca_certificate = folder / "ca.pem"
        self.present(Authority.open(folder, SystemClock(), SystemRandomness()), folder)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.address = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def present(self, authority: Authority, folder: Path) -> None:
        """Serve with a new certificate of `authority`; connections that are open go on."""
        certificate, key = authority.issue_server(["localhost"], ["127.0.0.1"]).write(folder, "proxy")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.context = context

    @contextlib.contextmanager
    def trouble(self, fault: Fault, where: str = "") -> Iterator[None]:
        """Inside the block requests whose path has `where` in it meet the fault. At its end connections that
        met it are let go."""
        healed = threading.Event()
        with self._guard:
            self._fault = fault, lambda path: where in path, healed
        try:
            yield
        finally:
            with self._guard:
                self._fault = None
            healed.set()

    def cut(self) -> None:
        """Close every connection; new ones are taken."""
        with self._guard:
            opened, self._open = self._open, set()
        for each in opened:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def requests(self, where: str = "") -> int:
        """How many requests came so far whose path has `where` in it."""
        with self._guard:
            return sum(where in path for path in self._requests)

    def close(self) -> None:
        """End everything."""
        self._server.shutdown()
        self.cut()
        self._server.server_close()
        self._thread.join()

    # --- on the connections' threads -----------------------------------------------------------------------

    def connected(self, connection: socket.socket) -> None:
        with self._guard:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._guard:
            self._open.discard(connection)

    def handle(self, exchange: "_Handler") -> None:
        with self._guard:
            self._requests.append(exchange.path)
            fault = self._fault
        if fault is not None and fault[1](exchange.path):
            exchange.healed = fault[2]
            fault[0].answer(exchange)
            return
        try:
            answer = exchange.forward()
        except requests.RequestException:
            exchange.cut()
            return
        exchange.send(answer.status, answer.body)


@contextlib.contextmanager
def kms_proxy(folder: Path, upstream: str, upstream_ca: Path) -> Iterator[KmsProxy]:
    """A proxy to the KMS at `upstream`, gone at the end of the block. `folder` gets its CA."""
    proxy = KmsProxy(folder, upstream, upstream_ca)
    try:
        yield proxy
    finally:
        proxy.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # a thread that waits in a silent connection must not hold up the end
    block_on_close = False
    proxy: KmsProxy

    def finish_request(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError), self.proxy.context.wrap_socket(request, server_side=True) as tls:
            self.proxy.connected(tls)
            try:
                super().finish_request(tls, client_address)
            finally:
                self.proxy.closed(tls)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # head and body go out apart: held back, the second waits for the client's delayed acknowledgement
    disable_nagle_algorithm = True
    server: _Server
    healed: threading.Event

    def setup(self) -> None:
        super().setup()
        self._upstream = requests.Session()
        self._upstream.trust_env = False
        self._upstream.verify = str(self.server.proxy.upstream_ca)

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def serve(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.proxy.handle(self)

    do_GET = do_POST = do_PUT = do_DELETE = serve

    def forward(self) -> Forwarded:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        answer = self._upstream.request(
            self.command,
            self.server.proxy.upstream + self.path,
            headers=headers,
            data=self._body,
            timeout=_KMS_SECONDS,
            allow_redirects=False,
        )
        return Forwarded(answer.status_code, answer.content)

    def send(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.more(body)

    def more(self, body: bytes) -> None:
        self.wfile.write(body)
        self.wfile.flush()

    def cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
