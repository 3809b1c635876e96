"""Server reflection, for callers alone: a stream that anybody could open would hold a call for ever."""

from collections.abc import AsyncIterator, Sequence

from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from vault.domain.types import Caller
from vault.server.edge import Edge, stream
from vault.server.lifecycle import Registration


class ReflectionServicer(reflection.aio.ReflectionServicer):  # type: ignore[name-defined,misc]
    """gRPC's own servicer behind the edge of every stream: identity, streams per caller, deadline, stop."""

    def __init__(self, edge: Edge, services: Sequence[str]) -> None:
        super().__init__(services)
        self.edge = edge

    @stream
    async def ServerReflectionInfo(
        self, requests: AsyncIterator[reflection_pb2.ServerReflectionRequest], _: Caller
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        async for answer in super().ServerReflectionInfo(requests, None):
            yield answer


def reflection_of(edge: Edge, services: Sequence[str]) -> Registration:
    """Reflection that lists these services, health and itself."""
    return Registration(
        reflection.SERVICE_NAME,
        ReflectionServicer(edge, [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]),
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server,
    )
