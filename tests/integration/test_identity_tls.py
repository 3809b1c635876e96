"""Certificates of the embedded authority in real TLS handshakes, and key sets over real https."""

import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from tests.support.identity import jwk, key_set
from vault.domain.errors import ConfigurationError
from vault.domain.system import SystemClock, SystemRandomness
from vault.identity.authority import Authority, IssuedCertificate
from vault.identity.certificates import identity_of
from vault.identity.fetch import DOCUMENT_BYTES, fetcher

SPIFFE = "spiffe://bank.example/engine"
SECONDS = 30.0


def opened(folder: Path) -> Authority:
    return Authority.open(folder, SystemClock(), SystemRandomness())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return opened(tmp_path / "ca")


def server_context(authority: Authority, folder: Path, *, mutual: bool = True) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server_credentials_files(folder / "tls"))
    context.load_verify_locations(cadata=authority.certificate_pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
    return context


def client_context(authority: Authority, issued: IssuedCertificate | None, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    if issued is not None:
        context.load_cert_chain(*issued.write(folder / "client", "client"))
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, hostname: str = "localhost") -> bytes:
    """Connect over loopback and return the client's certificate (PEM) as the server saw it.

    Raises what the server's or, failing that, the client's side of the handshake raised.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        seen = pool.submit(_accept, listener, server)
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=SECONDS) as raw,
                client.wrap_socket(raw, server_hostname=hostname) as connection,
            ):
                connection.recv(1)
        except (ssl.SSLError, ConnectionError):
            seen.result(SECONDS)
            raise
        return ssl.DER_cert_to_PEM_cert(seen.result(SECONDS)).encode()


def _accept(listener: socket.socket, context: ssl.SSLContext) -> bytes:
    raw, _ = listener.accept()
    raw.settimeout(SECONDS)
    with raw, context.wrap_socket(raw, server_side=True) as connection:
        certificate = connection.getpeercert(binary_form=True)
        connection.sendall(b".")
        return certificate or b""


@pytest.mark.parametrize("hostname", ["localhost", "127.0.0.1"])
def test_both_sides_prove_themselves(authority: Authority, tmp_path: Path, hostname: str) -> None:
    """A mutual handshake by name and by address succeeds, and the server reads the client's identity."""
    issued = authority.issue_client("engine", spiffe=SPIFFE)
    pem = handshake(
        server_context(authority, tmp_path), client_context(authority, issued, tmp_path), hostname
    )
    assert identity_of(pem).spiffe == SPIFFE


def test_a_client_without_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    """The server ends a handshake in which the client shows nothing."""
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(server_context(authority, tmp_path), client_context(authority, None, tmp_path))


def test_a_client_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    """A certificate with the right names from another CA fails verification."""
    foreign = opened(tmp_path / "foreign").issue_client("engine", spiffe=SPIFFE)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(authority, tmp_path), client_context(authority, foreign, tmp_path))


def test_a_server_certificate_is_no_client_certificate(authority: Authority, tmp_path: Path) -> None:
    """The server's own certificate, stolen, does not serve as a client's."""
    stolen = authority.issue_server(["localhost"])
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)purpose"):
        handshake(server_context(authority, tmp_path), client_context(authority, stolen, tmp_path))


def test_another_host_name_is_refused(authority: Authority, tmp_path: Path) -> None:
    """A client that expects another name than the certificate's ends the handshake."""
    issued = authority.issue_client("engine", spiffe=SPIFFE)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(
            server_context(authority, tmp_path), client_context(authority, issued, tmp_path), "evil.example"
        )


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def web_server(context: ssl.SSLContext | None, answer: Answer) -> Iterator[str]:
    """An http(s) server on loopback that gives `answer` to every request; yields host and port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(SECONDS)
        server.server_close()


def send(
    handler: http.server.BaseHTTPRequestHandler, content: bytes, status: int = 200, **headers: str
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def web(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    return server_context(authority, tmp_path, mutual=False)


def test_a_key_set_comes_over_verified_https(authority: Authority, web: ssl.SSLContext) -> None:
    """The document is fetched whole from a server whose certificate the given CA signed."""
    document = key_set(jwk("ES256"))
    with web_server(web, lambda handler: send(handler, document)) as host:
        assert fetcher(authority.certificate_path)(f"https://{host}/keys") == document


def test_an_untrusted_server_is_refused(web: ssl.SSLContext) -> None:
    """A server whose certificate no system CA signed gives nothing."""
    with (
        web_server(web, lambda handler: send(handler, b"{}")) as host,
        pytest.raises(URLError, match="CERTIFICATE"),
    ):
        fetcher()(f"https://{host}/keys")


def test_plain_http_cannot_be_reached(authority: Authority) -> None:
    """Not even asked for directly is a document fetched over plain http."""
    with (
        web_server(None, lambda handler: send(handler, b"{}")) as host,
        pytest.raises(URLError, match="unknown url"),
    ):
        fetcher(authority.certificate_path)(f"http://{host}/keys")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(authority: Authority, web: ssl.SSLContext, status: int) -> None:
    """A redirect, even to https, is a failure: the keys' URL is the operator's choice."""
    asked: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        send(handler, b"{}", status, Location="/elsewhere")

    with web_server(web, answer) as host:
        fetch = fetcher(authority.certificate_path)
        with pytest.raises(HTTPError):
            fetch(f"https://{host}/keys")
    assert asked == ["/keys"]


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_page_is_no_document(authority: Authority, web: ssl.SSLContext, status: int) -> None:
    """Statuses of failure raise."""
    with web_server(web, lambda handler: send(handler, b"{}", status)) as host:
        fetch = fetcher(authority.certificate_path)
        with pytest.raises(HTTPError):
            fetch(f"https://{host}/keys")


def test_an_oversized_document_is_refused(authority: Authority, web: ssl.SSLContext) -> None:
    """One byte more than 256 KiB is refused."""
    document = b" " * (DOCUMENT_BYTES + 1)
    with (
        web_server(web, lambda handler: send(handler, document)) as host,
        pytest.raises(ValueError, match="larger"),
    ):
        fetcher(authority.certificate_path)(f"https://{host}/keys")


def test_a_key_set_comes_from_a_file(tmp_path: Path) -> None:
    """A path is read as it is, up to the same size."""
    (tmp_path / "keys.json").write_bytes(key_set(jwk("ES256")))
    assert fetcher()(tmp_path / "keys.json") == key_set(jwk("ES256"))
    (tmp_path / "keys.json").write_bytes(b" " * (DOCUMENT_BYTES + 1))
    with pytest.raises(ValueError, match="larger"):
        fetcher()(tmp_path / "keys.json")


@pytest.mark.parametrize("content", [None, b"", b"no certificates"])
def test_a_broken_trust_file_is_a_configuration_error(tmp_path: Path, content: bytes | None) -> None:
    """Missing or unusable certificates to trust are noticed when the fetcher is made."""
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ConfigurationError):
        fetcher(tmp_path / "ca.pem")
