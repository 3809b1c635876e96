"""DataService: reads go to the disclosure worker, writes to the change worker."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from vault.domain.errors import DatavaultError, InvalidArgumentError
from vault.domain.limits import LIMITS
from vault.domain.types import Caller
from vault.intake import IntakePipeline
from vault.reads import Read, Released
from vault.server.blocking import BlockingWorker
from vault.server.convert import max_form, typed_value
from vault.server.edge import Edge, stream, unary
from vault.server.errors import item_error
from vault.server.flow import AnswerBudget, StreamShare, largest_answer, read_ahead
from vault.server.lane import ReadOutcome
from vault.server.metrics import Meter
from vault.server.worker import DisclosureWorker
from vault.v1 import data_service_pb2 as pb
from vault.v1 import data_service_pb2_grpc, values_pb2
from vault.writes import AttributeChange, Write, Written

_WRITES_PER_TRANSACTION: Final = 100
_FRAME_BYTES: Final = 32
"""Index, tags and lengths around one result of a batch: less than this."""


class DataServicer(data_service_pb2_grpc.DataServiceServicer):
    """Reading and writing attributes."""

    def __init__(
        self, edge: Edge, worker: DisclosureWorker, intake: IntakePipeline, changes: BlockingWorker
    ) -> None:
        self.edge = edge
        self._worker = worker
        self._intake = intake
        self._changes = changes
        self._budget = AnswerBudget()

    @unary
    async def ReadAttributes(
        self, request: pb.ReadAttributesRequest, caller: Caller
    ) -> pb.ReadAttributesResponse:
        (future,) = self._worker.submit([_question(request, caller)(request.customer_number)])
        outcome = await future
        if isinstance(outcome, DatavaultError):
            raise outcome
        return _released(outcome, self.edge.meter)

    @stream
    async def BatchReadAttributes(
        self, requests: AsyncIterator[pb.BatchReadAttributesRequest], caller: Caller
    ) -> AsyncIterator[pb.BatchReadAttributesResponse]:
        under_way: deque[asyncio.Future[ReadOutcome]] = deque()
        share = StreamShare(self._budget)

        async def begin(chunk: pb.BatchReadAttributesRequest) -> AsyncIterator[tuple[int, int]]:
            numbers = chunk.customer_numbers
            _check_chunk(len(numbers), "customer_numbers")
            ask, each, begun = _question(chunk, caller), largest_answer(len(chunk.attributes)), 0
            while begun < len(numbers):
                count = await share.reserve(len(numbers) - begun, each)
                reads = [ask(number) for number in numbers[begun : begun + count]]
                under_way.extend(await self._worker.submit_chunk(reads))
                begun += count
                yield count, count * each

        index = 0
        try:
            async with aclosing(read_ahead(requests, begin)) as parts:
                async for count, reserved in parts:
                    response, size = pb.BatchReadAttributesResponse(), 0
                    for _ in range(count):
                        result = _result(index, await under_way.popleft(), self.edge.meter)
                        index += 1
                        more = result.ByteSize() + _FRAME_BYTES
                        if size and size + more > LIMITS.batch_message_bytes:
                            yield response
                            response, size = pb.BatchReadAttributesResponse(), 0
                        response.results.append(result)
                        size += more
                    yield response
                    share.give(reserved)
        finally:
            # reads that nobody will see are cancelled before they are taken
            for future in under_way:
                future.cancel()
            share.give(share.held)

    @unary
    async def WriteAttributes(
        self, request: pb.WriteAttributesRequest, caller: Caller
    ) -> pb.WriteAttributesResponse:
        write = _write(request, caller)
        (outcome,) = await self._changes.run(partial(self._intake.write, [write]))
        if isinstance(outcome, DatavaultError):
            raise outcome
        return _written(outcome)

    @stream
    async def BatchWriteAttributes(
        self, requests: AsyncIterator[pb.BatchWriteAttributesRequest], caller: Caller
    ) -> AsyncIterator[pb.BatchWriteAttributesResponse]:
        async def begin(chunk: pb.BatchWriteAttributesRequest) -> AsyncIterator[list[Write | DatavaultError]]:
            _check_chunk(len(chunk.items), "items")
            yield [_write_or_error(item, caller) for item in chunk.items]

        index = 0
        async with aclosing(read_ahead(requests, begin)) as chunks:
            async for writes in chunks:
                response = pb.BatchWriteAttributesResponse()
                for outcome in await self._write_chunk(writes):
                    result = response.results.add(index=index)
                    index += 1
                    if isinstance(outcome, DatavaultError):
                        result.error.CopyFrom(item_error(outcome))
                    else:
                        result.answer.CopyFrom(_written(outcome))
                yield response

    async def _write_chunk(self, writes: Sequence[Write | DatavaultError]) -> list[Written | DatavaultError]:
        outcomes: list[Written | DatavaultError] = []
        for start in range(0, len(writes), _WRITES_PER_TRANSACTION):
            part = writes[start : start + _WRITES_PER_TRANSACTION]
            good = [write for write in part if isinstance(write, Write)]
            try:
                done = iter(await self._changes.run(partial(self._intake.write, good)))
            except DatavaultError as error:
                done = iter([error] * len(good))
            outcomes += [next(done) if isinstance(write, Write) else write for write in part]
        return outcomes


def _question(
    request: pb.ReadAttributesRequest | pb.BatchReadAttributesRequest, caller: Caller
) -> Callable[[str], Read]:
    """What is asked of a customer, or of each customer of a chunk."""
    _check_most(len(request.attributes), LIMITS.attributes_per_read, "attributes")
    return partial(
        Read,
        caller,
        purpose=request.purpose,
        attributes=tuple(request.attributes),
        max_form=max_form(request.max_form),
        require_all=request.require_all,
        request_id=request.request_id,
    )


def _result(index: int, outcome: ReadOutcome, meter: Meter) -> pb.BatchReadResult:
    if isinstance(outcome, DatavaultError):
        return pb.BatchReadResult(index=index, error=item_error(outcome))
    return pb.BatchReadResult(index=index, answer=_released(outcome, meter))


def _released(released: Released[Any], meter: Meter) -> pb.ReadAttributesResponse:
    message: pb.ReadAttributesResponse = released.message
    message.record.position = released.position
    meter.read(released.outcome, released.denials)
    return message


def _write_or_error(request: pb.WriteAttributesRequest, caller: Caller) -> Write | DatavaultError:
    try:
        return _write(request, caller)
    except DatavaultError as error:
        return error


def _write(request: pb.WriteAttributesRequest, caller: Caller) -> Write:
    _check_most(len(request.writes), LIMITS.attributes_per_write, "writes")
    for index, write in enumerate(request.writes):
        if not (write.HasField("value") or write.clear):
            raise InvalidArgumentError.of(f"writes[{index}]", "must set a value, or clear to true")
    return Write(
        caller=caller,
        request_id=request.request_id,
        customer_number=request.customer_number,
        changes=tuple(
            AttributeChange(
                attribute=write.attribute,
                value=typed_value(write.value, f"writes[{index}].value") if write.HasField("value") else None,
                clear=write.clear,
                expected_version=write.expected_version if write.HasField("expected_version") else None,
            )
            for index, write in enumerate(request.writes)
        ),
        jurisdictions=tuple(request.jurisdictions[: LIMITS.attributes_per_write]),
    )


def _written(written: Written) -> pb.WriteAttributesResponse:
    return pb.WriteAttributesResponse(
        versions=[
            pb.AttributeVersion(attribute=attribute, version=version)
            for attribute, version in written.versions
        ],
        subject_created=written.subject_created,
        record=values_pb2.RecordRef(record_id=written.record_id, position=written.position),
        replayed=written.replayed,
    )


def _check_chunk(count: int, field: str) -> None:
    if not 0 < count <= LIMITS.subjects_per_chunk:
        raise InvalidArgumentError.of(field, f"must hold 1 to {LIMITS.subjects_per_chunk} items")


def _check_most(count: int, most: int, field: str) -> None:
    """Before anything is made of the items: millions of them fit into one message."""
    if count > most:
        raise InvalidArgumentError.of(field, f"must hold 1 to {most} ids")
