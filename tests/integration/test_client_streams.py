"""read_many and write_many of both clients: order, errors per item, and streams that break."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.support.client import KINDS, Bank, abort, client_of, loop, running_bank
from vault.client import (
    AsyncClient,
    DeadlineExceeded,
    ErrorReason,
    Internal,
    InvalidArgument,
    NotFound,
    NotPermitted,
    Unavailable,
    WriteItem,
)
from vault.v1 import data_service_pb2 as data
from vault.v1 import values_pb2 as values

READ, WRITE = "BatchReadAttributes", "BatchWriteAttributes"
WANTED: dict[str, Any] = {"purpose": "p", "attributes": ["email"]}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    with running_bank(tmp_path_factory.mktemp("bank")) as bank:
        yield bank


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, bank: Bank) -> Iterator[Any]:
    bank.script.clear()
    with client_of(request.param, bank.connection) as client:
        yield client


def read_result(index: int, number: str) -> data.BatchReadResult:
    """Customer numbers are echoed as the bundle hash; `missing` has an error of its own."""
    if number == "missing":
        error = values.ItemError(code=5, reason=values.ERROR_REASON_NOT_FOUND, message="no such customer")
        return data.BatchReadResult(index=index, error=error)
    return data.BatchReadResult(index=index, answer=data.ReadAttributesResponse(bundle_hash=number))


def write_result(index: int, item: data.WriteAttributesRequest) -> data.BatchWriteResult:
    """Request ids are echoed as the record id."""
    record = values.RecordRef(record_id=item.request_id)
    return data.BatchWriteResult(index=index, answer=data.WriteAttributesResponse(record=record))


def answering(bank: Bank, method: str, *cuts: int | None, per_answer: int = 1_000) -> Callable[..., Any]:
    """A handler whose streams, in turn, abort with UNAVAILABLE after this many results (None: never)."""
    left = list(cuts)
    answer, result, parts = (
        (data.BatchReadAttributesResponse, read_result, "customer_numbers")
        if method == READ
        else (data.BatchWriteAttributesResponse, write_result, "items")
    )

    def run(chunks: Iterator[Any], context: Any) -> Iterator[Any]:
        cut = left.pop(0) if left else None
        index = 0
        for chunk in bank.script.stream(method, chunks):
            results = []
            for part in getattr(chunk, parts):
                if index == cut:
                    yield answer(results=results)
                    abort(context, grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", "stopping")
                results.append(result(index, part))
                index += 1
                if len(results) == per_answer:
                    yield answer(results=results)
                    results = []
            yield answer(results=results)
        if index == cut:
            abort(context, grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", "stopping")

    return run


def numbers_sent(bank: Bank) -> list[list[str]]:
    return [
        [number for chunk in stream for number in chunk.customer_numbers] for stream in bank.script.got(READ)
    ]


@pytest.mark.parametrize("per_answer", [1, 3, 1_000])
@pytest.mark.parametrize("count", [0, 1, 10, 95])
def test_results_come_in_order(client: Any, bank: Bank, count: int, per_answer: int) -> None:
    """Every customer has one result, in order, however the server cuts its answers."""
    bank.script.on(READ, answering(bank, READ, per_answer=per_answer))
    numbers = [str(number) for number in range(count)]
    results = list(client.read_many(iter(numbers), chunk=10, **WANTED))
    assert [(each.index, each.customer_number) for each in results] == list(enumerate(numbers))
    assert [each.disclosure.bundle_hash for each in results] == numbers


def test_customers_travel_in_chunks_with_the_question(client: Any, bank: Bank) -> None:
    """Each chunk has at most `chunk` customers and repeats purpose, attributes and bounds."""
    bank.script.on(READ, answering(bank, READ))
    list(
        client.read_many(
            ["a", "b", "c"], chunk=2, max_form="mask", require_all=True, request_id="night", **WANTED
        )
    )
    same: dict[str, Any] = {
        "purpose": "p",
        "attributes": ["email"],
        "max_form": values.FORM_MASK,
        "require_all": True,
        "request_id": "night",
    }
    assert bank.script.got(READ) == [
        [
            data.BatchReadAttributesRequest(customer_numbers=["a", "b"], **same),
            data.BatchReadAttributesRequest(customer_numbers=["c"], **same),
        ]
    ]


def test_the_error_of_one_customer_is_in_its_result(client: Any, bank: Bank) -> None:
    """An item's error comes in its place, and its neighbours have their answers."""
    bank.script.on(READ, answering(bank, READ))
    first, second, third = client.read_many(["a", "missing", "c"], **WANTED)
    assert (first.error, third.error, second.disclosure) == (None, None, None)
    assert type(second.error) is NotFound
    assert (second.error.reason, second.error.message) == (ErrorReason.NOT_FOUND, "no such customer")


