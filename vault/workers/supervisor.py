"""The supervisor: holds what the workers share, and does what the crew decides.

It never touches data: no key, no policy and no row of the database is ever in this process.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from vault.config import Settings, hand_over, make_home
from vault.domain.errors import StartRefusedError, StoreUnavailableError
from vault.server.listening import ALIVE, ProbeServer, Statuses, cannot_listen
from vault.server.ports import ReservedPort, require_sharing
from vault.server.ready import Addresses, write_ready_file
from vault.store.database import Database
from vault.store.filelock import FileLock
from vault.store.opening import open_database
from vault.workers.actions import Action, Announce, End, Kill, Say, Spawn, Tell
from vault.workers.crew import FAILED, TICK_SECONDS, Crew
from vault.workers.member import State
from vault.workers.messages import Failed, FromWorker, Measure, Measured, Start
from vault.workers.pages import SCRAPE_SECONDS, Pages
from vault.workers.process import WorkerProcess
from vault.workers.roster import LOCK_FILE, Roster, remove_roster, roster_of, write_roster

log = structlog.get_logger("datavault.supervisor")


def supervise(settings: Settings, ready_file: Path | None) -> End:
    """Run the service with `settings.workers` processes until SIGTERM or SIGINT, or until it cannot go on.

    Raises:
        ConfigurationError: this system has no shared ports. StartRefusedError: a port is taken, or another
        server uses the home or the database file.
    """
    require_sharing()
    make_home(settings)
    with contextlib.ExitStack() as held:
        held.callback(_alone_at_home(settings).release)
        claimed = _claimed(settings)
        if claimed is not None:
            held.callback(claimed.close)
        main = held.enter_context(contextlib.closing(ReservedPort(settings.listen)))
        jwt = held.enter_context(contextlib.closing(ReservedPort(settings.listen_jwt)))
        held.callback(remove_roster, settings.home)
        return asyncio.run(_Supervisor(settings, main.address, jwt.address, ready_file).run())


def _alone_at_home(settings: Settings) -> FileLock:
    """One supervisor for a home: it says there who serves (roster.py).

    Raises:
        StartRefusedError: there is one.
    """
    lock = FileLock(settings.home / LOCK_FILE)
    try:
        taken = lock.acquire()
    except OSError as error:
        raise StartRefusedError(
            f"DATAVAULT_HOME: {settings.home} cannot be written: {error.strerror}"
        ) from None
    if not taken:
        raise StartRefusedError(
            f"DATAVAULT_HOME: another server with workers runs on {settings.home}: give each its own home"
        )
    return lock


def _claimed(settings: Settings) -> Database | None:
    """The database that only one server may use (SQLite), held for all workers. On another one each worker
    joins by itself.

    Raises:
        StartRefusedError: another server uses it.
    """
    database = open_database(settings.database)
    if not database.serves_alone:
        database.close()
        return None
    try:
        database.lock_exclusively()
    except StoreUnavailableError as error:
        raise StartRefusedError(f"{database.name}: {error.message}") from None
    return database


@dataclass(slots=True)
class _Hand:
    """A worker's process and what it said last."""

    process: WorkerProcess
    failure: Failed | None = None
    pages: "list[asyncio.Future[str]]" = field(default_factory=list)

    def give(self, page: str) -> None:
        """To all who wait for it."""
        for waiting in self.pages:
            if not waiting.done():
                waiting.set_result(page)
        self.pages.clear()


