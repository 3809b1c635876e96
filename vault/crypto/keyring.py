"""DEKs in memory: made, unwrapped, cached for a short time (keys.md, "DEK cache").

The cache is keyed by the wrapped bytes that were just read, together with the scope and the dek id of their
row, so it can never answer for a row that was erased, replaced or moved.
"""

import hmac
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Final, TypeVar

from vault.crypto.envelope import DataKey, key_context
from vault.crypto.names import class_key
from vault.crypto.opaque import KEY_BYTES
from vault.domain.errors import DatavaultError, IntegrityError, KeysUnavailableError
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, KeyProvider, Randomness, UnwrapItem, WrapItem
from vault.domain.types import KeyScope, WrappedKey

Request = tuple[KeyScope, WrappedKey]
_Place = tuple[bytes, bytes, str, bytes, str]
_Answer = DataKey | DatavaultError
_Given = TypeVar("_Given")
_Did = TypeVar("_Did")

_THREADS: Final = 8
"""Key classes of concurrent calls that the provider is asked for at a time, besides one per call."""
_FLIGHT_KEYS: Final = 400
"""Keys that are asked for together, two requests' worth: while the KMS opens some, those that came are
checked. With all in one flight a cold bulk took a sixth longer."""
_SLICE: Final = 256
"""Entries handled under the lock at a time: reads of cached keys wait no longer for a bulk."""
_UNANSWERED: Final = KeysUnavailableError("a key could not be unwrapped")


class _Flight:
    """Keys of one class that one thread is asking the provider for. Others wait until it has landed."""

    __slots__ = ("answers", "fault", "key_class", "landed", "requests")

    def __init__(self, key_class: str) -> None:
        self.key_class: Final = key_class
        self.requests: Final[dict[_Place, Request]] = {}
        self.answers: Final[dict[_Place, _Answer]] = {}
        self.landed: Final = threading.Event()
        self.fault: Exception | None = None
        """What the provider raised that it must not raise."""


