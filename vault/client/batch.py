"""What of a batch was sent and has no result yet. Knows nothing of gRPC, threads or time.

The order of one batch, kept by both clients:
    1 offer   items from the source while `wants_more`; `close` at its end
    2 send    `messages()`, whole chunks
    3 yield   `refused()`: results of items that could not be sent, in their place
    4 accept  each answer of the stream; its results come in the order of the items
    5 rewind  when a stream broke: all that has no result is sent again, with the same request ids
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from vault.client import answers, methods
from vault.client.calls import write_request
from vault.client.channel import MESSAGE_BYTES
from vault.client.errors import DatavaultClientError, Internal, InvalidArgument
from vault.client.fields import message, names, word
from vault.client.methods import Method
from vault.client.results import Disclosure, ReadResult, WriteItem, WriteReceipt, WriteResult
from vault.client.status import from_item_error
from vault.client.words import FORMS, Form
from vault.v1 import data_service_pb2 as data

LARGEST_CHUNK: Final = 1_000
_CHUNKS_ON_THE_WAY: Final = 4
"""Enough to keep the server busy while one answer travels; bounds what both sides hold."""
_FRAME_BYTES: Final = 16
_CHUNK_BYTES: Final = MESSAGE_BYTES - 64 * 1024

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")
V = TypeVar("V")


@dataclass(slots=True)
class Entry(Generic[T, P]):
    """One item: its place in the source, its payload or why it has none, and whether it ends a chunk."""

    index: int
    item: T
    payload: P | None = None
    error: DatavaultClientError | None = None
    size: int = 0
    ends_chunk: bool = False


@dataclass(frozen=True, slots=True)
class BatchKind(Generic[T, P, V, R]):
    """One kind of batch: how its items travel (as payloads) and how their results are read.

    The error that `encode` or `parse` raises becomes the item's own result. `size` is in bytes.
    """

    method: Method[Any, Any]
    encode: Callable[[T], P]
    size: Callable[[P], int]
    pack: Callable[[list[P]], Any]
    parse: Callable[[P, Any], V]
    result: Callable[[Entry[T, P], V | None, DatavaultClientError | None], R]


class Batch(Generic[T, P, V, R]):
    """The state of one batch; the docstring of this module gives the order of the calls."""

    def __init__(self, kind: BatchKind[T, P, V, R], chunk: int) -> None:
        if isinstance(chunk, bool) or not isinstance(chunk, int) or not 1 <= chunk <= LARGEST_CHUNK:
            raise InvalidArgument.of("chunk", f"must be 1 to {LARGEST_CHUNK}")
        self.kind = kind
        self._chunk = chunk
        self._offered = 0
        self._closed = False
        self._sent: deque[Entry[T, P]] = deque()
        self._unsent: deque[Entry[T, P]] = deque()
        self._unsent_bytes = 0
        self._on_the_way = 0
        self._next_index = 0

    @property
    def wants_more(self) -> bool:
        """Whether an item may be offered now."""
        return not self._closed and not self._full() and self._on_the_way < _CHUNKS_ON_THE_WAY

    @property
    def done(self) -> bool:
        """Whether every item has its result."""
        return self._closed and not self._sent and not self._unsent

    @property
    def awaits_answer(self) -> bool:
        """Whether the next result must come from the server."""
        return bool(self._sent) and self._sent[0].error is None

    @property
    def all_sent(self) -> bool:
        """Whether nothing is left to send on this stream."""
        return self._closed and not self._unsent

    def offer(self, item: T) -> None:
        """Take the next item of the source; one that cannot be sent gets its error as its result."""
        entry: Entry[T, P] = Entry(self._offered, item)
        self._offered += 1
        try:
            entry.payload = self.kind.encode(item)
            entry.size = self.kind.size(entry.payload) + _FRAME_BYTES
            if entry.size > _CHUNK_BYTES:
                raise InvalidArgument.of("item", f"must be smaller than {_CHUNK_BYTES} bytes")
        except DatavaultClientError as error:
            entry.payload, entry.error, entry.size = None, error, 0
        self._unsent.append(entry)
        self._unsent_bytes += entry.size

    def close(self) -> None:
        """The source has no more items."""
        self._closed = True

    def messages(self) -> Iterator[Any]:
        """The next chunks to send: full ones, and when the source has ended also the rest."""
        while self._full() or (self._closed and self._unsent):
            payloads = self._take()
            if payloads:
                yield self.kind.pack(payloads)

    def refused(self) -> Iterator[R]:
        """Results of the next items in order that could not be sent."""
        while self._sent and self._sent[0].error is not None:
            entry = self._sent.popleft()
            yield self.kind.result(entry, None, entry.error)

    def accept(self, answer: Any) -> Iterator[R]:
        """The results that one answer of the stream brings, with those of refused items between them.

        Raises:
            Internal: a result out of order, or for nothing that was sent.
        """
        for result in answer.results:
            yield from self.refused()
            if not self._sent or result.index != self._next_index:
                raise Internal.unreadable("a result of a batch out of order")
            entry = self._sent.popleft()
            self._next_index += 1
            self._on_the_way -= entry.ends_chunk
            yield self.kind.result(entry, *self._read(entry, result))
        yield from self.refused()

    def rewind(self) -> None:
        """A new stream begins: what has no result is unsent again, and the server counts from 0."""
        self._unsent.extendleft(reversed(self._sent))
        self._unsent_bytes = sum(entry.size for entry in self._unsent)
        self._sent.clear()
        self._on_the_way = self._next_index = 0

    def _full(self) -> bool:
        return len(self._unsent) >= self._chunk or self._unsent_bytes > _CHUNK_BYTES

    def _take(self) -> list[P]:
        """Move the next chunk to what was sent; refused items go along in their place."""
        payloads: list[P] = []
        last: Entry[T, P] | None = None
        size = 0
        while self._unsent and len(payloads) < self._chunk:
            entry = self._unsent[0]
            size += entry.size
            if size > _CHUNK_BYTES:
                break
            self._sent.append(self._unsent.popleft())
            self._unsent_bytes -= entry.size
            entry.ends_chunk = False
            if entry.payload is not None:
                payloads.append(entry.payload)
                last = entry
        if last is not None:
            last.ends_chunk = True
            self._on_the_way += 1
        return payloads

    def _read(self, entry: Entry[T, P], result: Any) -> tuple[V | None, DatavaultClientError | None]:
        kind = result.WhichOneof("result")
        if kind == "error":
            return None, from_item_error(result.error)
        if kind is None or entry.payload is None:
            return None, Internal.unreadable("a result that is neither answer nor error")
        try:
            return self.kind.parse(entry.payload, result.answer), None
        except DatavaultClientError as error:
            return None, error


def read_batch(
    *,
    purpose: str,
    attributes: Iterable[str],
    max_form: Form | str | None,
    require_all: bool,
    request_id: str,
    chunk: int,
) -> Batch[str, str, Disclosure, ReadResult]:
    """A batch of reads; its items are customer numbers."""
    same = message(
        data.BatchReadAttributesRequest,
        purpose=purpose,
        attributes=names("attributes", attributes),
        max_form=word("max_form", FORMS, max_form),
        require_all=require_all,
        request_id=request_id,
    )

    def pack(numbers: Sequence[str]) -> data.BatchReadAttributesRequest:
        request = data.BatchReadAttributesRequest(customer_numbers=numbers)
        request.MergeFrom(same)
        return request

    kind: BatchKind[str, str, Disclosure, ReadResult] = BatchKind(
        method=methods.BATCH_READ,
        encode=lambda number: message(data.ReadAttributesRequest, customer_number=number).customer_number,
        size=lambda number: len(number.encode()),
        pack=pack,
        parse=lambda _, answer: answers.disclosure(answer),
        result=lambda entry, found, error: ReadResult(entry.index, entry.item, found, error),
    )
    return Batch(kind, chunk)


def write_batch(*, chunk: int) -> Batch[WriteItem, data.WriteAttributesRequest, WriteReceipt, WriteResult]:
    """A batch of writes. An item gets its request id when it is taken from the source, once."""
    kind: BatchKind[WriteItem, data.WriteAttributesRequest, WriteReceipt, WriteResult] = BatchKind(
        method=methods.BATCH_WRITE,
        encode=_encode_write,
        size=lambda request: request.ByteSize(),
        pack=lambda requests: data.BatchWriteAttributesRequest(items=requests),
        parse=lambda request, answer: answers.write_receipt(request.request_id)(answer),
        result=_write_result,
    )
    return Batch(kind, chunk)


def _encode_write(item: WriteItem) -> data.WriteAttributesRequest:
    if not isinstance(item, WriteItem):
        raise InvalidArgument.of("items", "must be WriteItem objects")
    return write_request(
        item.customer_number,
        item.values,
        clear=item.clear,
        expected_versions=item.expected_versions,
        jurisdictions=item.jurisdictions,
        request_id=item.request_id,
    )


def _write_result(
    entry: Entry[WriteItem, data.WriteAttributesRequest],
    receipt: WriteReceipt | None,
    error: DatavaultClientError | None,
) -> WriteResult:
    sent = entry.payload
    request_id = sent.request_id if sent else getattr(entry.item, "request_id", None) or ""
    number = getattr(entry.item, "customer_number", "")
    return WriteResult(entry.index, number, request_id, receipt, error)
