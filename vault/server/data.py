"""DataService: reads go to the disclosure worker, writes to the change worker."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import grpc

from vault.domain.errors import DatavaultError, InvalidArgumentError
from vault.domain.limits import LIMITS
from vault.domain.types import Caller
from vault.intake import IntakePipeline
from vault.reads import Read
from vault.server.blocking import BlockingWorker
from vault.server.convert import max_form, typed_value
from vault.server.edge import Edge, stream, unary
from vault.server.errors import item_error
from vault.server.flow import AnswerBudget, StreamShare, largest_answer, read_ahead
from vault.server.lane import ReadOutcome
from vault.server.metrics import Meter
from vault.server.wire import batch_error, batch_result
from vault.server.worker import DisclosureWorker
from vault.v1 import data_service_pb2 as pb
from vault.v1 import values_pb2
from vault.writes import AttributeChange, Write, Written

_WRITES_PER_TRANSACTION: Final = 100


class DataServicer:
    """Reading and writing attributes. Answers of reads are bytes already, see vault/server/wire.py."""

    def __init__(
        self, edge: Edge, worker: DisclosureWorker, intake: IntakePipeline, changes: BlockingWorker
    ) -> None:
        self.edge = edge
        self._worker = worker
        self._intake = intake
        self._changes = changes
        self._budget = AnswerBudget()

    @unary
    async def ReadAttributes(self, request: pb.ReadAttributesRequest, caller: Caller) -> bytes:
        released = await self._worker.ask(_question(request, caller)(request.customer_number))
        self.edge.meter.read(released.outcome, released.denials)
        return released.answer

    @stream
    async def BatchReadAttributes(
        self, requests: AsyncIterator[pb.BatchReadAttributesRequest], caller: Caller
    ) -> AsyncIterator[bytes]:
        under_way: deque[asyncio.Future[list[ReadOutcome]]] = deque()
        share = StreamShare(self._budget)

        async def begin(chunk: pb.BatchReadAttributesRequest) -> AsyncIterator[int]:
            numbers = chunk.customer_numbers
            _check_chunk(len(numbers), "customer_numbers")
            ask, each, begun = _question(chunk, caller), largest_answer(len(chunk.attributes)), 0
            while begun < len(numbers):
                count = await share.reserve(len(numbers) - begun, each)
                reads = [ask(number) for number in numbers[begun : begun + count]]
                under_way.append(await self._worker.submit_part(reads))
                begun += count
                yield count * each

        index = 0
        try:
            async with aclosing(read_ahead(requests, begin)) as parts:
                async for reserved in parts:
                    response = bytearray()
                    for outcome in await under_way[0]:
                        result = _result(index, outcome, self.edge.meter)
                        index += 1
                        if response and len(response) + len(result) > LIMITS.batch_message_bytes:
                            yield bytes(response)
                            response.clear()
                        response += result
                    yield bytes(response)
                    under_way.popleft()
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


def add_data_service(servicer: DataServicer, server: grpc.aio.Server) -> None:
    """Register the servicer as the generated function does, but for answers that are bytes already."""
    handlers = {
        "ReadAttributes": grpc.unary_unary_rpc_method_handler(
            servicer.ReadAttributes, pb.ReadAttributesRequest.FromString
        ),
        "BatchReadAttributes": grpc.stream_stream_rpc_method_handler(
            servicer.BatchReadAttributes, pb.BatchReadAttributesRequest.FromString
        ),
        "WriteAttributes": grpc.unary_unary_rpc_method_handler(
            servicer.WriteAttributes,
            pb.WriteAttributesRequest.FromString,
            pb.WriteAttributesResponse.SerializeToString,
        ),
        "BatchWriteAttributes": grpc.stream_stream_rpc_method_handler(
            servicer.BatchWriteAttributes,
            pb.BatchWriteAttributesRequest.FromString,
            pb.BatchWriteAttributesResponse.SerializeToString,
        ),
    }
    name = pb.DESCRIPTOR.services_by_name["DataService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


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


def _result(index: int, outcome: ReadOutcome, meter: Meter) -> bytes:
    if isinstance(outcome, DatavaultError):
        return batch_error(index, item_error(outcome))
    meter.read(outcome.outcome, outcome.denials)
    return batch_result(index, outcome.answer)


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
