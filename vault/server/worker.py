"""The disclosure worker: one thread that takes reads in groups (architecture.md, "Groups").

The event loop only queues. The worker takes whatever has queued since it last looked, at most
`group_reads`, and runs the six steps for all of it; under load groups form by themselves. Chunks of batch
reads are groups that came ready-made: they are cut into slices of about `group_milliseconds` and taken in
turn with the waiting unary reads. Items whose DEK is not cached go to the unwrap worker and queue again.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import structlog

from vault.crypto.envelope import DataKey
from vault.crypto.keyring import Keyring
from vault.disclosure import DisclosurePipeline
from vault.domain.errors import (
    AuditUnavailableError,
    DatavaultError,
    KeysUnavailableError,
    OverloadedError,
    ShuttingDownError,
)
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock
from vault.reads import Attempt, MissingKeys, Read, Released

log = structlog.get_logger("datavault.worker")

_FIRST_SLICE: Final = 64
_ATTEMPTS: Final = 4
Outcome = Released[Any] | DatavaultError


class _Waiting:
    """One queued read: the attempt, whom to tell, and how often it went for keys."""

    __slots__ = ("attempt", "attempts", "future")

    def __init__(self, attempt: Attempt, future: "asyncio.Future[Outcome]") -> None:
        self.attempt = attempt
        self.attempts = 1
        self.future = future


@dataclass(frozen=True, slots=True)
class WorkerState:
    """For health and metrics: `stuck_seconds` is how long the group under way has taken (0: none is)."""

    queued: int
    stuck_seconds: float
    groups: int
    reads: int
    stopped: bool


class DisclosureWorker:
    """Queues reads from the event loop and answers them there."""

    def __init__(self, pipeline: DisclosurePipeline[Any], keyring: Keyring, clock: Clock) -> None:
        self._pipeline = pipeline
        self._keyring = keyring
        self._clock = clock
        self._single: deque[_Waiting] = deque()
        self._bulk: deque[_Waiting] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._dead = False
        self._queued = 0
        self._drained = asyncio.Event()
        self._group_began = 0.0
        self._groups = 0
        self._reads = 0
        self._slice = _FIRST_SLICE
        self._unwrap = ThreadPoolExecutor(max_workers=2, thread_name_prefix="unwrap")
        self._thread = threading.Thread(target=self._run, name="disclosure", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to take reads; answers are delivered on `loop`."""
        self._loop = loop
        self._thread.start()

    @property
    def state(self) -> WorkerState:
        """Read from any thread."""
        began = self._group_began
        stuck = self._clock.monotonic() - began if began else 0.0
        return WorkerState(self._queued, stuck, self._groups, self._reads, self._dead)

    # --- on the event loop ---------------------------------------------------------------------------------

    def submit(self, reads: Sequence[Read], *, bulk: bool = False) -> "list[asyncio.Future[Outcome]]":
        """Queue reads; one future per read.

        Raises:
            OverloadedError: the queue is full. ShuttingDownError. AuditUnavailableError: the group under way
            is stuck, so nothing could be recorded in time.
        """
        self._refuse_if_unable(len(reads), LIMITS.queued_reads // 2 if bulk else LIMITS.queued_reads)
        loop = asyncio.get_running_loop()
        queue = self._bulk if bulk else self._single
        futures = []
        for read in reads:
            future: asyncio.Future[Outcome] = loop.create_future()
            future.add_done_callback(self._forget)
            queue.append(_Waiting(Attempt(read), future))
            futures.append(future)
        self._queued += len(reads)
        if not self._wake.is_set():
            self._wake.set()
        return futures

    async def submit_chunk(self, reads: Sequence[Read]) -> "list[asyncio.Future[Outcome]]":
        """Queue a chunk of a batch read, waiting for room: that is the flow control of the stream.

        Raises:
            ShuttingDownError, AuditUnavailableError: as `submit`.
        """
        while True:
            try:
                return self.submit(reads, bulk=True)
            except OverloadedError:
                await asyncio.sleep(LIMITS.group_milliseconds / 1_000)

    def _forget(self, _: "asyncio.Future[Outcome]") -> None:
        self._queued -= 1
        if self._stopping and not self._queued:
            self._drained.set()

    def _refuse_if_unable(self, count: int, most: int) -> None:
        state = self.state
        if self._stopping:
            raise ShuttingDownError("the server is stopping: try another replica")
        if state.stopped or state.stuck_seconds > LIMITS.append_stuck_seconds:
            raise AuditUnavailableError("reads cannot be recorded now, so nothing is released")
        if state.queued + count > most:
            raise OverloadedError("too many reads are waiting")

    async def stop(self) -> None:
        """Take no more reads, finish those that were accepted, end the thread."""
        self._stopping = True
        if self._queued and not self._dead:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), LIMITS.drain_seconds)
        self._wake.set()
        await asyncio.to_thread(self._thread.join, LIMITS.append_stuck_seconds)
        self._unwrap.shutdown(wait=False, cancel_futures=True)

    # --- on the worker thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._stopping and not self._queued):
                self._wake.wait()
                self._wake.clear()
                while self._single or self._bulk:
                    self._take(self._single, LIMITS.group_reads)
                    began = self._clock.monotonic()
                    taken = self._take(self._bulk, self._slice)
                    self._adapt(taken, self._clock.monotonic() - began)
        except BaseException as error:
            log.critical("disclosure_worker_died", kind=type(error).__name__)
            raise
        finally:
            self._dead = True

    def _take(self, queue: deque[_Waiting], most: int) -> int:
        """Run the six steps for what has queued, at most `most`; returns how many were taken."""
        group: list[_Waiting] = []
        while queue and len(group) < most:
            waiting = queue.popleft()
            if not waiting.future.done():
                group.append(waiting)
        if not group:
            return 0
        self._group_began = self._clock.monotonic()
        try:
            self._disclose(group)
        finally:
            self._group_began = 0.0
        self._groups += 1
        self._reads += len(group)
        return len(group)

    def _disclose(self, group: Sequence[_Waiting]) -> None:
        answers: list[tuple[_Waiting, Outcome]] = []
        results = self._pipeline.disclose([waiting.attempt for waiting in group])
        for waiting, result in zip(group, results, strict=True):
            if isinstance(result, MissingKeys):
                self._fetch(waiting, result)
            else:
                answers.append((waiting, result))
        self._deliver(answers)

    def _adapt(self, taken: int, seconds: float) -> None:
        """Size the next slice of bulk reads so that it lasts about `group_milliseconds`."""
        if taken < self._slice // 2:
            return
        fitting = int(taken * LIMITS.group_milliseconds / max(seconds * 1_000, 0.1))
        self._slice = max(8, min(fitting, LIMITS.subjects_per_chunk, self._slice * 2))

    def _deliver(self, answers: Sequence[tuple[_Waiting, Outcome]]) -> None:
        if answers and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_settle, answers)

    # --- on the unwrap threads -----------------------------------------------------------------------------

    def _fetch(self, waiting: _Waiting, missing: MissingKeys) -> None:
        if waiting.attempts >= _ATTEMPTS:
            self._deliver([(waiting, KeysUnavailableError("the keys changed too often while reading"))])
            return
        waiting.attempts += 1
        try:
            self._unwrap.submit(self._fetch_keys, waiting, missing)
        except RuntimeError:
            self._deliver([(waiting, ShuttingDownError("the server is stopping: try another replica"))])

    def _fetch_keys(self, waiting: _Waiting, missing: MissingKeys) -> None:
        fetched: Sequence[DataKey | DatavaultError]
        try:
            fetched = self._keyring.unwrap(missing.requests)
        except Exception as error:
            log.error("unwrap_fault", kind=type(error).__name__)
            fetched = [KeysUnavailableError("the key provider failed")] * len(missing.requests)
        keys = {wrapped: key for (_, wrapped), key in zip(missing.requests, fetched, strict=True)}
        waiting.attempt = Attempt(waiting.attempt.read, {**waiting.attempt.keys, **keys})
        self._single.append(waiting)
        self._wake.set()


