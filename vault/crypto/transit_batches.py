"""The items of one call, in requests of a size that the KMS takes, several at a time."""

import threading
from binascii import b2a_base64
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

import hvac
import orjson
import requests
from hvac.utils import format_url

from vault.crypto.transit_answers import batch_results, ciphertext, plaintext
from vault.crypto.transit_settings import TransitSettings
from vault.crypto.transit_transport import TransitTransport, Use
from vault.domain.errors import DatavaultError, KeyForbiddenError, KeyMissingError, KeysUnavailableError
from vault.domain.limits import LIMITS
from vault.domain.protocols import Clock, UnwrapItem, WrapItem

PARALLEL: Final = 2
"""Requests of one call under way at a time; a bulk is several calls (keyring.py). With three, threads that
waited for the interpreter cost more than was gained."""
_TIMEOUTS: Final = 2

_Item = TypeVar("_Item")
_Result = bytes | DatavaultError


@dataclass(frozen=True, slots=True)
class Verb(Generic[_Item]):
    """One of Transit's verbs for batches: its path, an item as it is sent, a result as it is understood."""

    path: str
    sent: Callable[[_Item], dict[str, str]]
    read: Callable[[Mapping[str, Any]], _Result]


def _to_wrap(item: WrapItem) -> dict[str, str]:
    return {"plaintext": _base64(item.plaintext), "context": _base64(item.context)}


def _to_unwrap(item: UnwrapItem) -> dict[str, str]:
    # bytes that are no ASCII were never a wrapped key: the KMS says so of that one item
    return {"ciphertext": item.wrapped.decode("ascii", "replace"), "context": _base64(item.context)}


def _base64(raw: bytes) -> str:
    return b2a_base64(raw, newline=False).decode("ascii")


ENCRYPT: Final = Verb("encrypt", _to_wrap, ciphertext)
DECRYPT: Final = Verb("decrypt", _to_unwrap, plaintext)
REWRAP: Final = Verb("rewrap", _to_unwrap, ciphertext)


class _Batch(Generic[_Item]):
    """Items on their way: the spans still to send, the results so far, and what went wrong for good."""

    def __init__(self, verb: Verb[_Item], key: str, items: Sequence[_Item], size: int) -> None:
        self.verb = verb
        self.key = key
        self.items = items
        self.results: list[_Result | None] = [None] * len(items)
        self.failure: DatavaultError | None = None
        self._lock = threading.Lock()
        self._spans = deque(_spans(0, len(items), size))

    @property
    def spans(self) -> int:
        """How many are still to send."""
        return len(self._spans)

    def take(self) -> tuple[int, int] | None:
        """The next span; None when there is none, or the batch has failed."""
        with self._lock:
            return self._spans.popleft() if self._spans and self.failure is None else None

    def split(self, span: tuple[int, int], size: int) -> None:
        """Put a span back, in parts of at most `size`."""
        with self._lock:
            self._spans.extendleft(reversed(_spans(*span, size)))

    def fail(self, error: DatavaultError) -> None:
        """Send no more. Of several failures the first is told, unless a later one says more of the key."""
        with self._lock:
            if self.failure is None or isinstance(error, KeyForbiddenError | KeyMissingError):
                self.failure = error


class TransitBatches:
    """Thread-safe. Caller and helpers take spans of a batch in turn until none is left.

    A batch of any size ends within four times `timeout_seconds`: it begins no request after twice that, and
    none after one has failed for good.
    """

    def __init__(self, transport: TransitTransport, settings: TransitSettings, clock: Clock) -> None:
        self._transport = transport
        self._settings = settings
        self._clock = clock
        self._batch_items = settings.batch_items
        self._helpers = ThreadPoolExecutor(max_workers=max(1, PARALLEL - 1), thread_name_prefix="kms-batch")

    def send(self, verb: Verb[_Item], key: str, items: Sequence[_Item]) -> list[_Result]:
        """One result per item, in order; items of a request that failed get an error each.

        Raises:
            KeyForbiddenError, KeyMissingError, KeysUnavailableError: no request was answered, or the key as
                such cannot be used.
        """
        batch = _Batch(verb, key, items, self._batch_items)
        until = self._clock.monotonic() + _TIMEOUTS * self._settings.timeout_seconds
        helpers = []
        for _ in range(min(PARALLEL, batch.spans) - 1):
            with suppress(RuntimeError):  # closed: the caller goes on alone
                helpers.append(self._helpers.submit(self._work, batch, until))
        self._work(batch, until)
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        return _settled(batch)

    def close(self) -> None:
        """Help no more; returns at once."""
        self._helpers.shutdown(wait=False, cancel_futures=True)

    def _work(self, batch: _Batch[_Item], until: float) -> None:
        while (span := batch.take()) is not None:
            try:
                if self._clock.monotonic() > until:
                    raise _too_slow()
                self._send_span(batch, span)
            except DatavaultError as error:
                batch.fail(error)

    def _send_span(self, batch: _Batch[_Item], span: tuple[int, int]) -> None:
        verb, (begin, end) = batch.verb, span
        use = Use("update", f"{verb.path}/{batch.key}")
        body = orjson.dumps({"batch_input": [verb.sent(item) for item in batch.items[begin:end]]})
        answer = self._transport.request(partial(self._post, use, body), use)
        if answer.too_many_items and end - begin > 1:
            # it stays so: the limit is the server's configuration, not the state of the moment
            self._batch_items = min(self._batch_items, (end - begin) // 2)
            batch.split(span, self._batch_items)
            return
        results = batch_results(answer, end - begin)
        if results is None:
            raise answer.failure()
        batch.results[begin:end] = [verb.read(result) for result in results]

    def _post(self, use: Use, body: bytes, client: hvac.Client) -> requests.Response:
        # hvac's methods for the verbs encode by the standard library, which takes longer than the KMS
        response: requests.Response = client.adapter.post(
            format_url("/v1/{mount}/{path}", mount=self._settings.mount, path=use.path),
            data=body,
            headers={"Content-Type": "application/json"},
        )
        return response


def _spans(begin: int, end: int, size: int) -> list[tuple[int, int]]:
    return [(at, min(at + size, end)) for at in range(begin, end, size)]


def _settled(batch: _Batch[_Item]) -> list[_Result]:
    failure, results = batch.failure, batch.results
    if failure is None:
        return [result for result in results if result is not None]
    if isinstance(failure, KeyForbiddenError | KeyMissingError) or all(result is None for result in results):
        raise failure.again()
    return [failure.again() if result is None else result for result in results]


def _too_slow() -> KeysUnavailableError:
    return KeysUnavailableError(
        "the KMS answered too slowly for so many keys", retry_after_seconds=LIMITS.retry_after_seconds
    )
