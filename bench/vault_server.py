"""The service under load, on a plain-text port that only the benchmark has.

h2load cannot present a client certificate, so identity is fixed here; everything behind it (policy, consent,
encryption, durable audit) is the product's own. What mTLS costs is a row of its own.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench.customers import ATTRIBUTES, CALLER, PURPOSE, load_customers
from vault import logs
from vault.assembly import build_pipelines, log_signer, open_rooms
from vault.audit.startup import open_log
from vault.config import load_settings
from vault.domain.types import Caller
from vault.server.blocking import BlockingWorker
from vault.server.data import DataServicer
from vault.server.edge import Edge
from vault.server.metrics import Meter
from vault.server.worker import DisclosureWorker
from vault.v1 import data_service_pb2_grpc

__all__ = ["ATTRIBUTES", "PURPOSE"]


class _OneCaller:
    """Every call comes from the same caller."""

    def caller(self, _: Any) -> Caller:
        return Caller(CALLER, "retail", "bench")


class _OpenEdge(Edge):
    """An edge that proves nothing: for the benchmark's own port alone."""

    async def caller(self, context: Any) -> Caller:
        return Caller(CALLER, "retail", "bench")


async def main(home: Path, customers: int) -> None:
    settings = load_settings(home=home, listen="127.0.0.1:0")
    with open_rooms(settings, exclusive=True) as rooms:
        pipelines = build_pipelines(rooms, open_log(rooms.database, settings.origin), log_signer(rooms))
        load_customers(pipelines, customers)
        pipelines.integrator.start()
        worker = DisclosureWorker(pipelines.disclosure, pipelines.keyring, rooms.clock)
        worker.start(asyncio.get_running_loop())
        edge = _OpenEdge(_OneCaller(), _OneCaller(), Meter())
        server = grpc.aio.server()
        data_service_pb2_grpc.add_DataServiceServicer_to_server(
            DataServicer(edge, worker, pipelines.intake, BlockingWorker("changes")), server
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    logs.configure(level="ERROR")
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2])))
