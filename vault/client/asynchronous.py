"""Runs the calls of `calls.py` on an asyncio channel: the twin of `blocking.py`, line by line."""

# ruff: noqa: ASYNC109 - a timeout here is the deadline of gRPC, which travels with the call

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

import grpc

from vault.client import channel
from vault.client.batch import Batch
from vault.client.calls import Call, Pages
from vault.client.connection import Connection
from vault.client.errors import DatavaultClientError, closed
from vault.client.jobs import J, Job
from vault.client.methods import A, Method, Q
from vault.client.pacing import Pace, RetryPolicy, checked_timeout
from vault.client.status import from_rpc_error, stream_ended
from vault.client.words import Phase

R = TypeVar("R")
T = TypeVar("T")
_END: Any = object()
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # missing in grpc-stubs


class AsyncCalls:
    """A channel and what runs on it. It belongs to the event loop that makes the first call."""

    def __init__(self, connection: Connection, *, timeout: float, retry: RetryPolicy) -> None:
        self._timeout = checked_timeout(timeout)
        self._retry = retry
        self._closed = False
        self._target = connection.target
        self._credentials = channel.credentials(connection)
        self._options = channel.options(connection, retry)
        self._opened: grpc.aio.Channel | None = None

    async def close(self) -> None:
        """Close the channel; calls that are under way are cancelled."""
        self._closed = True
        if self._opened is not None:
            await self._opened.close(None)

    @property
    def _channel(self) -> grpc.aio.Channel:
        # only inside of an event loop can a channel be made for it
        if self._closed:
            raise closed()
        if self._opened is None:
            self._opened = grpc.aio.secure_channel(self._target, self._credentials, self._options)
        return self._opened

    async def _run(self, call: Call[Q, A, R], timeout: float | None) -> R:
        seconds = self._timeout if timeout is None else checked_timeout(timeout)
        run = self._open(self._channel.unary_unary, call.method)
        try:
            answer = await run(call.request, timeout=seconds)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return call.parse(answer)

    async def _run_pages(self, pages: Pages[Q, A, R], timeout: float | None) -> AsyncIterator[R]:
        page: Pages[Q, A, R] | None = pages
        while page is not None:
            answer = await self._run(Call(page.method, page.request, lambda answer: answer), timeout)
            for result in page.parse(answer):
                yield result
            page = page.after(answer)

    async def _run_batch(
        self, batch: Batch[T, Any, Any, R], items: AsyncIterable[T] | Iterable[T], pace: Pace
    ) -> AsyncIterator[R]:
        """The steps of `batch.py`. The source is read in the caller's own task."""
        source = aiter(items) if isinstance(items, AsyncIterable) else _as_async(items)
        while True:
            batch.rewind()
            async with contextlib.aclosing(self._stream(batch.kind.method, pace)) as stream:
                while not batch.done:
                    await _fill(batch, source)
                    for message in batch.messages():
                        stream.send(message)
                    if batch.all_sent:
                        stream.end()
                    for result in batch.refused():
                        yield result
                    if not batch.awaits_answer:
                        continue
                    try:
                        answer = await stream.receive()
                    except DatavaultClientError as failure:
                        wait = pace.wait_after(failure)
                        break
                    if answer.results:
                        pace.progressed()
                    for result in batch.accept(answer):
                        yield result
                else:
                    await stream.finish()
                    return
            await asyncio.sleep(wait)

    async def _run_job(self, job: Job[Q, A, J], pace: Pace) -> AsyncIterator[J]:
        """Progress as it comes. A stream that breaks is asked for again; whatever changes is progress."""
        last: J | None = None
        while True:
            call = self._open(self._channel.unary_stream, job.method)(
                job.request, timeout=pace.stream_seconds()
            )
            try:
                async for answer in call:
                    found = job.parse(answer)
                    if found != last:
                        pace.progressed()
                    last = found
                    yield found
                failure: DatavaultClientError = stream_ended()
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            finally:
                call.cancel()
            if last is not None and last.phase is Phase.DONE:
                return
            wait = pace.wait_after_break(failure)
            job = job if last is None else job.resumed()
            await asyncio.sleep(wait)

    def _stream(self, method: Method[Any, Any], pace: Pace) -> "_Stream":
        return _Stream(self._open(self._channel.stream_stream, method), pace)

    def _open(self, kind: Callable[..., Any], method: Method[Any, Any]) -> Any:
        return kind(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.answer.FromString,
        )


async def _as_async(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def _fill(batch: Batch[T, Any, Any, Any], source: AsyncIterator[T]) -> None:
    while batch.wants_more:
        item = await anext(source, _END)
        if item is _END:
            batch.close()
        else:
            batch.offer(item)


class _Stream:
    """One attempt of a batch. gRPC reads the requests in a task of its own, out of a queue, so that
    sending never waits for the server while the server waits for its answers to be read."""

    def __init__(self, run: Any, pace: Pace) -> None:
        self._run = run
        self._pace = pace
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._call: Any = None

    def send(self, message: Any) -> None:
        if self._call is None:
            self._call = self._run(self._requests(), timeout=self._pace.stream_seconds())
        self._queue.put_nowait(message)

    def end(self) -> None:
        self._queue.put_nowait(_END)

    async def receive(self) -> Any:
        """The next answer. Raises the failure of the stream, also where it ended too early."""
        try:
            answer = await self._call.read()
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        if answer is _EOF:
            raise stream_ended()
        return answer

    async def finish(self) -> None:
        """All results are here: let the server end the stream; how it ends no longer matters."""
        if self._call is not None:
            with contextlib.suppress(grpc.RpcError):
                await self._call.read()

    async def aclose(self) -> None:
        self.end()
        if self._call is not None:
            self._call.cancel()

    async def _requests(self) -> AsyncIterator[Any]:
        while (message := await self._queue.get()) is not _END:
            yield message
