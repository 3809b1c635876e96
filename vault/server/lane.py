"""One queue of reads, and the threads that fetch the keys its reads lack (architecture.md, "Groups").

Single reads and bulk have a lane each, so that a bulk for which a slow KMS has to open thousands of keys
holds up no single read. Misses gather while the KMS is being asked and go out together in the next call
(keys.md, "DEK cache").
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from vault.crypto.envelope import DataKey
from vault.crypto.keyring import Keyring
from vault.domain.errors import DatavaultError, KeysUnavailableError
from vault.reads import Attempt, MissingKeys, Released

log = structlog.get_logger("datavault.worker")

ReadOutcome = Released | DatavaultError


class Waiting:
    """One queued read: the attempt, whom to tell, and how often it was tried."""

    __slots__ = ("attempt", "attempts", "future")

    def __init__(self, attempt: Attempt, future: "asyncio.Future[ReadOutcome]") -> None:
        self.attempt = attempt
        self.attempts = 1
        self.future = future

    @property
    def done(self) -> bool:
        """Whether it is answered, or nobody waits for it any more."""
        return self.future.done()

    def settle(self, outcome: ReadOutcome) -> None:
        """Answer it, unless it is done. On the event loop, as all that answers."""
        if not self.future.done():
            self.future.set_result(outcome)


class Part:
    """Reads of a batch whose answers are awaited together, in the order asked: a future for each would cost a
    customer 8 us. `left` are those without an answer; `answered` is called at each answer."""

    __slots__ = ("_answered", "_answers", "future", "left")

    def __init__(
        self, count: int, future: "asyncio.Future[list[ReadOutcome]]", answered: Callable[[], None]
    ) -> None:
        self.future = future
        self.left = count
        self._answered = answered
        self._answers: list[ReadOutcome | None] = [None] * count

    def answer(self, place: int, outcome: ReadOutcome) -> None:
        """Answer one of them, unless it is answered or nobody waits any more."""
        if self._answers[place] is not None or self.future.done():
            return
        self._answers[place] = outcome
        self.left -= 1
        self._answered()
        if not self.left:
            self.future.set_result([each for each in self._answers if each is not None])

    def settle(self, outcome: ReadOutcome) -> None:
        """Answer all that are not answered."""
        for place in range(len(self._answers)):
            self.answer(place, outcome)


class WaitingInPart:
    """As `Waiting`, one of a part."""

    __slots__ = ("_part", "_place", "attempt", "attempts")

    def __init__(self, attempt: Attempt, part: Part, place: int) -> None:
        self.attempt = attempt
        self.attempts = 1
        self._part = part
        self._place = place

    @property
    def done(self) -> bool:
        """Whether all of the part is answered, or nobody waits for it any more."""
        return self._part.future.done()

    def settle(self, outcome: ReadOutcome) -> None:
        self._part.answer(self._place, outcome)


Queued = Waiting | WaitingInPart
Lacking = tuple[Queued, MissingKeys]


class Lane:
    """Thread-safe. `ready` is called when reads were queued again."""

    def __init__(
        self,
        name: str,
        keyring: Keyring,
        ready: Callable[[], None],
        *,
        threads: int,
        refresh: Callable[[str], None] | None = None,
    ) -> None:
        """`refresh` reads a tenant's lookup keys again."""
        self._keyring = keyring
        self._refresh = refresh
        self._ready = ready
        self._queue: deque[Queued] = deque()
        self._lock = threading.Lock()
        self._lacking: list[Lacking] = []
        self._threads = threads
        self._fetching = 0
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=f"unwrap-{name}")

    def __len__(self) -> int:
        """How many are queued, those included that nobody waits for any more."""
        return len(self._queue)

    def put(self, waiting: Iterable[Queued], most: int) -> None:
        """Queue reads. At most `most` are waited for at a time; the others leave before they are as many."""
        self._queue.extend(waiting)
        if len(self._queue) > 2 * most:
            self._prune()

    def take(self, most: int) -> list[Queued]:
        """The next reads that somebody waits for, at most `most`."""
        group: list[Queued] = []
        while self._queue and len(group) < most:
            waiting = self._queue.popleft()
            if not waiting.done:
                group.append(waiting)
        return group

    def fetch(self, lacking: Sequence[Lacking]) -> None:
        """Have keys unwrapped; then their reads queue again, all at once.

        Raises:
            RuntimeError: after `close`.
        """
        with self._lock:
            # a KMS that hangs may not gather what was cancelled meanwhile
            self._lacking = [each for each in self._lacking if not each[0].done]
            self._lacking += lacking
            if self._fetching == self._threads:
                return
            self._executor.submit(self._fetch_all)
            self._fetching += 1

    def close(self) -> None:
        """Fetch no more keys; returns at once."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _prune(self) -> None:
        for _ in range(len(self._queue)):
            try:
                waiting = self._queue.popleft()
            except IndexError:
                return
            if not waiting.done:
                self._queue.append(waiting)

    # --- on the unwrap threads -----------------------------------------------------------------------------

    def _fetch_all(self) -> None:
        while lacking := self._next_lacking():
            self._fetch([each for each in lacking if not each[0].done])

    def _next_lacking(self) -> list[Lacking]:
        with self._lock:
            lacking, self._lacking = self._lacking, []
            if not lacking:
                self._fetching -= 1
            return lacking

    def _fetch(self, lacking: Sequence[Lacking]) -> None:
        requests = [request for _, missing in lacking for request in missing.requests]
        fetched: Sequence[DataKey | DatavaultError]
        try:
            fetched = self._keyring.unwrap(requests)
        except Exception as error:
            log.error("unwrap_fault", kind=type(error).__name__, reads=len(lacking))
            if len(lacking) > 1:
                for each in lacking:
                    self._fetch([each])
                return
            fetched = [KeysUnavailableError("the key provider failed")] * len(requests)
        lookups = self._refreshed({tenant for _, missing in lacking for tenant in missing.tenants})
        answers = iter(fetched)
        for waiting, missing in lacking:
            # each its own answer: equal wrapped bytes in another subject's row must fail there
            keys = {wrapped: next(answers) for _, wrapped in missing.requests}
            refreshed = next((lookups[tenant] for tenant in missing.tenants), waiting.attempt.refreshed)
            waiting.attempt = Attempt(waiting.attempt.read, {**waiting.attempt.keys, **keys}, refreshed)
        self._queue.extend(waiting for waiting, _ in lacking)
        self._ready()

    def _refreshed(self, tenants: Collection[str]) -> dict[str, bool | DatavaultError]:
        """Have the lookup keys of tenants read again; per tenant True, or why it could not be done."""
        done: dict[str, bool | DatavaultError] = {}
        for tenant in tenants:
            try:
                if self._refresh is None:
                    raise KeysUnavailableError("the lookup keys cannot be read again")
                self._refresh(tenant)
                done[tenant] = True
            except DatavaultError as error:
                done[tenant] = error
            except Exception as error:
                log.error("refresh_fault", kind=type(error).__name__)
                done[tenant] = KeysUnavailableError("the lookup keys cannot be read again")
        return done
