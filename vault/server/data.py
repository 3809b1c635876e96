"""DataService: reads go to the disclosure worker, writes to the change worker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

from vault.domain.errors import DatavaultError, InvalidArgumentError
from vault.domain.limits import LIMITS
from vault.domain.types import Caller
from vault.intake import IntakePipeline
from vault.reads import Read, Released
from vault.server.blocking import BlockingWorker
from vault.server.convert import max_form, typed_value
from vault.server.edge import Edge, stream, unary
from vault.server.errors import item_error
from vault.server.lane import ReadOutcome
from vault.server.metrics import Meter
from vault.server.worker import DisclosureWorker
from vault.v1 import data_service_pb2 as pb
from vault.v1 import data_service_pb2_grpc, values_pb2
from vault.writes import AttributeChange, Write, Written

_RESPONSE_BYTES: Final = 1024 * 1024
_CHUNKS_AHEAD: Final = 2
_WRITES_PER_TRANSACTION: Final = 100
Q = TypeVar("Q")
R = TypeVar("R")


class DataServicer(data_service_pb2_grpc.DataServiceServicer):
    """Reading and writing attributes."""

    def __init__(
        self, edge: Edge, worker: DisclosureWorker, intake: IntakePipeline, changes: BlockingWorker
    ) -> None:
        self.edge = edge
        self._worker = worker
        self._intake = intake
        self._changes = changes

    @unary
    async def ReadAttributes(
        self, request: pb.ReadAttributesRequest, caller: Caller
    ) -> pb.ReadAttributesResponse:
        (future,) = self._worker.submit([_read(request, request.customer_number, caller)])
        outcome = await future
        if isinstance(outcome, DatavaultError):
            raise outcome
        return _released(outcome, self.edge.meter)

    @stream
    async def BatchReadAttributes(
        self, requests: AsyncIterator[pb.BatchReadAttributesRequest], caller: Caller
    ) -> AsyncIterator[pb.BatchReadAttributesResponse]:
        async def begin(chunk: pb.BatchReadAttributesRequest) -> list[asyncio.Future[ReadOutcome]]:
            _check_chunk(len(chunk.customer_numbers), "customer_numbers")
            reads = [_read(chunk, number, caller) for number in chunk.customer_numbers]
            return await self._worker.submit_chunk(reads)

        index = 0
        async with _read_ahead(requests, begin) as chunks:
            async for futures in chunks:
                response, size = pb.BatchReadAttributesResponse(), 0
                for future in futures:
                    result = response.results.add(index=index)
                    index += 1
                    outcome = await future
                    if isinstance(outcome, DatavaultError):
                        result.error.CopyFrom(item_error(outcome))
                    else:
                        result.answer.CopyFrom(_released(outcome, self.edge.meter))
                    size += result.ByteSize()
                    if size >= _RESPONSE_BYTES:
                        yield response
                        response, size = pb.BatchReadAttributesResponse(), 0
                if response.results:
                    yield response

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
        async def begin(chunk: pb.BatchWriteAttributesRequest) -> list[Write | DatavaultError]:
            _check_chunk(len(chunk.items), "items")
            return [_write_or_error(item, caller) for item in chunk.items]

        index = 0
        async with _read_ahead(requests, begin) as chunks:
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


def _read(
    request: pb.ReadAttributesRequest | pb.BatchReadAttributesRequest, customer_number: str, caller: Caller
) -> Read:
    return Read(
        caller=caller,
        customer_number=customer_number,
        purpose=request.purpose,
        attributes=tuple(request.attributes),
        max_form=max_form(request.max_form),
        require_all=request.require_all,
        request_id=request.request_id,
    )


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
        jurisdictions=tuple(request.jurisdictions),
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


@asynccontextmanager
async def _read_ahead(
    requests: AsyncIterator[Q], begin: Callable[[Q], Awaitable[list[R]]]
) -> AsyncIterator[AsyncIterator[list[R]]]:
    """Begin work on the next chunks while the answers of the last one go out; never more than a few.

    When the stream ends early, reads that nobody will see are cancelled before they are taken.
    """
    begun: asyncio.Queue[list[R] | BaseException | None] = asyncio.Queue(_CHUNKS_AHEAD)
    futures: list[asyncio.Future[Any]] = []

    async def take() -> None:
        try:
            async for request in requests:
                chunk = await begin(request)
                futures[:] = [future for future in futures if not future.done()]
                futures.extend(item for item in chunk if isinstance(item, asyncio.Future))
                await begun.put(chunk)
            await begun.put(None)
        except Exception as error:
            await begun.put(error)

    async def chunks() -> AsyncIterator[list[R]]:
        while (chunk := await begun.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk

    task = asyncio.ensure_future(take())
    try:
        yield chunks()
    finally:
        task.cancel()
        for future in futures:
            future.cancel()
