"""Ports: what every gRPC server here is made with, and the plain-text port that serves health alone."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from vault.domain.errors import StartRefusedError
from vault.domain.limits import LIMITS

_SLACK_BYTES: Final = 64 * 1024
_UNSEEN_CALLS: Final = 256
"""Calls of a server that gRPC lets wait before the service sees them; of more it drops some, and all of more
than twice as many. That costs no interpreter lock, and clients try again. What waits there is bounded by
nothing else, and the more wait the less is answered: of three times the calls that can be answered 0.97, 0.92
and 0.74 of the peak with 128, 256 and 512. A group's answers bring as many new calls at once."""
HEALTH_CALLS: Final = 256
"""Calls open at once on the probe port, watches most of all."""

ALIVE: Final = "alive"
"""The name that liveness probes ask for. SERVING while the database, the KMS or the policies are what is
missing: a restart brings none of them back."""


def options(*, shared: bool = False) -> tuple[tuple[str, int], ...]:
    """Options of a server. `shared`: other servers listen on its port too (SO_REUSEPORT)."""
    return (
        ("grpc.max_receive_message_length", LIMITS.message_bytes),
        ("grpc.max_send_message_length", LIMITS.message_bytes + _SLACK_BYTES),
        ("grpc.so_reuseport", int(shared)),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_concurrent_streams", 1_024),
        ("grpc.server.max_pending_requests", _UNSEEN_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _UNSEEN_CALLS),
    )


def bind(address: str, bind_port: Callable[[], int]) -> str:
    """Bind; returns HOST:PORT with the port that was found.

    Raises:
        StartRefusedError: it cannot be bound.
    """
    host = address.rpartition(":")[0]
    try:
        port = bind_port()
    except (RuntimeError, ValueError):
        port = 0
    if not port:
        raise cannot_listen(address)
    return f"{host}:{port}"


async def serve_together(
    servers: Sequence[grpc.aio.Server], address: str, add_port: Callable[[grpc.aio.Server, str], int]
) -> str:
    """Have several servers listen on one port, for which they are made to share it; returns HOST:PORT.

    Raises:
        StartRefusedError: it cannot be bound.
    """
    for server in servers:
        address = bind(address, partial(add_port, server, address))
    for server in servers:
        await server.start()
    return address


def cannot_listen(address: str) -> StartRefusedError:
    """The error of a port that cannot be bound."""
    return StartRefusedError(
        f"cannot listen on {address}: is another server there, and does the host name exist?"
    )


class Statuses:
    """What the health port says of services that are known by name only."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]

    async def set(self, services: Iterable[str], *, serving: bool) -> None:
        """Set the status of these services, '' for the whole."""
        status = health_pb2.HealthCheckResponse
        for service in services:
            await self.servicer.set(service, status.SERVING if serving else status.NOT_SERVING)


class ProbeServer:
    """The plain-text port: grpc.health.v1 and nothing else."""

    def __init__(self, servicer: health_pb2_grpc.HealthServicer) -> None:
        self._servicer: Any = servicer
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str) -> str:
        """Bind and serve; '' is off. Returns where it listens.

        Raises:
            StartRefusedError: the port cannot be bound.
        """
        if not address:
            return ""
        server = self._server = grpc.aio.server(options=options(), maximum_concurrent_rpcs=HEALTH_CALLS)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        bound = bind(address, lambda: server.add_insecure_port(address))
        await server.start()
        return bound

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
