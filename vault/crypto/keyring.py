"""DEKs in memory: made, unwrapped, cached for a short time (keys.md, "DEK cache").

The cache is keyed by the wrapped bytes that were just read, together with the scope and the dek id of their
row, so it can never answer for a row that was erased, replaced or moved.
"""

import hmac
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One key that this thread is asking the provider for; others may wait for `future`."""

    place: _Place
    scope: KeyScope
    key: WrappedKey
    future: "Future[_Answer]"


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
        self._under_way: dict[_Place, Future[_Answer]] = {}
        self.hits = 0
        self.misses = 0

    @property
    def entries(self) -> int:
        """Keys in the cache now."""
        return len(self._cache)

    def cached(self, scope: KeyScope, key: WrappedKey) -> DataKey | None:
        """The DEK, if it is here. Never waits for the provider."""
        place = _place(scope, key)
        now = self._clock.monotonic()
        with self._lock:
            found = self._find(place, now)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
            return found

    def unwrap(self, requests: Sequence[Request]) -> list[DataKey | DatavaultError]:
        """Each request's DEK, or its own error; blocks while the provider works.

        One call of the provider per key class. What another thread is already asking for is awaited, not
        asked again. The error is IntegrityError where the wrapped key does not open in its scope or is not
        the one its row commits to, KeysUnavailableError where the provider failed for the whole class.
        """
        mine: dict[str, list[_Fetch]] = {}
        with self._lock:
            awaited = [self._join(request, mine) for request in requests]
        try:
            for key_class, group in mine.items():
                self._settle(group, self._ask(key_class, group))
        finally:
            # whatever went wrong above, nobody may wait for ever
            for group in mine.values():
                self._settle(group, [KeysUnavailableError("a key could not be unwrapped")] * len(group))
        return [future.result() for future in awaited]

    def create(self, scopes: Sequence[KeyScope]) -> list[tuple[WrappedKey, DataKey]]:
        """A fresh DEK for each scope, wrapped in batches, and cached.

        Raises:
            KeysUnavailableError: the provider did not wrap them; none was made.
        """
        raws = [self._randomness.token(KEY_BYTES) for _ in scopes]
        wrapped: list[bytes] = [b""] * len(scopes)
        for key_class in dict.fromkeys(scope.key_class for scope in scopes):
            at = [index for index, scope in enumerate(scopes) if scope.key_class == key_class]
            items = [WrapItem(raws[index], key_context(scopes[index])) for index in at]
            for index, text in zip(at, self._provider.wrap(class_key(key_class), items), strict=True):
                wrapped[index] = text
        made: list[tuple[WrappedKey, DataKey]] = []
        for scope, raw, text in zip(scopes, raws, wrapped, strict=True):
            key = DataKey(raw)
            made.append((WrappedKey(scope.key_class, key.id, text), key))
        with self._lock:
            for scope, (row, key) in zip(scopes, made, strict=True):
                self._keep(_place(scope, row), key)
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

    def _keep(self, place: _Place, key: DataKey) -> None:
        self._cache[place] = (key, self._clock.monotonic() + self._lifetime)
        self._cache.move_to_end(place)
        while len(self._cache) > self._max_entries:
            self._cache.popitem(last=False)

    def _join(self, request: Request, mine: dict[str, list[_Fetch]]) -> "Future[_Answer]":
        scope, key = request
        place = _place(scope, key)
        future = self._under_way.get(place)
        if future is not None:
            return future
        future = Future()
        found = self._find(place, self._clock.monotonic())
        if found is not None:
            future.set_result(found)
        else:
            self._under_way[place] = future
            mine.setdefault(scope.key_class, []).append(_Fetch(place, scope, key, future))
        return future

    def _ask(self, key_class: str, group: Sequence[_Fetch]) -> list[_Answer]:
        try:
            items = [UnwrapItem(fetch.key.wrapped, key_context(fetch.scope)) for fetch in group]
            opened = self._provider.unwrap(class_key(key_class), items)
        except DatavaultError as error:
            message = error.message
        else:
            if len(opened) == len(group):
                return [_checked(raw, fetch.key) for raw, fetch in zip(opened, group, strict=True)]
            message = "the key provider answered another number of keys than it was asked for"
        return [KeysUnavailableError(message) for _ in group]

    def _settle(self, group: Sequence[_Fetch], answers: Sequence[_Answer]) -> None:
        with self._lock:
            for fetch, answer in zip(group, answers, strict=True):
                if fetch.future.done():
                    continue
                # forgotten meanwhile: those who wait get the key, the cache does not
                if self._under_way.get(fetch.place) is fetch.future:
                    del self._under_way[fetch.place]
                    if isinstance(answer, DataKey):
                        self._keep(fetch.place, answer)
                fetch.future.set_result(answer)


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