def test_an_item_that_cannot_be_sent_has_its_error_in_its_place(client: Any, bank: Bank) -> None:
    """Items that no message can hold are not sent; their neighbours are, and the order holds."""
    bank.script.on(READ, answering(bank, READ))
    numbers: list[Any] = [7, "a", "\ud800", "b", None]
    results = list(client.read_many(numbers, chunk=2, **WANTED))
    assert [type(each.error) for each in results] == [
        InvalidArgument,
        type(None),
        InvalidArgument,
        type(None),
        InvalidArgument,
    ]
    assert numbers_sent(bank) == [["a", "b"]]


def test_a_batch_of_nothing_but_refused_items_ends(client: Any, bank: Bank) -> None:
    """Where nothing can be sent every item still has its result, and no stream is opened."""
    results = list(client.read_many([1, 2, 3], chunk=2, **WANTED))
    assert [type(each.error) for each in results] == [InvalidArgument] * 3
    assert not bank.script.got(READ)


@pytest.mark.parametrize("cut", [0, 1, 10, 13, 25])
def test_a_broken_stream_goes_on_with_what_has_no_result(client: Any, bank: Bank, cut: int) -> None:
    """After a cut only customers without a result are sent again; each has exactly one result, in order."""
    bank.script.on(READ, answering(bank, READ, cut))
    numbers = [str(number) for number in range(25)]
    results = list(client.read_many(numbers, chunk=10, **WANTED))
    assert [each.disclosure.bundle_hash for each in results] == numbers
    assert [each.index for each in results] == list(range(25))
    for sent in numbers_sent(bank)[1:]:
        # results may be on the way when a stream breaks, so more than the rest can be sent again
        assert sent == numbers[len(numbers) - len(sent) :]
        assert len(sent) >= len(numbers) - cut


def test_a_stream_that_breaks_again_and_again_goes_on_while_it_progresses(client: Any, bank: Bank) -> None:
    """The attempts count anew after each result: more cuts than attempts do no harm."""
    bank.script.on(READ, answering(bank, READ, 2, 2, 2, 2, 2, 2))
    numbers = [str(number) for number in range(13)]
    results = list(client.read_many(numbers, chunk=5, **WANTED))
    assert [each.disclosure.bundle_hash for each in results] == numbers


def test_a_stream_that_never_progresses_ends(client: Any, bank: Bank) -> None:
    """After as many attempts without a result as the policy says, the failure is raised."""
    bank.script.on(READ, answering(bank, READ, *[0] * 20))
    with pytest.raises(Unavailable) as caught:
        list(client.read_many(["a"], **WANTED))
    assert caught.value.reason is ErrorReason.SHUTTING_DOWN
    assert len(bank.script.got(READ)) == 3


