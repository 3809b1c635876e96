"""Takes the steps of a long job: each on a worker's thread, the waits between them on the event loop.

So a job holds a thread for one short step at a time, a caller that goes away or a server that stops breaks it
off between two steps, and the caller hears of it a few times a second however fast the steps are.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog

from vault.domain.errors import DatavaultError, ShuttingDownError
from vault.keys.phases import Phase
from vault.server.blocking import BlockingWorker
from vault.server.edge import Edge

log = structlog.get_logger("datavault.keys")

_TELL_SECONDS: Final = 0.25


class Progress(Protocol):
    """What a step gives: the phase, and how long to wait before the next step."""

    @property
    def phase(self) -> Phase: ...
    @property
    def pause_seconds(self) -> float: ...


P = TypeVar("P", bound=Progress)


async def take_steps(
    edge: Edge, worker: BlockingWorker, steps: Generator[P, None, None]
) -> AsyncGenerator[P, None]:
    """The progress worth telling: each new phase, the end, else what there is every quarter of a second.

    `worker` has one thread: closing the job is queued behind the step that is under way.

    Raises:
        ShuttingDownError: the server stops; OverloadedError; and whatever a step raises.
    """
    loop = asyncio.get_running_loop()
    told, told_at = None, loop.time()
    try:
        while (found := await worker.run(partial(next, steps, None))) is not None:
            if found.phase is not told or loop.time() >= told_at + _TELL_SECONDS:
                told, told_at = found.phase, loop.time()
                yield found
            if await edge.stopping(found.pause_seconds):
                raise ShuttingDownError("the server is stopping: run it again to go on")
    finally:
        # a task that is being cancelled may be cancelled again: the job is closed all the same
        await asyncio.shield(asyncio.ensure_future(_close(worker, steps)))


async def _close(worker: BlockingWorker, steps: Generator[P, None, None]) -> None:
    try:
        await worker.run(steps.close)
    except DatavaultError as error:
        log.error("job_not_closed", reason=error.reason.value)
