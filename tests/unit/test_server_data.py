"""How the data service is registered: by hand, as the answers of reads are bytes already."""

from types import SimpleNamespace
from typing import Any

from vault.server.data import DataServicer, add_data_service
from vault.v1 import data_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["DataService"]


class Server:
    """Takes handlers as a gRPC server does."""

    def __init__(self) -> None:
        self.handlers: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        self.handlers += handlers


def test_every_method_of_the_proto_is_served_as_it_is_declared() -> None:
    """A method that is added to the proto and not here would be UNIMPLEMENTED."""
    server = Server()
    add_data_service(DataServicer(None, None, None, None), server)  # type: ignore[arg-type]
    [generic] = server.handlers
    for method in SERVICE.methods:
        handler = generic.service(SimpleNamespace(method=f"/{SERVICE.full_name}/{method.name}"))
        assert (handler.request_streaming, handler.response_streaming) == (
            method.client_streaming,
            method.server_streaming,
        )
        request = getattr(pb, method.input_type.name)()
        assert handler.request_deserializer(request.SerializeToString()) == request
