"""The disclosure worker: one thread that takes reads in groups (architecture.md, "Groups").

The event loop only queues. The worker takes whatever has queued since it last looked (gathering.py), at most
`group_reads`, and runs the six steps for all of it; under load groups form by themselves. Chunks of batch
reads are groups that came ready-made: they are cut into slices of about `group_milliseconds` and taken in
turn with the waiting unary reads. Items whose DEK is not cached leave the group for the unwrap threads of
their lane and queue there again. Whatever happens, every read that was accepted ends in an answer or error.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

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
from vault.server.admission import Admission
from vault.server.gathering import Gathering
from vault.server.lane import Lacking, Lane, Part, Queued, ReadOutcome, Waiting, WaitingInPart

log = structlog.get_logger("datavault.worker")

_FIRST_SLICE: Final = 64
_ATTEMPTS: Final = 4


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

    def __init__(self, pipeline: DisclosurePipeline, keyring: Keyring, clock: Clock) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._wake = threading.Event()
        # one read must not wait for another's KMS call; a bulk is best gathered into few of them
        self._single = Lane("single", keyring, self._keys_came, threads=2, refresh=self._refresh)
        self._bulk = Lane("bulk", keyring, self._wake.set, threads=1, refresh=self._refresh)
        self._unanswered: set[Waiting | Part] = set()
        self._waiting = 0
        self._stopping = False
        self._dead = False
        self._drained = asyncio.Event()
        self._group_began = 0.0
        self._groups = 0
        self._reads = 0
        self._slice = _FIRST_SLICE
        self._gathering = Gathering(threading.Event(), clock)
        self._admission = Admission(clock)
        self._thread = threading.Thread(target=self._run, name="disclosure", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to take reads; answers are delivered on `loop`."""
        self._loop = loop
        self._thread.start()

    @property
    def state(self) -> WorkerState:
        """Read from any thread."""
        return WorkerState(self._waiting, self._stuck_seconds(), self._groups, self._reads, self._dead)

    # --- on the event loop ---------------------------------------------------------------------------------

    async def ask(self, read: Read) -> Released:
        """Have one read disclosed.

        Raises:
            DatavaultError: of the read, or why it was not taken, as `submit`.
        """
        self._refuse_if_unable(1, LIMITS.queued_reads)
        self._admission.admit(len(self._single))
        waiting = Waiting(Attempt(read), asyncio.get_running_loop().create_future())
        self._remember(waiting, 1)
        try:
            self._queue(self._single, (waiting,))
            outcome = await waiting.future
        finally:
            self._forget(waiting, 1)
            self._gathering.moved(len(self._single))
        if isinstance(outcome, DatavaultError):
            raise outcome
        return outcome

    def submit(self, reads: Sequence[Read]) -> "list[asyncio.Future[ReadOutcome]]":
        """Queue reads as if each was asked by itself; one future per read.

        Raises:
            OverloadedError: the queue is full, or what waits in it takes too long. ShuttingDownError.
            AuditUnavailableError: the group under way is stuck, so nothing could be recorded in time.
        """
        self._refuse_if_unable(len(reads), LIMITS.queued_reads)
        self._admission.admit(len(self._single))
        loop = asyncio.get_running_loop()
        queued = [Waiting(Attempt(read), loop.create_future()) for read in reads]
        for waiting in queued:
            self._remember(waiting, 1)
            waiting.future.add_done_callback(partial(self._forget, waiting, 1))
        self._queue(self._single, queued)
        return [waiting.future for waiting in queued]

    async def submit_part(self, reads: Sequence[Read]) -> "asyncio.Future[list[ReadOutcome]]":
        """Queue reads of a batch, waiting for room; one future for all, cancelled when nobody waits any more.

        Raises:
            ShuttingDownError, AuditUnavailableError: as `submit`.
        """
        while True:
            try:
                self._refuse_if_unable(len(reads), LIMITS.queued_reads // 2)
                break
            except OverloadedError:
                await asyncio.sleep(LIMITS.group_milliseconds / 1_000)
        part = Part(len(reads), asyncio.get_running_loop().create_future(), self._answered_one)
        self._remember(part, len(reads))
        part.future.add_done_callback(lambda _: self._forget(part, part.left))
        self._queue(
            self._bulk, [WaitingInPart(Attempt(read), part, place) for place, read in enumerate(reads)]
        )
        return part.future

    def _queue(self, lane: Lane, waiting: Sequence[Queued]) -> None:
        lane.put(waiting, LIMITS.queued_reads)
        if lane is self._single:
            self._gathering.moved(len(lane))
        else:
            self._gathering.end()
        if not self._wake.is_set():
            self._wake.set()

    def _remember(self, waiting: Waiting | Part, count: int) -> None:
        self._unanswered.add(waiting)
        self._waiting += count

    def _answered_one(self) -> None:
        self._waiting -= 1

    def _forget(self, waiting: Waiting | Part, count: int, _: object = None) -> None:
        """It is answered, or nobody waits for it any more; `count` of its reads had no answer before."""
        self._unanswered.discard(waiting)
        self._waiting -= count
        if self._stopping and not self._unanswered:
            self._drained.set()

    def _refuse_if_unable(self, count: int, most: int) -> None:
        if self._stopping:
            raise ShuttingDownError("the server is stopping: try another replica")
        if self._dead or self._stuck_seconds() > LIMITS.append_stuck_seconds:
            raise _unrecordable()
        if self._waiting + count > most:
            raise OverloadedError("too many reads are waiting")

    def _stuck_seconds(self) -> float:
        """How long the group under way has taken."""
        began = self._group_began
        return self._clock.monotonic() - began if began else 0.0

    async def stop(self) -> None:
        """Take no more reads, finish those that were accepted, end the thread."""
        self._stopping = True
        if self._unanswered and not self._dead:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), LIMITS.drain_seconds)
        self._answer_all(ShuttingDownError("the server is stopping: try another replica"))
        self._wake.set()
        await asyncio.to_thread(self._thread.join, LIMITS.append_stuck_seconds)
        self._single.close()
        self._bulk.close()

    def _answer_all(self, error: DatavaultError) -> None:
        unanswered = list(self._unanswered)
        self._unanswered.clear()
        for waiting in unanswered:
            waiting.settle(error)

    def _refresh(self, tenant: str) -> None:
        self._pipeline.refresh(tenant)

    # --- on the unwrap threads -----------------------------------------------------------------------------

    def _keys_came(self) -> None:
        self._gathering.moved(len(self._single))
        self._wake.set()

    # --- on the worker thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._stopping and not self._unanswered):
                self._wake.wait()
                self._wake.clear()
                while self._single or self._bulk:
                    self._gathering.wait(self._single, self._bulk)
                    began = self._clock.monotonic()
                    singles = self._take(self._single, LIMITS.group_reads)
                    middle = self._clock.monotonic()
                    taken = self._take(self._bulk, self._slice)
                    ended = self._clock.monotonic()
                    self._adapt(taken, ended - middle)
                    # a single read waits for the bulk between its groups too
                    self._admission.measure(singles, ended - began)
        except BaseException as error:
            log.critical("disclosure_worker_died", kind=type(error).__name__)
            raise
        finally:
            # in this order: a read accepted before is answered here, one that comes later is refused
            self._dead = True
            self._call(self._answer_all, _unrecordable())

    def _take(self, lane: Lane, most: int) -> int:
        """Run the six steps for what has queued, at most `most`; returns how many were taken."""
        group = lane.take(most)
        if not group:
            return 0
        self._group_began = self._clock.monotonic()
        try:
            self._disclose(lane, group)
        except Exception as error:
            log.error("group_fault", kind=type(error).__name__, reads=len(group))
            self._call(_settle, [(waiting, DatavaultError("internal error")) for waiting in group])
        finally:
            self._group_began = 0.0
        self._groups += 1
        self._reads += len(group)
        return len(group)

    def _disclose(self, lane: Lane, group: Sequence[Queued]) -> None:
        answers: list[tuple[Queued, ReadOutcome]] = []
        lacking: list[Lacking] = []
        results = self._pipeline.disclose([waiting.attempt for waiting in group])
        for waiting, result in zip(group, results, strict=True):
            if not isinstance(result, MissingKeys):
                answers.append((waiting, result))
            elif waiting.attempts < _ATTEMPTS:
                waiting.attempts += 1
                lacking.append((waiting, result))
            else:
                error = KeysUnavailableError(
                    "the keys changed too often while reading",
                    retry_after_seconds=LIMITS.retry_after_seconds,
                )
                answers.append((waiting, error))
        if lane is self._single:
            self._gathering.answered(len(answers) + len(lane))
        if answers:
            self._call(_settle, answers)
        if lacking:
            lane.fetch(lacking)

    def _adapt(self, taken: int, seconds: float) -> None:
        """Size the next slice of bulk reads so that it lasts about `group_milliseconds`."""
        if taken < self._slice // 2:
            return
        fitting = int(taken * LIMITS.group_milliseconds / max(seconds * 1_000, 0.1))
        self._slice = max(8, min(fitting, LIMITS.subjects_per_chunk, self._slice * 2))

    def _call(self, function: Callable[..., None], argument: object) -> None:
        """Call a function on the event loop."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(function, argument)


def _settle(answers: Sequence[tuple[Queued, ReadOutcome]]) -> None:
    for waiting, outcome in answers:
        waiting.settle(outcome)


def _unrecordable() -> AuditUnavailableError:
    return AuditUnavailableError("reads cannot be recorded now, so nothing is released")
