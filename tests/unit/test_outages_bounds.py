"""Answers of the KMS are bounded as a whole: in time and in size."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from vault.crypto import transit_bounds
from vault.crypto.transit_bounds import BoundedAdapter

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"
TIMEOUT_SECONDS = 0.5


@contextlib.contextmanager
def answering(begin: bytes, over_and_over: bytes) -> Iterator[str]:
    """A server that begins an answer and then goes on by small pieces until its client leaves; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(begin)
            while over_and_over and not ended.wait(0.02):
                connection.sendall(over_and_over)
            ended.wait()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        ended.set()
        listener.close()
        thread.join()


def ask(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", BoundedAdapter())
        return session.get(url, timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    ("begin", "piece"),
    [(b"", b"H"), (b"HTTP/1.1 200 OK\r\n", b"X-Name: value\r\n"), (HEAD + b"\r\n", b" "), (b"", b"")],
    ids=["status", "headers", "body", "nothing"],
)
def test_an_answer_that_trickles_is_given_up(begin: bytes, piece: bytes) -> None:
    """Whatever part of an answer comes byte by byte, the request ends by its timeout."""
    with answering(begin, piece) as url, pytest.raises(requests.RequestException):
        ask(url)


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer larger than any that the KMS gives is not read to its end."""
    monkeypatch.setattr(transit_bounds, "MOST_ANSWER_BYTES", 10_000)
    with answering(HEAD + b"\r\n" + b"x" * 50_000, b"") as url, pytest.raises(requests.RequestException):
        ask(url)


def test_an_answer_that_is_whole_is_read() -> None:
    """An answer that arrives in time is read as ever."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    with answering(whole, b"") as url:
        assert ask(url).text == "hello"
