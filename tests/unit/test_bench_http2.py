"""The load generator's HTTP/2: what became of a call is told from frames alone."""

import struct
from typing import Any

import pytest

from bench.http2 import ANSWERED, DROPPED, EXPIRED, REFUSED, Http2Calls

DATA, HEADERS, RST, SETTINGS, PING = 0x0, 0x1, 0x3, 0x4, 0x6
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1


class Transport:
    """Keeps what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


TRAILERS = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x17grpc-status-details-bin\1x")
ANSWER = frame(HEADERS, END_HEADERS, 1, b"headers") + frame(DATA, 0, 1, b"answer") + TRAILERS


@pytest.fixture
def calls() -> Any:
    made = Http2Calls([b"one", b"two"])
    made.connection_made(Transport())  # type: ignore[arg-type]
    return made


def outcomes(calls: Http2Calls, *received: bytes) -> list[str]:
    """Of one call, when this comes."""
    found: list[str] = []
    calls.call(lambda outcome, _: found.append(outcome))
    for each in received:
        calls.data_received(each)
    return found


@pytest.mark.parametrize(
    ("received", "outcome"),
    [
        (ANSWER, ANSWERED),
        (TRAILERS, REFUSED),
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x0bgrpc-status\x011"), DROPPED),
        (frame(RST, 0, 1, b"\0\0\0\x08"), DROPPED),
    ],
)
def test_an_answer_has_data_and_a_refusal_has_none(calls: Http2Calls, received: bytes, outcome: str) -> None:
    """A refusal is the service's own word: it has details."""
    assert outcomes(calls, received) == [outcome]
    assert not calls.open_calls


def test_frames_may_come_in_any_pieces(calls: Http2Calls) -> None:
    """As the network cuts them."""
    assert outcomes(calls, *(bytes([each]) for each in ANSWER)) == [ANSWERED]


def test_a_call_ends_once(calls: Http2Calls) -> None:
    """A server may reset a stream that it has ended."""
    assert outcomes(calls, TRAILERS + frame(RST, 0, 1, b"\0\0\0\0")) == [REFUSED]


def test_requests_are_sent_in_turn_on_streams_of_their_own(calls: Http2Calls) -> None:
    """Clients use odd ids; what a request's frames say stays the same otherwise."""
    for _ in range(3):
        calls.call(lambda *_: None)
    sent = calls._transport.written[-3:]  # type: ignore[attr-defined]
    assert [each[5:9] for each in sent] == [struct.pack(">I", stream) for stream in (1, 3, 5)]
    assert [each[-3:] for each in sent] == [b"one", b"two", b"one"]


@pytest.mark.parametrize("kind", [SETTINGS, PING])
def test_what_has_to_be_acknowledged_is(calls: Http2Calls, kind: int) -> None:
    """And an acknowledgement is not acknowledged again."""
    body = b"12345678" if kind == PING else b""
    calls.data_received(frame(kind, 0, 0, body))
    calls.data_received(frame(kind, ACK, 0, body))
    assert calls._transport.written[1:] == [frame(kind, ACK, 0, body)]  # type: ignore[attr-defined]


def allow(streams: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HI", 3, streams))


def test_calls_wait_for_room_as_the_server_allows_streams(calls: Http2Calls) -> None:
    """As with any gRPC client; the next one goes out when one has ended."""
    written = calls._transport.written  # type: ignore[attr-defined]
    found: list[str] = []
    calls.data_received(allow(1))
    before = len(written)
    for _ in range(2):
        calls.call(lambda outcome, _: found.append(outcome))
    assert (len(written) - before, calls.open_calls) == (1, 2)
    calls.data_received(ANSWER)
    assert (len(written) - before, calls.open_calls, found) == (2, 1, [ANSWERED])


def test_a_call_that_finds_no_room_in_time_expires() -> None:
    """It is never sent."""
    calls = Http2Calls([b"one"], patience_seconds=-1.0)
    calls.connection_made(Transport())  # type: ignore[arg-type]
    before = len(calls._transport.written)  # type: ignore[attr-defined]
    assert outcomes(calls) == [EXPIRED]
    assert len(calls._transport.written) == before  # type: ignore[attr-defined]
