"""A gRPC server over mTLS that keeps writes in memory, once per request id, and can be told to fail."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import grpc

from vault.domain.system import SystemClock, SystemRandomness
from vault.identity.authority import Authority
from vault.v1 import data_service_pb2 as data
from vault.v1 import data_service_pb2_grpc


class Writes(data_service_pb2_grpc.DataServiceServicer):
    """`BatchWriteAttributes`. Once `abort_after` items are written it is UNAVAILABLE; after `pause_after`
    items it sets `paused` and takes no more until `go_on` is set."""

    def __init__(self) -> None:
        self.written: list[data.WriteAttributesRequest] = []
        self.replays = 0
        self.abort_after: int | None = None
        self.pause_after: int | None = None
        self.paused = threading.Event()
        self.go_on = threading.Event()
        self._ids: set[str] = set()
        self._lock = threading.Lock()

    def BatchWriteAttributes(
        self, request_iterator: Iterator[data.BatchWriteAttributesRequest], context: grpc.ServicerContext
    ) -> Iterator[data.BatchWriteAttributesResponse]:
        index = 0
        for chunk in request_iterator:
            results = []
            for item in chunk.items:
                if len(self.written) == self.abort_after:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
                results.append(data.BatchWriteResult(index=index, answer=self._write(item)))
                index += 1
                if len(self.written) == self.pause_after:
                    self.paused.set()
                    self.go_on.wait(60)
            yield data.BatchWriteAttributesResponse(results=results)

    def ReadAttributes(
        self, request: data.ReadAttributesRequest, context: grpc.ServicerContext
    ) -> data.ReadAttributesResponse:
        raise NotImplementedError

    def BatchReadAttributes(
        self, request_iterator: Iterator[data.BatchReadAttributesRequest], context: grpc.ServicerContext
    ) -> Iterator[data.BatchReadAttributesResponse]:
        raise NotImplementedError

    def WriteAttributes(
        self, request: data.WriteAttributesRequest, context: grpc.ServicerContext
    ) -> data.WriteAttributesResponse:
        raise NotImplementedError

    def _write(self, item: data.WriteAttributesRequest) -> data.WriteAttributesResponse:
        with self._lock:
            replayed = item.request_id in self._ids
            self.replays += replayed
            if not replayed:
                self._ids.add(item.request_id)
                self.written.append(item)
        return data.WriteAttributesResponse(replayed=replayed)


@dataclass(frozen=True, slots=True)
class Served:
    """The server, and the environment in which `datavault` finds it."""

    writes: Writes
    environment: dict[str, str]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A running server with certificates of its own."""
    authority = Authority.open(folder / "ca", SystemClock(), SystemRandomness())
    certificate, key = authority.issue_client("importer", dns="importer.bank.example").write(
        folder / "certs", "importer"
    )
    server_certificate, server_key = authority.server_credentials_files(folder / "certs")
    writes = Writes()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    data_service_pb2_grpc.add_DataServiceServicer_to_server(writes, server)
    credentials = grpc.ssl_server_credentials(
        [(server_key.read_bytes(), server_certificate.read_bytes())],
        root_certificates=authority.certificate_pem,
        require_client_auth=True,
    )
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    try:
        yield Served(
            writes,
            {
                "DATAVAULT_ADDR": f"localhost:{port}",
                "DATAVAULT_CACERT": str(authority.certificate_path),
                "DATAVAULT_CLIENT_CERT": str(certificate),
                "DATAVAULT_CLIENT_KEY": str(key),
            },
        )
    finally:
        writes.go_on.set()
        server.stop(None).wait(10)
