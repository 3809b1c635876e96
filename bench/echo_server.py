"""The baseline: a bare grpc.aio echo on uvloop whose answers have the size of a real ReadAttributes answer.

It parses the same request message and serialises the same answer message, and does nothing between.
"""

import sys

import grpc
import uvloop

from vault.v1 import data_service_pb2 as pb
from vault.v1 import data_service_pb2_grpc


class Echo(data_service_pb2_grpc.DataServiceServicer):
    """Gives the answer it was started with."""

    def __init__(self, answer: pb.ReadAttributesResponse) -> None:
        self._answer = answer

    async def ReadAttributes(
        self, request: pb.ReadAttributesRequest, context: object
    ) -> pb.ReadAttributesResponse:
        return self._answer

    def BatchReadAttributes(self, *_: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    async def WriteAttributes(self, *_: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def BatchWriteAttributes(self, *_: object) -> None:  # type: ignore[override]
        raise NotImplementedError


async def main(answer: bytes) -> None:
    server = grpc.aio.server()
    data_service_pb2_grpc.add_DataServiceServicer_to_server(
        Echo(pb.ReadAttributesResponse.FromString(answer)), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(sys.stdin.buffer.read()))
