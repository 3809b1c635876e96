"""Starting and stopping the gRPC servers (api.md, "Identity" and "Server").

Three ports: mTLS for certificates, TLS for JWT callers, plain text for health alone. SIGTERM: health first,
then no new calls, then the calls under way, then the queue, then the log.
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc

from vault.domain.errors import StartRefusedError
from vault.domain.limits import LIMITS
from vault.server.health import HealthMonitor

log = structlog.get_logger("datavault.server")

_SLACK_BYTES: Final = 64 * 1024
HEALTH_CALLS: Final = 256
"""Calls open at once on the probe port, watches most of all."""
OPTIONS: Final = (
    ("grpc.max_receive_message_length", LIMITS.message_bytes),
    ("grpc.max_send_message_length", LIMITS.message_bytes + _SLACK_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_concurrent_streams", 1_024),
)


@dataclass(frozen=True, slots=True)
class Registration:
    """A servicer, its full service name, and the generated function that adds it to a server."""

    service: str
    servicer: Any
    add: Callable[[Any, grpc.aio.Server], None]


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """PEM bytes: the server's chain and key, and the CA of client certificates. repr shows nothing."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    client_ca: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen; '' is off, port 0 any free one."""

    main: str
    jwt: str = ""
    health: str = ""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where it listens."""

    main: str
    jwt: str
    health: str


class GrpcServers:
    """The servers of one process."""

    def __init__(
        self,
        registrations: Sequence[Registration],
        monitor: HealthMonitor,
        tls: TlsMaterial,
        listen: Listen,
    ) -> None:
        self._registrations = registrations
        self._monitor = monitor
        self._tls = tls
        self._listen = listen
        self._servers: list[grpc.aio.Server] = []
        self._health: grpc.aio.Server | None = None

    async def start(self) -> Addresses:
        """Bind all ports and begin to serve.

        Raises:
            StartRefusedError: a port cannot be bound, or a certificate cannot be used.
        """
        pair = [(self._tls.key, self._tls.chain)]
        mutual = grpc.ssl_server_credentials(
            pair, root_certificates=self._tls.client_ca, require_client_auth=True
        )
        main = await self._serve(self._listen.main, mutual)
        jwt = health = ""
        if self._listen.jwt:
            jwt = await self._serve(self._listen.jwt, grpc.ssl_server_credentials(pair))
        if self._listen.health:
            health = await self._serve_health(self._listen.health)
        return Addresses(main, jwt, health)

    async def stop(self) -> None:
        """Refuse new calls, let those under way finish within the drain time."""
        await asyncio.gather(*(server.stop(LIMITS.drain_seconds) for server in self._servers))

    async def stop_health(self) -> None:
        if self._health is not None:
            await self._health.stop(None)

    async def _serve(self, address: str, credentials: grpc.ServerCredentials) -> str:
        server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=LIMITS.concurrent_calls)
        for registration in self._registrations:
            registration.add(registration.servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._monitor.check_only, server)
        self._servers.append(server)
        bound = _bind(address, lambda: server.add_secure_port(address, credentials))
        await server.start()
        return bound

    async def _serve_health(self, address: str) -> str:
        self._health = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=HEALTH_CALLS)
        health_pb2_grpc.add_HealthServicer_to_server(self._monitor.servicer, self._health)
        server = self._health
        bound = _bind(address, lambda: server.add_insecure_port(address))
        await server.start()
        return bound


def _bind(address: str, bind: Callable[[], int]) -> str:
    host = address.rpartition(":")[0]
    try:
        port = bind()
    except (RuntimeError, ValueError):
        port = 0
    if not port:
        raise StartRefusedError(
            f"cannot listen on {address}: is another server there, and does the host name exist?"
        )
    return f"{host}:{port}"


class Signals:
    """SIGTERM and SIGINT ask the service to stop, SIGHUP to load the policies anew.

    From the moment this is made, in the running loop, none of them kills the process.
    """

    def __init__(self, reload: Callable[[], Awaitable[None]]) -> None:
        self._reload = reload
        self._stop = asyncio.Event()
        self._reloads: set[asyncio.Future[None]] = set()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the process
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            loop.add_signal_handler(signal.SIGHUP, self._begin_reload)

    async def stopped(self) -> None:
        """Return once the service was asked to stop."""
        await self._stop.wait()

    def _begin_reload(self) -> None:
        reload = asyncio.ensure_future(self._reload())
        self._reloads.add(reload)
        reload.add_done_callback(self._reloads.discard)