def test_a_refused_stream_is_not_resumed(client: Any, bank: Bank) -> None:
    """A failure other than UNAVAILABLE ends the batch at once."""

    def refuse(chunks: Iterator[Any], context: Any) -> Iterator[Any]:
        next(bank.script.stream(READ, chunks))
        abort(context, grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
        yield

    bank.script.on(READ, refuse)
    with pytest.raises(NotPermitted):
        list(client.read_many(["a"], **WANTED))
    assert len(bank.script.got(READ)) == 1


def test_a_stream_that_ends_early_is_resumed(client: Any, bank: Bank) -> None:
    """A server that ends a stream well, but with results missing, is asked for them again."""

    def end_early(chunks: Iterator[Any], _context: Any) -> Iterator[Any]:
        next(bank.script.stream(READ, chunks))
        yield data.BatchReadAttributesResponse(results=[read_result(0, "a")])

    bank.script.on(READ, end_early, answering(bank, READ))
    results = list(client.read_many(["a", "b"], **WANTED))
    assert [each.disclosure.bundle_hash for each in results] == ["a", "b"]
    assert numbers_sent(bank) == [["a", "b"], ["b"]]


@pytest.mark.parametrize("index", [1, -1, 2])
def test_a_result_out_of_order_is_an_error(client: Any, bank: Bank, index: int) -> None:
    """A result for another customer than the next one is never taken for the next one's."""

    def disorder(chunks: Iterator[Any], _context: Any) -> Iterator[Any]:
        next(chunks)
        yield data.BatchReadAttributesResponse(results=[read_result(index, "b")])

    bank.script.on(READ, disorder)
    with pytest.raises(Internal):
        list(client.read_many(["a", "b"], **WANTED))


def test_a_result_too_many_is_an_error(client: Any, bank: Bank) -> None:
    """A result for nothing that was sent is refused."""

    def repeat(chunks: Iterator[Any], _context: Any) -> Iterator[Any]:
        next(chunks)
        yield data.BatchReadAttributesResponse(results=[read_result(0, "a"), read_result(1, "a")])

    bank.script.on(READ, repeat)
    with pytest.raises(Internal):
        list(client.read_many(["a"], **WANTED))


def test_an_answer_that_cannot_be_read_is_the_error_of_its_item(client: Any, bank: Bank) -> None:
    """A result without answer or error, or with an unreadable value, does not end the batch."""

    def half(chunks: Iterator[Any], _context: Any) -> Iterator[Any]:
        next(chunks)
        bad = data.AttributeResult(name="email", form=values.FORM_CLEAR)
        unreadable = data.ReadAttributesResponse(attributes=[bad])
        yield data.BatchReadAttributesResponse(
            results=[
                data.BatchReadResult(index=0),
                data.BatchReadResult(index=1, answer=unreadable),
                read_result(2, "c"),
            ]
        )

    bank.script.on(READ, half)
    results = list(client.read_many(["a", "b", "c"], **WANTED))
    assert [type(each.error) for each in results] == [Internal, Internal, type(None)]


def test_an_error_of_the_source_is_raised_as_it_is(client: Any, bank: Bank) -> None:
    """What the caller's own iterable raises reaches the caller unchanged, a gRPC error included."""

    class MineError(grpc.RpcError):
        pass

    def source() -> Iterator[str]:
        yield "a"
        raise MineError

    bank.script.on(READ, answering(bank, READ))
    with pytest.raises(MineError):
        list(client.read_many(source(), **WANTED))


def test_the_source_is_read_in_the_callers_thread(client: Any, bank: Bank) -> None:
    """Sources bound to a thread (a database cursor) can be used."""
    threads: set[int] = set()

    def source() -> Iterator[str]:
        for number in range(30):
            threads.add(threading.get_ident())
            yield str(number)

    bank.script.on(READ, answering(bank, READ))
    list(client.read_many(source(), chunk=5, **WANTED))
    assert threads == {threading.get_ident()}


def test_the_source_is_read_no_further_than_needed(client: Any, bank: Bank) -> None:
    """An endless source is read only some chunks ahead of the results."""
    drawn: list[int] = []

    def endless() -> Iterator[str]:
        while True:
            drawn.append(len(drawn))
            yield str(len(drawn))

    bank.script.on(READ, answering(bank, READ))
    results = client.read_many(endless(), chunk=10, **WANTED)
    for _ in range(25):
        next(results)
    results.close()
    assert len(drawn) <= 100


def test_leaving_early_ends_the_stream(client: Any, bank: Bank) -> None:
    """A caller that takes one result and stops leaves no open stream at the server."""
    ended = threading.Event()

    def watched(chunks: Iterator[Any], context: Any) -> Iterator[Any]:
        context.add_callback(ended.set)
        yield from answering(bank, READ)(chunks, context)

    bank.script.on(READ, watched)
    results = client.read_many((str(number) for number in range(10_000)), chunk=10, **WANTED)
    next(results)
    results.close()
    assert ended.wait(10)


def test_a_batch_has_a_deadline(client: Any, bank: Bank) -> None:
    """A server that stops answering makes DeadlineExceeded when the batch's time is up."""
    released = threading.Event()

    def hang(chunks: Iterator[Any], _context: Any) -> Iterator[Any]:
        next(chunks)
        released.wait(30)
        yield data.BatchReadAttributesResponse()

    bank.script.on(READ, hang)
    try:
        with pytest.raises(DeadlineExceeded):
            list(client.read_many(["a"], timeout=0.2, **WANTED))
    finally:
        released.set()


def test_a_stream_without_a_timeout_still_has_a_deadline(client: Any, bank: Bank) -> None:
    """No stream is open for longer than an hour."""
    left: list[float] = []

    def note(chunks: Iterator[Any], context: Any) -> Iterator[Any]:
        left.append(context.time_remaining())
        yield from answering(bank, READ)(chunks, context)

    bank.script.on(READ, note)
    list(client.read_many(["a"], **WANTED))
    assert 0 < left[0] <= 3_600


@pytest.mark.parametrize(
    "arguments",
    [
        {"chunk": 0},
        {"chunk": 1_001},
        {"chunk": 2.5},
        {"attributes": "email"},
        {"max_form": "all"},
        {"timeout": -1},
    ],
)
def test_a_wrong_batch_is_refused_before_its_first_item(client: Any, arguments: dict[str, Any]) -> None:
    """Wrong arguments raise InvalidArgument by the first result at the latest."""
    with pytest.raises(InvalidArgument):
        list(client.read_many(["a"], **(WANTED | arguments)))


def test_writes_travel_in_order_with_their_ids(client: Any, bank: Bank) -> None:
    """Each item has its own request id, its own or a new one, and its receipt in its place."""
    bank.script.on(WRITE, answering(bank, WRITE))
    items = [WriteItem("a", {"city": "Bern"}, request_id="mine"), WriteItem("b", {}, clear=("city",))]
    first, second = client.write_many(iter(items))
    assert (first.index, first.customer_number, first.request_id) == (0, "a", "mine")
    assert first.receipt.record_id == "mine"
    assert second.receipt.record_id == second.request_id == second.receipt.request_id
    assert len({first.request_id, second.request_id, ""}) == 3


@pytest.mark.parametrize("cut", [0, 3, 4, 7])
def test_a_resumed_write_keeps_its_request_ids(client: Any, bank: Bank, cut: int) -> None:
    """After a cut the items without a result are sent again as they were, ids included."""
    bank.script.on(WRITE, answering(bank, WRITE, cut))
    items = [WriteItem(str(number), {"age": number}) for number in range(8)]
    results = list(client.write_many(items, chunk=4))
    ids = [each.request_id for each in results]
    assert [each.receipt.record_id for each in results] == ids
    first, *resumed = (
        [item for chunk in stream for item in chunk.items] for stream in bank.script.got(WRITE)
    )
    assert [item.request_id for item in first] == ids[: len(first)]
    assert resumed
    for again in resumed:
        assert len(again) >= len(items) - cut
        assert [item.request_id for item in again] == ids[len(ids) - len(again) :]
        assert [item.writes[0].value.int64_value for item in again] == list(range(8))[8 - len(again) :]


def test_a_row_that_cannot_be_written_is_the_error_of_its_item(client: Any, bank: Bank) -> None:
    """A value no attribute can hold, or one too large for a message, does not end the import."""
    bank.script.on(WRITE, answering(bank, WRITE))
    rows: list[Any] = [
        WriteItem("a", {"age": float("nan")}, request_id="row-1"),
        WriteItem("b", {"age": 3}),
        WriteItem("c", {"note": "x" * 5_000_000}),
        "no item",
    ]
    results = list(client.write_many(rows))
    assert [type(each.error) for each in results] == [
        InvalidArgument,
        type(None),
        InvalidArgument,
        InvalidArgument,
    ]
    assert results[0].request_id == "row-1"


def test_chunks_of_large_writes_stay_under_the_message_limit(client: Any, bank: Bank) -> None:
    """A chunk ends before it passes 4 MiB, whatever `chunk` says."""
    bank.script.on(WRITE, answering(bank, WRITE))
    items = (WriteItem(str(number), {"note": "x" * 1_000_000}) for number in range(12))
    results = list(client.write_many(items))
    assert [each.error for each in results] == [None] * 12
    [stream] = bank.script.got(WRITE)
    assert max(chunk.ByteSize() for chunk in stream) <= 4 * 1024 * 1024


def test_an_asynchronous_source_is_read(bank: Bank) -> None:
    """AsyncClient takes async iterables too."""

    async def source() -> AsyncIterator[str]:
        for number in range(25):
            yield str(number)

    async def read() -> list[str]:
        async with AsyncClient(bank.connection) as client:
            results = client.read_many(source(), chunk=10, **WANTED)
            return [each.disclosure.bundle_hash async for each in results if each.disclosure]

    bank.script.clear()
    bank.script.on(READ, answering(bank, READ))
    assert loop().run_until_complete(read()) == [str(number) for number in range(25)]
