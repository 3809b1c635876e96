"""Health: NOT_SERVING while reads could not be recorded or no key or policy is there (api.md).

Answered by the event loop, so it answers while the disclosure worker hangs. The service name `alive` asks for
less: whether this process can still come to serve, or only a restart helps.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from vault.domain.limits import LIMITS
from vault.server.blocking import BlockingWorker
from vault.server.listening import ALIVE
from vault.server.metrics import Meter
from vault.server.worker import DisclosureWorker

log = structlog.get_logger("datavault.health")

_PERIOD_SECONDS: Final = 0.5
_STOPPING: Final = "stopping"


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that must hold. `check` blocks and runs on a thread; it returns '' or what is wrong."""

    name: str
    check: Callable[[], str]


class CheckServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Check for load balancers, and no Watch: health asks for no identity, so anybody could hold all calls
    of a port by watching."""

    def __init__(self, statuses: health_pb2_grpc.HealthServicer) -> None:
        self._statuses = statuses

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:
        return await self._statuses.Check(request, context)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Watch is served on the probe port")


class HealthMonitor:
    """Watches the worker and the probes, and sets the status of every service at once."""

    def __init__(
        self,
        services: Sequence[str],
        worker: DisclosureWorker,
        changes: Sequence[BlockingWorker],
        probes: Sequence[Probe],
        gauges: Callable[[], dict[str, float]],
        meter: Meter,
        report: Callable[[str], None] = lambda problem: None,
    ) -> None:
        """`gauges` blocks like a probe, and runs after them. `report` is told of every look."""
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self.check_only = CheckServicer(self.servicer)
        self._services = ("", *services)
        self._worker = worker
        self._changes = changes
        self._probes = probes
        self._gauges = gauges
        self._meter = meter
        self._report = report
        self._problem = "starting"
        self._probing: asyncio.Future[str] | None = None
        self._measured: dict[str, float] = {}

    @property
    def problem(self) -> str:
        """What is wrong now, '' while serving."""
        return self._problem

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._set(await self._look())
            await self._say_alive()
            self._measure()
            await asyncio.sleep(_PERIOD_SECONDS)

    async def stop(self) -> None:
        """Say NOT_SERVING for good, `alive` too: load balancers send no more."""
        await self._set(_STOPPING)
        await self.servicer.enter_graceful_shutdown()

    async def _look(self) -> str:
        state = self._worker.state
        if state.stopped:
            return "the disclosure worker has died"
        if state.stuck_seconds > LIMITS.append_stuck_seconds:
            return "the group under way is stuck"
        if self._probing is None:
            self._probing = asyncio.get_running_loop().run_in_executor(None, self._probe)
        done, _ = await asyncio.wait([self._probing], timeout=LIMITS.append_stuck_seconds)
        if not done:
            return "a probe does not answer"
        probing, self._probing = self._probing, None
        error = probing.exception()
        return type(error).__name__ if error else probing.result()

    def _probe(self) -> str:
        for probe in self._probes:
            try:
                wrong = probe.check()
            except Exception as error:
                wrong = type(error).__name__
            if wrong:
                return f"{probe.name}: {wrong}"
        self._measured = self._gauges()
        return ""

    async def _set(self, problem: str) -> None:
        self._report(problem)
        if problem == self._problem:
            return
        self._problem = problem
        status = (
            health_pb2.HealthCheckResponse.NOT_SERVING if problem else health_pb2.HealthCheckResponse.SERVING
        )
        for service in self._services:
            await self.servicer.set(service, status)
        self._meter.set("serving", 0 if problem else 1)
        if problem == _STOPPING:
            log.info("not_serving", problem=problem)
        elif problem:
            log.error("not_serving", problem=problem)
        else:
            log.info("serving")

    async def _say_alive(self) -> None:
        status = health_pb2.HealthCheckResponse
        await self.servicer.set(ALIVE, status.NOT_SERVING if self._worker.state.stopped else status.SERVING)

    def _measure(self) -> None:
        state = self._worker.state
        self._meter.set("queued_reads", state.queued)
        self._meter.set("queued_changes", sum(changes.queued for changes in self._changes))
        self._meter.set("group_seconds", state.stuck_seconds)
        self._meter.set("groups", state.groups)
        self._meter.set("group_reads", state.reads)
        for name, value in self._measured.items():
            self._meter.set(name, value)
