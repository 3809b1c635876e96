"""Starting and stopping the gRPC servers (api.md, "Identity" and "Server").

Three ports: mTLS for certificates, TLS for JWT callers, plain text for health alone. SIGTERM: health first,
then no new calls, then the calls under way, then the queue, then the log.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2_grpc

from vault.domain.limits import LIMITS
from vault.server.health import HealthMonitor
from vault.server.listening import ProbeServer, options, serve_together
from vault.server.ports import ReservedPort
from vault.server.ready import Addresses


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
    """Where to listen; '' is off, port 0 any free one. `shared`: other processes are on the TLS ports too;
    whoever leads them has reserved these."""

    main: str
    jwt: str = ""
    health: str = ""
    shared: bool = False


SERVERS: Final = 4 if sys.platform == "linux" else 1
"""gRPC servers on a port. grpc.aio hands over the calls of a server one by one, one in a turn of the event
loop: with a single server the loop turns once for each call of a burst. Measured with 8 and 32 callers, in
turn: 0.34 and 0.41 of the echo with one, 0.35 and 0.44 with four. More make a crowd of calls worse than it
is: a loop that takes many new ones finishes few. Systems other than Linux do not spread connections."""


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
        self._reserved: list[ReservedPort] = []
        self._health = ProbeServer(monitor.servicer)

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
        jwt = ""
        if self._listen.jwt:
            jwt = await self._serve(self._listen.jwt, grpc.ssl_server_credentials(pair))
        health = await self._health.start(self._listen.health)
        return Addresses(main, jwt, health)

    async def stop(self) -> None:
        """Refuse new calls, let those under way finish within the drain time."""
        await asyncio.gather(*(server.stop(LIMITS.drain_seconds) for server in self._servers))
        for port in self._reserved:
            port.close()

    async def stop_health(self) -> None:
        await self._health.stop()

    async def _serve(self, address: str, credentials: grpc.ServerCredentials) -> str:
        if SERVERS > 1 and not self._listen.shared:
            port = ReservedPort(address)
            self._reserved.append(port)
            address = port.address
        servers = [self._made() for _ in range(SERVERS)]
        return await serve_together(
            servers, address, lambda server, at: server.add_secure_port(at, credentials)
        )

    def _made(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=options(shared=SERVERS > 1 or self._listen.shared),
            maximum_concurrent_rpcs=LIMITS.concurrent_calls // SERVERS,
        )
        for registration in self._registrations:
            registration.add(registration.servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._monitor.check_only, server)
        self._servers.append(server)
        return server


class Signals:
    """SIGTERM and SIGINT ask the service to stop, SIGHUP to load the policies anew; without `reload` it does
    nothing.

    From the moment this is made, in the running loop, none of them kills the process.
    """

    def __init__(self, reload: Callable[[], Awaitable[None]] | None) -> None:
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
        if self._reload is None:
            return
        reload = asyncio.ensure_future(self._reload())
        self._reloads.add(reload)
        reload.add_done_callback(self._reloads.discard)
