"""The service under load, on a plain-text port that only the benchmark has.

h2load cannot present a client certificate, so identity is fixed there; everything behind it (policy, consent,
encryption, durable audit) is the product's own. With `--tls` it serves on a second port too, over mTLS, as
the product does: the caller is who the certificate says. A client's certificate and key stand in the home.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop

from bench.customers import CALLER, load_customers
from vault import logs
from vault.assembly import Rooms, Use, authority, build_pipelines, log_signers, open_logs, open_rooms
from vault.config import load_settings
from vault.domain.types import Caller
from vault.identity.certificates import CertificateAuthenticator
from vault.server.blocking import BlockingWorker
from vault.server.data import DataServicer, add_data_service
from vault.server.edge import Edge
from vault.server.interpreter import settle
from vault.server.lifecycle import SERVERS
from vault.server.listening import options, serve_together
from vault.server.metrics import Meter
from vault.server.scheduling import come_first, take_turns
from vault.server.worker import DisclosureWorker
from vault.serving import tls_material

CERTIFICATES: Final = "bench-certificates"
"""Folder of the home: ca.pem, client.pem, client.key."""


class _OneCaller:
    """Every call comes from the same caller."""

    def caller(self, _: Any) -> Caller:
        return Caller(CALLER, "retail", "bench")


class _OpenEdge(Edge):
    """An edge that proves nothing: for the benchmark's own port alone."""

    async def caller(self, context: Any) -> Caller:
        return Caller(CALLER, "retail", "bench")


async def main(home: Path, customers: int, url: str, port: int, tls: bool, in_turn: bool) -> None:
    settings = load_settings(home=home, database_url=url)
    with open_rooms(settings, Use.SERVE) as rooms:
        signers = log_signers(rooms)
        pipelines = build_pipelines(rooms, open_logs(rooms, signers), signers)
        if customers:
            load_customers(pipelines, customers)
        settle()
        pipelines.integrator.start()
        worker = DisclosureWorker(pipelines.disclosure, pipelines.keyring, rooms.clock)
        worker.start(asyncio.get_running_loop())
        changes, meter = BlockingWorker("changes"), Meter()

        def server(edge: Edge) -> grpc.aio.Server:
            made = grpc.aio.server(options=options(shared=True))
            add_data_service(DataServicer(edge, worker, pipelines.intake, changes), made)
            return made

        serving: list[grpc.aio.Server] = []

        async def serve(edge: Edge, port: int, credentials: grpc.ServerCredentials | None) -> int:
            def add_port(one: grpc.aio.Server, at: str) -> int:
                return one.add_secure_port(at, credentials) if credentials else one.add_insecure_port(at)

            servers = [server(edge) for _ in range(SERVERS)]
            # one that nothing refers to any more is closed
            serving.extend(servers)
            return int((await serve_together(servers, f"127.0.0.1:{port}", add_port)).rpartition(":")[2])

        ports = [await serve(_OpenEdge(_OneCaller(), _OneCaller(), meter), port, None)]
        if tls:
            callers = CertificateAuthenticator(lambda: rooms.policy.current.bundle, rooms.clock)
            ports.append(await serve(Edge(callers, _OneCaller(), meter), 0, _credentials(rooms)))
        if in_turn:
            come_first()
        print(*ports, flush=True)
        await serving[0].wait_for_termination()


def _credentials(rooms: Rooms) -> grpc.ServerCredentials:
    """As in vault/server/lifecycle.py; writes what a client needs into the home."""
    ca = authority(rooms.settings, rooms.clock, rooms.randomness)
    folder = rooms.settings.home / CERTIFICATES
    folder.mkdir(mode=0o700, exist_ok=True)
    spiffe = next(iter(rooms.policy.current.bundle.callers[CALLER].spiffe))
    ca.issue_client(CALLER, spiffe).write(folder, "client")
    (folder / "ca.pem").write_bytes(ca.certificate_pem)
    material = tls_material(rooms)
    return grpc.ssl_server_credentials(
        [(material.key, material.chain)], root_certificates=material.client_ca, require_client_auth=True
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--customers", type=int, default=0, help="how many to load first")
    parser.add_argument("--url", default="", help="of a PostgreSQL database; else SQLite in the home")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--tls", action="store_true", help="serve over mTLS too; prints that port as well")
    given = parser.parse_args()
    logs.configure(level="ERROR")
    in_turn = take_turns()
    uvloop.run(main(given.home, given.customers, given.url, given.port, given.tls, in_turn))
