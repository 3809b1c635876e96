"""The service under load, on a plain-text port that only the benchmark has.

h2load cannot present a client certificate, so identity is fixed here; everything behind it (policy, consent,
encryption, durable audit) is the product's own. What mTLS costs is a row of its own.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench.customers import CALLER, load_customers
from vault import logs
from vault.assembly import Use, build_pipelines, log_signers, open_logs, open_rooms
from vault.config import load_settings
from vault.domain.types import Caller
from vault.server.blocking import BlockingWorker
from vault.server.data import DataServicer
from vault.server.edge import Edge
from vault.server.metrics import Meter
from vault.server.worker import DisclosureWorker
from vault.v1 import data_service_pb2_grpc


class _OneCaller:
    """Every call comes from the same caller."""

    def caller(self, _: Any) -> Caller:
        return Caller(CALLER, "retail", "bench")


class _OpenEdge(Edge):
    """An edge that proves nothing: for the benchmark's own port alone."""

    async def caller(self, context: Any) -> Caller:
        return Caller(CALLER, "retail", "bench")


async def main(home: Path, customers: int, url: str, port: int) -> None:
    settings = load_settings(home=home, database_url=url)
    with open_rooms(settings, Use.SERVE) as rooms:
        signers = log_signers(rooms)
        pipelines = build_pipelines(rooms, open_logs(rooms, signers), signers)
        if customers:
            load_customers(pipelines, customers)
        pipelines.integrator.start()
        worker = DisclosureWorker(pipelines.disclosure, pipelines.keyring, rooms.clock)
        worker.start(asyncio.get_running_loop())
        edge = _OpenEdge(_OneCaller(), _OneCaller(), Meter())
        # one port for several processes, as workers have it
        server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
        data_service_pb2_grpc.add_DataServiceServicer_to_server(
            DataServicer(edge, worker, pipelines.intake, BlockingWorker("changes")), server
        )
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        print(port, flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--customers", type=int, default=0, help="how many to load first")
    parser.add_argument("--url", default="", help="of a PostgreSQL database; else SQLite in the home")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    given = parser.parse_args()
    logs.configure(level="ERROR")
    uvloop.run(main(given.home, given.customers, given.url, given.port))
