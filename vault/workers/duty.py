"""A worker's side: what it tells its supervisor, and what it does on its word."""

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any

import structlog
from prometheus_client import generate_latest

from vault.policy.live import Loaded
from vault.reloading import PolicyReloader, refusal_of
from vault.server.lifecycle import Signals
from vault.server.metrics import Meter
from vault.server.ready import Addresses
from vault.workers.link import Link
from vault.workers.messages import (
    LINE_BYTES,
    Adopt,
    Adopted,
    Condition,
    GarbledError,
    Measure,
    Measured,
    Prepare,
    Prepared,
    Ready,
    Refused,
    Start,
    decode,
)

log = structlog.get_logger("datavault.worker")


class Duty:
    """Implements `serving.Post` for one worker of several.

    Before it serves it makes its first message wait; from then on it reports its health and follows the
    supervisor's messages. Without a supervisor it ends at once: nobody would stop or replace it, and what was
    acknowledged is durable.
    """

    shared = True

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._link: Link | None = None
        self._prepared: Loaded | None = None
        self._following: asyncio.Task[None] | None = None
        self._reloader: PolicyReloader
        self._meter: Meter
        self._signals: Signals

    def attend(self, reloader: PolicyReloader, meter: Meter) -> None:
        """See Post. A SIGHUP is the supervisor's to answer: alone a worker would differ from the others."""
        self._reloader, self._meter = reloader, meter
        self._signals = Signals(None)

    async def serving(self, addresses: Addresses, metrics: str, bundle: str, services: Sequence[str]) -> None:
        """See Post."""
        self._link = await Link.open(self._end)
        self._following = asyncio.get_running_loop().create_task(self._follow(self._link))
        self._link.send(Ready(bundle, list(services)))

    def report(self, problem: str) -> None:
        """See Post."""
        if self._link is not None:
            self._link.send(Condition(problem))

    async def stopped(self) -> None:
        """See Post."""
        await self._signals.stopped()

    async def _follow(self, link: Link) -> None:
        try:
            async for message in link.messages():
                await self._obey(link, message)
        except GarbledError:
            log.error("supervisor_garbled")
        os._exit(1)

    async def _obey(self, link: Link, message: Any) -> None:
        match message:
            case Prepare():
                await self._prepare(link, message)
            case Adopt():
                self._adopt(link, message)
            case Measure():
                link.send(Measured(generate_latest(self._meter.registry).decode()))

    async def _prepare(self, link: Link, message: Prepare) -> None:
        try:
            self._prepared = await asyncio.to_thread(self._reloader.prepare, message.bundle)
        except Exception as error:
            refusal = refusal_of(error)
            link.send(Refused(message.round, refusal.event, refusal.fields))
        else:
            link.send(Prepared(message.round, self._prepared.bundle.hash))

    def _adopt(self, link: Link, message: Adopt) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is None or prepared.bundle.hash != message.bundle:
            raise GarbledError("told to adopt what was not prepared")
        self._reloader.adopt(prepared)
        link.send(Adopted(message.bundle))


def first_message(end: socket.socket) -> Start | None:
    """Wait for the supervisor's first message; None when it is gone. Blocks.

    Raises:
        GarbledError: it is no Start.
    """
    line = b""
    while not line.endswith(b"\n"):
        # nothing follows it before this worker has answered
        more = end.recv(65_536)
        if not more or len(line) > LINE_BYTES:
            return None
        line += more
    message = decode(line)
    if not isinstance(message, Start):
        raise GarbledError("the first message is not the one to start")
    return message
