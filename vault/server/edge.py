"""The gRPC edge of every call: identity, deadline, errors, in this order, in one place.

Servicer methods are decorated with `unary`, `stream` or `progress`; they raise domain errors and return
messages. Only these wrappers abort, and they return right after: a handler goes on after `abort` in some gRPC
versions.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import grpc
import structlog

from vault.domain.errors import (
    DatavaultError,
    DeadlineExceededError,
    OverloadedError,
    ShuttingDownError,
    UnauthenticatedError,
)
from vault.domain.limits import LIMITS
from vault.domain.types import Caller
from vault.identity.bearer import bearer_token
from vault.server.errors import abort
from vault.server.metrics import Meter

log = structlog.get_logger("datavault.edge")

Context = grpc.aio.ServicerContext[Any, Any]
Q = TypeVar("Q")
A = TypeVar("A")


class CertificateCallers(Protocol):
    def caller(self, pem: bytes) -> Caller: ...


class TokenCallers(Protocol):
    def caller(self, token: str) -> Caller:
        """May block on fetching the issuer's keys."""


class Edge:
    """Proves identities and meters calls; shared by all servicers."""

    def __init__(self, certificates: CertificateCallers, tokens: TokenCallers, meter: Meter) -> None:
        self._certificates = certificates
        self._tokens = tokens
        self.meter = meter
        self._streams: dict[str, int] = {}
        self._stopping = asyncio.Event()

    async def caller(self, context: Context) -> Caller:
        """Who calls: by client certificate where the port demands one, else by JWT.

        Raises:
            UnauthenticatedError.
        """
        certificate = context.auth_context().get("x509_pem_cert")
        try:
            if certificate:
                return self._certificates.caller(next(iter(certificate)))
            token = bearer_token(context.invocation_metadata() or ())
            return await asyncio.to_thread(self._tokens.caller, token)
        except UnauthenticatedError:
            self.meter.unauthenticated()
            raise

    def enter_stream(self, caller: Caller) -> None:
        """Count a stream in.

        Raises:
            OverloadedError: the caller has too many open.
        """
        open_now = self._streams.get(caller.id, 0)
        if open_now >= LIMITS.streams_per_caller:
            raise OverloadedError(f"at most {LIMITS.streams_per_caller} streams per caller at once")
        self._streams[caller.id] = open_now + 1

    def leave_stream(self, caller: Caller) -> None:
        self._streams[caller.id] -= 1

    def end_streams(self) -> None:
        """Streams take no more requests from now on; each ends when what it took is answered."""
        self._stopping.set()

    async def stopping(self, seconds: float) -> bool:
        """Whether the server stops, told at once; False after `seconds` at most."""
        if seconds <= 0:
            return self._stopping.is_set()
        try:
            return await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False

    async def accepted(self, requests: AsyncIterator[Q]) -> AsyncIterator[Q]:
        """The requests of a stream, until the server stops.

        Raises:
            ShuttingDownError: it stops; what came before is to be answered first.
        """
        stopping = asyncio.ensure_future(self._stopping.wait())
        following: asyncio.Future[Q] | None = None
        try:
            while not self._stopping.is_set():
                following = asyncio.ensure_future(anext(requests))
                await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    break
                try:
                    request = following.result()
                except StopAsyncIteration:
                    return
                yield request
            raise ShuttingDownError("the server is stopping: try another replica")
        finally:
            stopping.cancel()
            if following is not None:
                following.cancel()


class HasEdge(Protocol):
    edge: Edge


def unary(method: Callable[[Any, Q, Caller], Awaitable[A]]) -> Callable[[Any, Q, Context], Awaitable[A]]:
    """Wrap `async def Method(self, request, caller) -> response`."""
    name = method.__name__

    @functools.wraps(method)
    async def call(self: HasEdge, request: Q, context: Context) -> A:
        try:
            caller = await self.edge.caller(context)
            seconds = _time_left(context)
            if seconds is None:
                return await method(self, request, caller)
            async with asyncio.timeout(seconds):
                return await method(self, request, caller)
        except Exception as raised:
            error = _error_of(name, "call", raised)
        self.edge.meter.failed(name, error.reason.value)
        await abort(context, error)
        raise error

    return call


def stream(
    method: Callable[[Any, AsyncIterator[Q], Caller], AsyncIterator[A]],
) -> Callable[[Any, AsyncIterator[Q], Context], AsyncIterator[A]]:
    """Wrap `async def Method(self, requests, caller)` that yields responses."""
    return _streaming(method, lambda edge, requests: edge.accepted(requests))


def progress(
    method: Callable[[Any, Q, Caller], AsyncIterator[A]],
) -> Callable[[Any, Q, Context], AsyncIterator[A]]:
    """Wrap `async def Method(self, request, caller)` that yields responses to one request.

    It watches `Edge.stopping` by itself: only it knows where its work can be broken off.
    """
    return _streaming(method, lambda _, request: request)


def _streaming(
    method: Callable[[Any, Any, Caller], AsyncIterator[A]], asked: Callable[[Edge, Any], Any]
) -> Callable[[Any, Any, Context], AsyncIterator[A]]:
    """`asked` gives what the method gets of what gRPC gave."""
    name = method.__name__

    @functools.wraps(method)
    async def call(self: HasEdge, given: Any, context: Context) -> AsyncIterator[A]:
        try:
            caller = await self.edge.caller(context)
            self.edge.enter_stream(caller)
            try:
                # whoever goes away in the middle ends the method here and now, not at some collection
                responses: Any = method(self, asked(self.edge, given), caller)
                async with asyncio.timeout(_stream_time_left(context)), aclosing(responses):
                    async for response in responses:
                        yield response
                return
            finally:
                self.edge.leave_stream(caller)
        except Exception as raised:
            error = _error_of(name, "stream", raised)
        self.edge.meter.failed(name, error.reason.value)
        await abort(context, error)

    return call


def _error_of(method: str, what: str, raised: Exception) -> DatavaultError:
    """What the caller is told of whatever ended a call or stream (`what`)."""
    if isinstance(raised, DatavaultError):
        return raised
    if isinstance(raised, TimeoutError):
        return DeadlineExceededError(f"the {what} took longer than its deadline")
    log.error("call_fault", method=method, kind=type(raised).__name__)
    return DatavaultError("internal error")


def _time_left(context: Context) -> float | None:
    """Seconds to allow, or None where gRPC itself will end the call in time.

    Raises:
        DeadlineExceededError: what is left is hopelessly short.
    """
    left: float | None = context.time_remaining()
    if left is None:
        return LIMITS.default_deadline_seconds
    if left < LIMITS.shortest_useful_deadline_seconds:
        raise DeadlineExceededError("the deadline leaves no time to answer")
    return LIMITS.longest_deadline_seconds if left > LIMITS.longest_deadline_seconds else None


def _stream_time_left(context: Context) -> float:
    left: float | None = context.time_remaining()
    return min(LIMITS.stream_deadline_seconds, LIMITS.stream_deadline_seconds if left is None else left)