class Keyring:
    """Thread-safe. `hits`, `misses` and `entries` are for metrics.

    A key leaves the cache when `max_entries` others were used since, or `lifetime_seconds` after it came in;
    use does not prolong it, so a key that the provider would refuse by now is refused here soon.
    """

    def __init__(
        self,
        provider: KeyProvider,
        clock: Clock,
        randomness: Randomness,
        lifetime_seconds: float = LIMITS.dek_cache_seconds,
        max_entries: int = LIMITS.dek_cache_entries,
    ) -> None:
        self._provider = provider
        self._clock = clock
        self._randomness = randomness
        self._lifetime = lifetime_seconds
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._cache: OrderedDict[_Place, tuple[DataKey, float]] = OrderedDict()
        self._under_way: dict[_Place, _Flight] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="keyring")
        self.hits = 0
        self.misses = 0

    @property
    def entries(self) -> int:
        """Keys in the cache now."""
        return len(self._cache)

    def cached_of(self, tenant: str, subject: bytes, keys: Iterable[WrappedKey]) -> dict[bytes, DataKey]:
        """Those of a subject's DEKs that are here, by dek id. Never waits for the provider."""
        held: dict[bytes, DataKey] = {}
        now = self._clock.monotonic()
        with self._lock:
            for key in keys:
                key_class, dek_id, wrapped, _ = key
                found = self._find((wrapped, subject, tenant, dek_id, key_class), now)
                if found is not None:
                    held[dek_id] = found
        return held

    def count(self, hits: int, misses: int) -> None:
        """For metrics: so many keys that a read wanted were in the cache, and so many were not."""
        self.hits += hits
        self.misses += misses

    def unwrap(self, requests: Sequence[Request]) -> list[DataKey | DatavaultError]:
        """Each request's DEK, or its own error; blocks while the provider works.

        One call of the provider per key class and `_FLIGHT_KEYS`, all at once. What another thread is already
        asking for is awaited, not asked again. The error is IntegrityError where the wrapped key does not
        open in its scope or is not the one its row commits to, KeysUnavailableError where the provider failed
        for the whole call (of the kind that the provider raised), KeyTooOldError where the row is to be read
        again.
        """
        places = [_place(scope, key) for scope, key in requests]
        answers: list[_Answer] = [_UNANSWERED] * len(requests)
        awaited: list[tuple[int, _Flight]] = []
        mine: dict[str, list[_Flight]] = {}
        try:
            for begin in range(0, len(places), _SLICE):
                with self._lock:
                    now = self._clock.monotonic()
                    for at in range(begin, min(begin + _SLICE, len(places))):
                        found = self._find(places[at], now)
                        if found is None:
                            awaited.append((at, self._board(places[at], requests[at], mine)))
                        else:
                            answers[at] = found
            self._each(self._fly, list(chain.from_iterable(mine.values())))
        finally:
            # whatever went wrong above, nobody may wait for ever
            for flight in chain.from_iterable(mine.values()):
                self._land(flight)
        for flight in chain.from_iterable(mine.values()):
            if flight.fault is not None:
                raise flight.fault
        for flight in {flight for _, flight in awaited}:
            flight.landed.wait()
        for at, flight in awaited:
            answers[at] = flight.answers[places[at]]
        return answers

    def create(self, scopes: Sequence[KeyScope]) -> list[tuple[WrappedKey, DataKey]]:
        """A fresh DEK for each scope, wrapped in batches, one per key class, and cached.

        Raises:
            KeysUnavailableError: the provider did not wrap them; none was made.
        """
        raws = [self._randomness.token(KEY_BYTES) for _ in scopes]
        classes: dict[str, list[int]] = {}
        for index, scope in enumerate(scopes):
            classes.setdefault(scope.key_class, []).append(index)

        def wrap(key_class: str) -> list[bytes]:
            items = [WrapItem(raws[index], key_context(scopes[index])) for index in classes[key_class]]
            return self._provider.wrap(class_key(key_class), items)

        wrapped: list[bytes] = [b""] * len(scopes)
        for indexes, texts in zip(classes.values(), self._each(wrap, list(classes)), strict=True):
            for index, text in zip(indexes, texts, strict=True):
                wrapped[index] = text
        made: list[tuple[WrappedKey, DataKey]] = []
        for scope, raw, text in zip(scopes, raws, wrapped, strict=True):
            key = DataKey(raw)
            made.append((WrappedKey(scope.key_class, key.id, text), key))
        with self._lock:
            until = self._clock.monotonic() + self._lifetime
            for scope, (row, key) in zip(scopes, made, strict=True):
                self._keep(_place(scope, row), key, until)
        return made

    def forget(self, scopes: Collection[KeyScope]) -> None:
        """Drop the DEKs of these scopes, also those now being fetched.

        Walks the whole cache once (30 ms at 100,000 entries): call it once for many scopes.
        """
        gone = {(scope.subject, scope.tenant, scope.key_class) for scope in scopes}
        with self._lock:
            places = [*self._under_way, *self._cache]
        # the long part is done without the lock, for which reads would wait
        doomed = [place for place in places if (place[1], place[2], place[4]) in gone]
        with self._lock:
            for place in doomed:
                self._under_way.pop(place, None)
                self._cache.pop(place, None)

    def _find(self, place: _Place, now: float) -> DataKey | None:
        entry = self._cache.get(place)
        if entry is None:
            return None
        if now >= entry[1]:
            del self._cache[place]
            return None
        self._cache.move_to_end(place)
        return entry[0]

    def _keep(self, place: _Place, key: DataKey, until: float) -> None:
        self._cache[place] = (key, until)
        self._cache.move_to_end(place)
        while len(self._cache) > self._max_entries:
            self._cache.popitem(last=False)

    def _board(self, place: _Place, request: Request, mine: dict[str, list[_Flight]]) -> _Flight:
        flight = self._under_way.get(place)
        if flight is None:
            key_class = request[0].key_class
            flights = mine.setdefault(key_class, [])
            if not flights or len(flights[-1].requests) == _FLIGHT_KEYS:
                flights.append(_Flight(key_class))
            flight = flights[-1]
            flight.requests[place] = request
            self._under_way[place] = flight
        return flight

    def _fly(self, flight: _Flight) -> None:
        try:
            items = [UnwrapItem(key.wrapped, key_context(scope)) for scope, key in flight.requests.values()]
            opened = self._provider.unwrap(class_key(flight.key_class), items)
        except KeysUnavailableError as error:
            failure = error
        except DatavaultError as error:
            failure = KeysUnavailableError(error.message)
        except Exception as error:
            failure, flight.fault = _UNANSWERED, error
        else:
            if len(opened) == len(items):
                for (place, (_, key)), raw in zip(flight.requests.items(), opened, strict=True):
                    flight.answers[place] = _checked(raw, key)
                self._land(flight)
                return
            failure = KeysUnavailableError(
                "the key provider answered another number of keys than it was asked for"
            )
        for place in flight.requests:
            flight.answers[place] = failure.again()
        self._land(flight)

    def _land(self, flight: _Flight) -> None:
        """Keep what came, and tell those who wait. Harmless when it was done before."""
        if flight.landed.is_set():
            return
        places = list(flight.requests)
        for begin in range(0, len(places), _SLICE):
            with self._lock:
                until = self._clock.monotonic() + self._lifetime
                for place in places[begin : begin + _SLICE]:
                    answer = flight.answers.get(place)
                    if answer is None:
                        answer = flight.answers[place] = _UNANSWERED.again()
                    # forgotten meanwhile: those who wait get the key, the cache does not
                    if self._under_way.get(place) is flight:
                        del self._under_way[place]
                        if isinstance(answer, DataKey):
                            self._keep(place, answer, until)
        flight.landed.set()

    def _each(self, do: Callable[[_Given], _Did], whats: Sequence[_Given]) -> list[_Did]:
        """Do it with each, all at a time, the first on this thread."""
        others = [self._begin(do, what) for what in whats[1:]]
        return [do(what) for what in whats[:1]] + [finish() for finish in others]

    def _begin(self, do: Callable[[_Given], _Did], what: _Given) -> Callable[[], _Did]:
        try:
            return self._threads.submit(do, what).result
        except RuntimeError:  # the process is ending: no thread is begun any more
            return partial(do, what)


def _place(scope: KeyScope, key: WrappedKey) -> _Place:
    return key.wrapped, scope.subject, scope.tenant, key.dek_id, scope.key_class


def _checked(raw: bytes | DatavaultError, key: WrappedKey) -> _Answer:
    if isinstance(raw, DatavaultError):
        return raw
    try:
        opened = DataKey(raw)
    except IntegrityError as error:
        return error
    if not hmac.compare_digest(opened.id, key.dek_id):
        return IntegrityError("a data key is not the one its row commits to")
    return opened
