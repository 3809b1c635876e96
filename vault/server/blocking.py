"""Blocking work off the event loop: changes on one thread, in the order they came; queries on a few."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vault.domain.errors import OverloadedError, ShuttingDownError
from vault.domain.limits import LIMITS
from vault.server.scheduling import take_turns


class BlockingWorker:
    """Runs blocking calls on `threads` threads of its own; with one, they run one at a time and in order."""

    def __init__(self, name: str, *, threads: int = 1, most_queued: int = LIMITS.queued_changes) -> None:
        self._executor = ThreadPoolExecutor(
            max_workers=threads, thread_name_prefix=name, initializer=take_turns
        )
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
            raise OverloadedError("too many calls are waiting")
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