class _Supervisor:
    def __init__(self, settings: Settings, main: str, jwt: str, ready_file: Path | None) -> None:
        self._settings = settings
        self._ready_file = ready_file
        self._addresses = Addresses(main, jwt, "")
        self._metrics = ""
        # health and metrics are answered here, for all of them
        ports = {"listen": main, "listen_jwt": jwt, "listen_health": "", "metrics": ""}
        self._handed = {**hand_over(settings), **ports}
        self._crew = Crew.of(settings.workers)
        self._hands: dict[int, _Hand] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._roster: Roster | None = None
        self._health = Statuses()
        self._said: str | None = None
        self._ended: asyncio.Future[End]

    async def run(self) -> End:
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: self._do(self._crew.stop(time.monotonic())))
        loop.add_signal_handler(signal.SIGHUP, lambda: self._do(self._crew.reload(time.monotonic())))
        probe = ProbeServer(self._health.servicer)
        # workers are looked after: there is nothing that a restart of the whole would mend
        await self._health.set([ALIVE], serving=True)
        await self._tell_health()
        address = await probe.start(self._settings.listen_health)
        self._addresses = replace(self._addresses, health=address)
        self._metrics = self._serve_metrics(loop)
        self._start(self._tick())
        try:
            return await self._ended
        finally:
            for hand in self._hands.values():
                hand.process.signal(signal.SIGKILL)
            await probe.stop()
            log.info("stopped")

    async def _tick(self) -> None:
        while not self._ended.done():
            self._do(self._crew.tick(time.monotonic()))
            await asyncio.sleep(TICK_SECONDS)

    # --- what the crew decides --------------------------------------------------------------------------

    def _do(self, actions: Iterable[Action]) -> None:
        # all of them first: what is done may lead to further decisions
        for action in list(actions):
            self._act(action)
        roster = roster_of(self._crew.bundle, list(self._crew.members.values()))
        if roster != self._roster:
            self._roster = roster
            write_roster(self._settings.home, roster)
        if self._crew.problem != self._said:
            self._start(self._tell_health())

    def _act(self, action: Action) -> None:
        match action:
            case Spawn():
                self._spawn(action)
            case Tell() if action.number in self._hands:
                self._hands[action.number].process.send(action.message)
            case Kill() if action.number in self._hands:
                self._hands[action.number].process.signal(action.signal)
            case Say():
                getattr(log, action.level)(action.event, **action.fields)
            case Announce():
                self._announce()
            case End() if not self._ended.done():
                self._ended.set_result(action)
            case _:
                pass

    def _spawn(self, action: Spawn) -> None:
        number, now = action.number, time.monotonic()
        try:
            hand = _Hand(WorkerProcess())
        except OSError as error:
            failure = Failed(f"a worker cannot be started: {error.strerror}", "", FAILED, True)
            asyncio.get_running_loop().call_soon(
                lambda: self._do(self._crew.ended(number, FAILED, failure, now))
            )
            return
        self._hands[number] = hand
        self._crew.spawned(number, hand.process.pid, now)
        self._start(self._follow(number, hand, Start(number, self._handed, action.bundle)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside; a fault in it ends the service."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None and not self._ended.done():
            self._ended.set_exception(fault)

    async def _follow(self, number: int, hand: _Hand, start: Start) -> None:
        def hear(message: FromWorker) -> None:
            if isinstance(message, Failed):
                hand.failure = message
            elif isinstance(message, Measured):
                hand.give(message.page)
            else:
                self._do(self._crew.received(number, message, time.monotonic()))

        status = await hand.process.follow(start, hear)
        del self._hands[number]
        self._do(self._crew.ended(number, status, hand.failure, time.monotonic()))

    def _announce(self) -> None:
        log.info(
            "started", main=self._addresses.main, jwt=self._addresses.jwt, workers=self._settings.workers
        )
        if self._ready_file is not None:
            write_ready_file(self._ready_file, self._addresses, self._metrics)

    # --- one answer for all -----------------------------------------------------------------------------

    async def _tell_health(self) -> None:
        problem = self._crew.problem
        if problem == self._said:
            return
        first, self._said = self._said is None, problem
        await self._health.set(["", *self._crew.services], serving=not problem)
        if not problem:
            log.info("serving")
        elif self._crew.stopping or first:
            log.info("not_serving", problem=problem)
        else:
            log.error("not_serving", problem=problem)

    def _serve_metrics(self, loop: asyncio.AbstractEventLoop) -> str:
        address = self._settings.metrics
        if not address:
            return ""
        members = self._crew.members

        def pages() -> dict[int, str]:
            return asyncio.run_coroutine_threadsafe(self._pages(), loop).result(2 * SCRAPE_SECONDS)

        serving = Pages(
            pages,
            lambda: sum(each.serves for each in members.values()),
            lambda: {each.number: each.restarts for each in members.values()},
        )
        host, _, port = address.rpartition(":")
        try:
            return f"{host}:{serving.serve(host, int(port))}"
        except OSError:
            raise cannot_listen(address) from None

    async def _pages(self) -> dict[int, str]:
        """The metrics of each worker that gives them in time."""
        asked: dict[int, asyncio.Future[str]] = {}
        for number, hand in self._hands.items():
            if self._crew.members[number].state is State.SERVING:
                asked[number] = asyncio.get_running_loop().create_future()
                hand.pages.append(asked[number])
                hand.process.send(Measure())
        if asked:
            await asyncio.wait(asked.values(), timeout=SCRAPE_SECONDS)
        return {number: page.result() for number, page in asked.items() if page.done()}