def _settle(answers: Sequence[tuple[_Waiting, Outcome]]) -> None:
    for waiting, outcome in answers:
        if not waiting.future.done():
            waiting.future.set_result(outcome)


class ChangeWorker:
    """Changes run one at a time on a thread of their own, in the order they came."""

    def __init__(self, name: str, *, threads: int = 1, most_queued: int = LIMITS.queued_changes) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._most_queued = most_queued
        self._queued = 0
        self._stopping = False

    @property
    def queued(self) -> int:
        return self._queued

    async def run(self, work: Callable[[], Any]) -> Any:
        """Run blocking `work` and return what it returns or raise what it raises.

        A call that is cancelled while its work is under way leaves the work to finish: a change is either
        committed with its record or not there.

        Raises:
            OverloadedError, ShuttingDownError.
        """
        if self._stopping:
            raise ShuttingDownError("the server is stopping: try another replica")
        if self._queued >= self._most_queued:
            raise OverloadedError("too many changes are waiting")
        self._queued += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        future.add_done_callback(self._done)
        return await future

    def _done(self, future: "asyncio.Future[Any]") -> None:
        self._queued -= 1
        if not future.cancelled():
            future.exception()

    async def stop(self) -> None:
        """Take no more work; finish what was accepted."""
        self._stopping = True
        await asyncio.to_thread(self._executor.shutdown, True)
