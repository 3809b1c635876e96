"""Runs the calls of `calls.py` on a synchronous channel."""

import contextlib
import queue
import time
from collections.abc import Callable, Iterable, Iterator
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


class BlockingCalls:
    """A channel and what runs on it. Safe to share between threads."""

    def __init__(self, connection: Connection, *, timeout: float, retry: RetryPolicy) -> None:
        self._timeout = checked_timeout(timeout)
        self._retry = retry
        self._closed = False
        self._channel = grpc.secure_channel(
            connection.target, channel.credentials(connection), channel.options(connection, retry)
        )

    def close(self) -> None:
        """Close the channel; calls that are under way are cancelled."""
        self._closed = True
        self._channel.close()

    def _run(self, call: Call[Q, A, R], timeout: float | None) -> R:
        seconds = self._timeout if timeout is None else checked_timeout(timeout)
        run = self._open(self._channel.unary_unary, call.method)
        try:
            answer = run(call.request, timeout=seconds)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return call.parse(answer)

    def _run_pages(self, pages: Pages[Q, A, R], timeout: float | None) -> Iterator[R]:
        page: Pages[Q, A, R] | None = pages
        while page is not None:
            answer = self._run(Call(page.method, page.request, lambda answer: answer), timeout)
            yield from page.parse(answer)
            page = page.after(answer)

    def _run_batch(self, batch: Batch[T, Any, Any, R], items: Iterable[T], pace: Pace) -> Iterator[R]:
        """The steps of `batch.py`. The source is read in the caller's own thread."""
        source = iter(items)
        while True:
            batch.rewind()
            with contextlib.closing(self._stream(batch.kind.method, pace)) as stream:
                while not batch.done:
                    _fill(batch, source)
                    for message in batch.messages():
                        stream.send(message)
                    if batch.all_sent:
                        stream.end()
                    yield from batch.refused()
                    if not batch.awaits_answer:
                        continue
                    try:
                        answer = stream.receive()
                    except DatavaultClientError as failure:
                        wait = pace.wait_after(failure)
                        break
                    if answer.results:
                        pace.progressed()
                    yield from batch.accept(answer)
                else:
                    stream.finish()
                    return
            time.sleep(wait)

    def _run_job(self, job: Job[Q, A, J], pace: Pace) -> Iterator[J]:
        """Progress as it comes. A stream that breaks is asked for again; whatever changes is progress."""
        last: J | None = None
        while True:
            call = self._open(self._channel.unary_stream, job.method)(
                job.request, timeout=pace.stream_seconds()
            )
            try:
                for answer in call:
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
            time.sleep(wait)

    def _stream(self, method: Method[Any, Any], pace: Pace) -> "_Stream":
        return _Stream(self._open(self._channel.stream_stream, method), pace)

    def _open(self, kind: Callable[..., Any], method: Method[Any, Any]) -> Any:
        if self._closed:
            raise closed()
        return kind(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.answer.FromString,
        )


def _fill(batch: Batch[T, Any, Any, Any], source: Iterator[T]) -> None:
    while batch.wants_more:
        item = next(source, _END)
        if item is _END:
            batch.close()
        else:
            batch.offer(item)


class _Stream:
    """One attempt of a batch. gRPC reads the requests in a thread of its own, out of a queue, so that
    sending never waits for the server while the server waits for its answers to be read."""

    def __init__(self, run: Any, pace: Pace) -> None:
        self._run = run
        self._pace = pace
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call: Any = None

    def send(self, message: Any) -> None:
        if self._call is None:
            self._call = self._run(iter(self._queue.get, _END), timeout=self._pace.stream_seconds())
        self._queue.put(message)

    def end(self) -> None:
        self._queue.put(_END)

    def receive(self) -> Any:
        """The next answer. Raises the failure of the stream, also where it ended too early."""
        try:
            answer = next(self._call, _END)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        if answer is _END:
            raise stream_ended()
        return answer

    def finish(self) -> None:
        """All results are here: let the server end the stream; how it ends no longer matters."""
        if self._call is not None:
            with contextlib.suppress(grpc.RpcError):
                next(self._call, _END)

    def close(self) -> None:
        self._queue.put(_END)
        if self._call is not None:
            self._call.cancel()
