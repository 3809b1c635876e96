"""Connections to the KMS whose answers are bounded as a whole.

The timeout of requests counts from byte to byte: a server, or a network, that lets one byte through now and
then holds its caller for ever. Here headers and body together have to arrive within it, and are bounded in
size. Inside `within` connecting and all answers have to fit into what is left of one time besides.
"""

import contextlib
import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MOST_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""200 keys take 30 KiB."""


@dataclass(slots=True)
class Exchange:
    """What happens inside `within`: `until` is its end by the machine's monotonic clock, `opened` tells that
    a new connection was needed (else one was used that lay idle, and may have been dead)."""

    until: float
    opened: bool = False

    def shorten(self, seconds: float | None) -> float:
        """What is left, at most `seconds`.

        Raises:
            TimeoutError: nothing is.
        """
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time of the call is over")
        return left if seconds is None else min(seconds, left)


_exchange: ContextVar[Exchange | None] = ContextVar("kms_exchange", default=None)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[Exchange]:
    """What this thread asks of the KMS inside the block ends within `seconds`, all of it together.

    Looking up the name of the KMS is the resolver's time; of several addresses each has its own time.
    """
    exchange = Exchange(time.monotonic() + seconds)
    token = _exchange.set(exchange)
    try:
        yield exchange
    finally:
        _exchange.reset(token)


class _BoundedReader(io.RawIOBase):
    """Reads of a socket that end together when its timeout has passed once."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._socket = sock
        # the machine's own clock: it is that of the socket too
        self._until = time.monotonic() + (sock.gettimeout() or 0.0)
        exchange = _exchange.get()
        if exchange is not None:
            self._until = min(self._until, exchange.until)
        self._left_bytes = MOST_ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not arrive in time")
        self._socket.settimeout(left)
        count = self._raw.readinto(buffer)
        self._left_bytes -= count or 0
        if self._left_bytes < 0:
            raise OSError("the answer is too large")
        return int(count)

    def close(self) -> None:
        self._raw.close()
        super().close()


class BoundedResponse(http.client.HTTPResponse):
    """A `response_class` for connections that have a timeout."""

    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        if sock.gettimeout():
            self.fp: Any = io.BufferedReader(_BoundedReader(self.fp.detach(), sock))


class _BoundedConnection(HTTPConnection):
    response_class = BoundedResponse

    def connect(self) -> None:
        begin_connecting(self)
        super().connect()


class _BoundedTlsConnection(HTTPSConnection):
    response_class = BoundedResponse

    def connect(self) -> None:
        begin_connecting(self)
        super().connect()


def begin_connecting(connection: HTTPConnection) -> None:
    exchange = _exchange.get()
    if exchange is not None:
        exchange.opened = True
        limit = connection.timeout
        connection.timeout = exchange.shorten(limit if isinstance(limit, int | float) else None)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _BoundedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTlsConnection


class BoundedAdapter(HTTPAdapter):
    """For `requests.Session.mount`: an answer is whole within the timeout of its request, or it fails."""

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
