"""A gRPC client that costs next to nothing: unary calls with ready-made requests, over HTTP/2 frames.

Load of several times what a server can do, from a client that needs as much CPU as the server, measures the
client. Here a request's frames are made once, and of an answer only the frame headers are read: an answer has
DATA, a refusal has trailers alone, with details. What they say, a real client looks at.
"""

import asyncio
import itertools
import math
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, cast

METHOD: Final = "/vault.v1.DataService/ReadAttributes"
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_LARGEST: Final = 2**31 - 1
_MAX_CONCURRENT_STREAMS: Final = 3
_OFFERED: Final = 65_535

Ended = Callable[[str, int], None]
"""Told of each call: what became of it, and its nanoseconds."""
ANSWERED: Final = "answered"
REFUSED: Final = "refused"
DROPPED: Final = "dropped"
"""gRPC itself let go of the call before the service saw it: a reset, or an error without details."""
EXPIRED: Final = "expired"
"""The caller's deadline passed before the connection had room for the call: it was never sent."""
OUTCOMES: Final = (ANSWERED, REFUSED, DROPPED, EXPIRED)
_DETAILS: Final = b"grpc-status-details-bin"


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def _text(value: str) -> bytes:
    assert len(value) < 127
    return bytes([len(value)]) + value.encode()


def _headers(path: str) -> bytes:
    """HPACK without the dynamic table, so that every call can use the same bytes."""
    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + _text(path),
            b"\x01" + _text("localhost"),
            b"\x0f\x10" + _text("application/grpc"),
            b"\x00" + _text("te") + _text("trailers"),
        )
    )


def _parts(headers: bytes, request: bytes) -> tuple[bytes, bytes]:
    """What goes between the two stream ids, and after the second."""
    body = struct.pack(">BI", 0, len(request)) + request
    return headers + struct.pack(">I", len(body))[1:] + struct.pack(">BB", _DATA, _END_STREAM), body


class Http2Calls(asyncio.Protocol):
    """One connection. `call` sends; the loop tells `ended` when the call is over.

    As with any gRPC client, calls wait here while as many streams are open as the server allows (RFC 9113,
    5.1.2), at most `patience_seconds`.
    """

    def __init__(
        self, requests: Sequence[bytes], path: str = METHOD, patience_seconds: float = math.inf
    ) -> None:
        headers = _headers(path)
        self._head = struct.pack(">I", len(headers))[1:] + struct.pack(">BB", _HEADERS, _END_HEADERS)
        self._requests = itertools.cycle([_parts(headers, request) for request in requests])
        self._next = 1
        self._began: dict[int, tuple[int, Ended]] = {}
        self._waiting: deque[tuple[int, Ended]] = deque()
        self._patience = patience_seconds * 1e9
        self._most_open = _LARGEST
        self._answered: set[int] = set()
        self._received = b""
        self._transport: asyncio.Transport
        self.broken = ""

    @property
    def open_calls(self) -> int:
        """Those that wait included."""
        return len(self._began) + len(self._waiting)

    def call(self, ended: Ended) -> None:
        """Send the next request, or have it wait for room."""
        self._waiting.append((time.perf_counter_ns(), ended))
        self._send()

    def _send(self) -> None:
        """What there is room for; those whose time is over are told so."""
        now = time.perf_counter_ns()
        while self._waiting and now - self._waiting[0][0] > self._patience:
            began, ended = self._waiting.popleft()
            ended(EXPIRED, now - began)
        while self._waiting and len(self._began) < self._most_open:
            self._send_one(*self._waiting.popleft())

    def _send_one(self, began: int, ended: Ended) -> None:
        stream = struct.pack(">I", self._next)
        self._began[self._next] = began, ended
        self._next += 2
        headers, body = next(self._requests)
        self._transport.write(b"".join((self._head, stream, headers, stream, body)))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # over TLS, uvloop's is none by its type
        no_table_wide_windows = struct.pack(">HIHI", 1, 0, 4, _LARGEST)
        self._transport.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, no_table_wide_windows)
            + _frame(_WINDOW, 0, 0, struct.pack(">I", _LARGEST - _OFFERED))
        )

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        at, end = 0, len(received)
        while end - at >= 9:
            size = int.from_bytes(received[at : at + 3], "big")
            if end - at < 9 + size:
                break
            kind, flags, stream = struct.unpack_from(">BBI", received, at + 3)
            self._take(kind, flags, stream, received[at + 9 : at + 9 + size])
            at += 9 + size
        self._received = received[at:]

    def connection_lost(self, error: Exception | None) -> None:
        self.broken = self.broken or "the connection was lost"

    def close(self) -> None:
        self._transport.close()

    def _take(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _DATA:
            self._answered.add(stream)
        elif kind == _HEADERS and flags & _END_STREAM:
            told = REFUSED if _DETAILS in body else DROPPED
            self._end(stream, ANSWERED if stream in self._answered else told)
        elif kind == _RST:
            self._end(stream, DROPPED)
        elif kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", body):
                if name == _MAX_CONCURRENT_STREAMS:
                    self._most_open = value
            self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, body))
        elif kind == _GOAWAY:
            self.broken = body[8:].decode("ascii", "replace") or "the server said good-bye"

    def _end(self, stream: int, outcome: str) -> None:
        # a call that was refused may be reset besides
        if stream in self._began:
            began, ended = self._began.pop(stream)
            self._answered.discard(stream)
            ended(outcome, time.perf_counter_ns() - began)
            if self._waiting:
                self._send()
