"""How much of a batch is under way: no more than one part ahead of what the caller has read.

Before a read begins, the bytes that its answer can have at most are set aside, and given back once the answer
was sent. So what a stream holds is bounded whatever the values turn out to be, and a caller that does not
read stops its own batch and nobody else's.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, TypeVar

from vault.domain.limits import LIMITS

_RESULT_BYTES: Final = 512
"""Name, form, version and denial of one attribute on the wire: less than this."""
Q = TypeVar("Q")
R = TypeVar("R")


def largest_answer(attributes: int) -> int:
    """The most bytes that an answer with so many attributes can have."""
    return min(LIMITS.message_bytes, _RESULT_BYTES + attributes * (LIMITS.value_bytes + _RESULT_BYTES))


class AnswerBudget:
    """The bytes set aside over all streams of a process. Lives on the event loop."""

    def __init__(self) -> None:
        self.left = LIMITS.batch_answer_bytes
        self._waiting: set[asyncio.Future[None]] = set()

    def take(self, count: int) -> None:
        self.left -= count

    def give(self, count: int) -> None:
        """Give bytes back, and let those who wait look again."""
        self.left += count
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def changed(self) -> None:
        """Wait until some were given back."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)


class StreamShare:
    """What one stream has of the budget."""

    def __init__(self, budget: AnswerBudget) -> None:
        self._budget = budget
        self.held = 0

    async def reserve(self, most: int, each: int) -> int:
        """Set `each` bytes aside for as many reads as may begin now, 1 to `most`; waits until some may."""
        while not (count := self._room(most, each)):
            await self._budget.changed()
        self.held += count * each
        self._budget.take(count * each)
        return count

    def give(self, count: int) -> None:
        """Give bytes back: their answers were sent."""
        self.held -= count
        self._budget.give(count)

    def _room(self, most: int, each: int) -> int:
        own = LIMITS.stream_answer_bytes
        room = min(most, (own - self.held) // each, self._budget.left // each)
        if not self.held:
            # one at a time goes on whatever others hold
            return max(1, room)
        # parts of less than half would cost a transaction each for little
        return room if room >= min(most, own // each // 2) else 0


async def read_ahead(
    requests: AsyncIterator[Q], begin: Callable[[Q], AsyncIterator[R]]
) -> AsyncGenerator[R, None]:
    """What `begin` makes of each request, part by part: one part is begun while the answers of the last go
    out. Faults of `requests` and `begin` are raised where the parts are taken. Close it (`aclosing`)."""
    begun: asyncio.Queue[R | Exception | None] = asyncio.Queue(1)

    async def take() -> None:
        try:
            async for request in requests:
                async for part in begin(request):
                    await begun.put(part)
            await begun.put(None)
        except Exception as error:
            await begun.put(error)

    task = asyncio.ensure_future(take())
    try:
        while (part := await begun.get()) is not None:
            if isinstance(part, Exception):
                raise part
            yield part
    finally:
        task.cancel()
