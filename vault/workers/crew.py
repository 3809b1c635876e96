"""What the supervisor decides, as a pure state machine: it is told what happened and when, and answers what
to do.

    waiting  -> starting   its pause is over, and no reload is under way
    starting -> serving    it listens
    serving  -> leaving    told to end, or ending by itself
    any      -> waiting    its process has ended: it is replaced, at once or after a pause when it died young

The first worker starts alone: what a first start makes (keys, certificates, the log) is made once, and a
wrong setting is told once. The bundle that it serves is in force, and every later worker is handed its hash:
what the folder holds by then does not matter until a reload (reload.py).
"""

import signal
from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Final

from vault.domain.limits import LIMITS
from vault.workers.actions import Actions, Announce, End, Kill, Say, Spawn, Tell
from vault.workers.member import STARTING_PROBLEM, Member, State
from vault.workers.messages import (
    Adopt,
    Adopted,
    Condition,
    Failed,
    FromWorker,
    Prepare,
    Prepared,
    Ready,
    Refused,
)
from vault.workers.reload import Reload, Step

TICK_SECONDS: Final = 0.5
YOUNG_SECONDS: Final = 10.0
"""A worker that has served for less than this when it dies has not recovered from what killed the one
before."""
LOOP_DEATHS: Final = 5
LOOP_SECONDS: Final = 60.0
"""So many young deaths of any workers in so long are a crash loop; so many starts of one worker in a row that
came to nothing are one however long they take."""
FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 30.0
START_SECONDS: Final = 120.0
UNHEARD_TICKS: Final = 10
"""A worker that is silent for so long may hang: the service is not well. Workers speak twice a second."""
SILENT_TICKS: Final = 40
"""One that is silent for so long is killed. Ticks and not seconds: a machine that slept has not heard from
anybody."""
UNWELL_SECONDS: Final = 30.0
STOP_SECONDS: Final = LIMITS.drain_seconds + 8.0
FAILED: Final = 1
CRASH_LOOP: Final = 6
"""Exit codes (cli/exits.py)."""
_STOPPING: Final = "stopping"
_HANGS: Final = "it did not end in time and was killed"
_SILENT: Final = "it is silent"


@dataclass(slots=True)
class Crew:
    """The workers of a service. Each method is told `now` and yields what to do; consume it whole.

    `bundle` is the hash in force, '' before the first worker serves.
    """

    members: dict[int, Member]
    services: list[str] = field(default_factory=list)
    bundle: str = ""
    stopping: bool = False
    complete: bool = False
    reloading: Reload = field(default_factory=Reload)
    _deaths: deque[float] = field(default_factory=deque)
    _end: End = field(default_factory=End)

    @classmethod
    def of(cls, count: int) -> "Crew":
        """A crew of so many workers, none of them started."""
        members = {number: Member(number) for number in range(1, count + 1)}
        members[1].until = 0.0
        return cls(members)

    @property
    def problem(self) -> str:
        """What is wrong with the service as a whole, '' while it serves: one worker serves at least, and none
        that listens does not. A new connection goes to any worker that listens, so one that cannot answer
        spoils its share of them; one that has ended or is not up yet gets none."""
        if self.stopping:
            return _STOPPING
        for member in self.members.values():
            if member.state is not State.SERVING:
                continue
            if member.silent >= UNHEARD_TICKS:
                return f"worker {member.number}: {_SILENT}"
            if member.problem not in ("", STARTING_PROBLEM):
                return f"worker {member.number}: {member.problem}"
        return "" if any(member.serves for member in self.members.values()) else "no worker serves"

    # --- what happens -----------------------------------------------------------------------------------

    def tick(self, now: float) -> Actions:
        """Time has passed; call it every TICK_SECONDS."""
        for member in self.members.values():
            yield from self._look_after(member, now)
        yield from self._advance(now)

    def spawned(self, number: int, pid: int, now: float) -> None:
        """The process that was asked for runs."""
        member = self.members[number]
        member.pid, member.until = pid, now + START_SECONDS

    def received(self, number: int, message: FromWorker, now: float) -> Actions:
        """A worker says something."""
        member = self.members[number]
        member.silent = 0
        match message:
            case Ready():
                yield from self._ready(member, message, now)
            case Condition():
                yield from self._condition(member, message.problem, now)
            case Prepared():
                for other in self.reloading.prepared(number, message.round, message.bundle, now):
                    yield Tell(other, Prepare(message.round, message.bundle))
            case Refused() if message.round == self.reloading.round and self.reloading.under_way:
                self.reloading.end()
                yield Say("error", message.event, {**message.fields, "worker": number})
            case Adopted():
                member.bundle = message.bundle
                yield from self._adopted(number)
            case _:
                pass
        yield from self._advance(now)

    def ended(self, number: int, status: int, failure: Failed | None, now: float) -> Actions:
        """A worker's process is gone. `status`: exit code, or minus the signal; `failure`: what it said about
        why it cannot start."""
        member = self.members[number]
        was = member.state
        young = was is State.STARTING or now - member.since < YOUNG_SECONDS
        member.state, member.pid, member.problem, member.silent = State.WAITING, 0, "ended", 0
        if self.stopping:
            yield from self._advance(now)
            return
        yield from self._leave_reload(number)
        if failure is not None and not self._outlives_a_start:
            yield from self._give_up(End(failure.code, failure.message, failure.hint), now)
            return
        member.restarts += 1
        told = was is State.LEAVING
        passing = failure is not None and failure.passing
        if was is State.STARTING and not passing:
            member.fruitless += 1
        pause = self._pause(member, failed=failure is not None or (young and not told))
        member.until = now + pause
        yield Say("info" if told else "error", "worker_ended", _death(number, status, failure, pause))
        if young and not told and not passing and self._loops(member, now):
            yield from self._give_up(_crash_loop(failure), now)
            return
        yield from self._advance(now)

    def reload(self, now: float) -> Actions:
        """SIGHUP."""
        self.reloading.asked = True
        yield from self._advance(now)

    def stop(self, now: float) -> Actions:
        """SIGTERM or SIGINT: end all, at once and in order."""
        if self.stopping:
            return
        self.stopping = True
        self.reloading.end()
        for member in self.members.values():
            if member.state is not State.WAITING:
                yield from _dismiss(member, now)
        yield from self._advance(now)

    # --- one worker -------------------------------------------------------------------------------------

    def _look_after(self, member: Member, now: float) -> Actions:
        number = member.number
        if member.state is State.WAITING:
            return
        if member.state in (State.STARTING, State.LEAVING) and now >= member.until:
            member.until = inf
            if self.stopping and not self._end.code:
                self._end = End(FAILED, f"worker {number}: {_HANGS}")
            yield Say("error", "worker_killed", {"worker": number, "problem": f"{member.state}: {_HANGS}"})
            yield Kill(number, signal.SIGKILL)
        if member.state is not State.SERVING:
            return
        member.silent += 1
        if member.silent == SILENT_TICKS:
            yield Say("error", "worker_killed", {"worker": number, "problem": _SILENT})
            yield Kill(number, signal.SIGKILL)
        if member.serves:
            member.well = now
        elif now - member.well >= UNWELL_SECONDS and any(each.serves for each in self.members.values()):
            # what keeps it from serving is its own: another process may do better
            yield Say("error", "worker_dismissed", {"worker": number, "problem": member.problem})
            yield from _dismiss(member, now)

    def _ready(self, member: Member, message: Ready, now: float) -> Actions:
        if member.state is not State.STARTING:
            return
        if self.bundle and message.bundle != self.bundle:
            yield Say("error", "worker_killed", {"worker": member.number, "problem": "another bundle"})
            yield Kill(member.number, signal.SIGKILL)
            return
        member.state, member.bundle, member.well = State.SERVING, message.bundle, now
        member.since, member.fruitless = now, 0
        if not self.bundle:
            self.bundle, self.services = message.bundle, message.services
            for each in self.members.values():
                each.until = min(each.until, now) if each.state is State.WAITING else each.until

    def _condition(self, member: Member, problem: str, now: float) -> Actions:
        if problem == _STOPPING and member.state is State.SERVING:
            # somebody told it to end, past us
            member.state, member.until = State.LEAVING, now + STOP_SECONDS
            yield from self._leave_reload(member.number)
        member.problem = problem
        if not self.complete and all(each.serves for each in self.members.values()):
            self.complete = True
            yield Announce()

    @property
    def _outlives_a_start(self) -> bool:
        """Whether the service goes on without a worker that cannot start: what was up once and is served by
        others is not given up for one whose start fails, unless that goes on (a crash loop)."""
        return self.complete and any(member.state is State.SERVING for member in self.members.values())

    def _pause(self, member: Member, *, failed: bool) -> float:
        member.young = member.young + 1 if failed else 0
        if not failed:
            return 0.0
        return float(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (member.young - 1)))

    def _loops(self, member: Member, now: float) -> bool:
        """Count a death."""
        self._deaths.append(now)
        while self._deaths and now - self._deaths[0] > LOOP_SECONDS:
            self._deaths.popleft()
        return len(self._deaths) >= LOOP_DEATHS or member.fruitless >= LOOP_DEATHS

    def _give_up(self, end: End, now: float) -> Actions:
        self._end = end
        yield from self.stop(now)

    # --- all of them ------------------------------------------------------------------------------------

    def _advance(self, now: float) -> Actions:
        if self.stopping:
            if all(member.state is State.WAITING for member in self.members.values()):
                yield self._end
            return
        yield from self._advance_reload(now)
        if self.reloading.under_way or (self.reloading.asked and self._serving()):
            # who starts now would be handed the bundle that may be about to go
            return
        for member in self.members.values():
            if member.state is State.WAITING and now >= member.until:
                member.state, member.problem = State.STARTING, STARTING_PROBLEM
                yield Spawn(member.number, self.bundle)

    def _advance_reload(self, now: float) -> Actions:
        reload = self.reloading
        starting = any(member.state is State.STARTING for member in self.members.values())
        if reload.asked and not reload.under_way and not starting and self._serving():
            yield Tell(reload.begin(self._serving(), now), Prepare(reload.round, ""))
        if reload.all_prepared:
            self.bundle = reload.bundle
            reload.adopt(self._serving(), now)
            for number in self._serving():
                yield Tell(number, Adopt(self.bundle))
        if reload.late(now):
            yield from self._too_late()

    def _too_late(self) -> Actions:
        reload = self.reloading
        late = sorted(reload.waiting)
        if reload.step is Step.ADOPT:
            for number in late:
                yield Say("error", "worker_killed", {"worker": number, "problem": "it keeps the old bundle"})
                yield Kill(number, signal.SIGKILL)
                yield from self._adopted(number)
            return
        reload.end()
        problem = f"worker {late[0]} did not answer"
        yield Say("error", "policy_not_loaded", {"worker": late[0], "problem": problem})

    def _adopted(self, number: int) -> Actions:
        if self.reloading.adopted(number):
            yield Say("info", "policy_loaded", {"bundle": self.bundle})

    def _leave_reload(self, number: int) -> Actions:
        """Without this worker: a switch goes on, a round that has not come to it begins anew."""
        if self.reloading.step is Step.ADOPT:
            yield from self._adopted(number)
        elif self.reloading.under_way:
            self.reloading.end()
            self.reloading.asked = True

    def _serving(self) -> list[int]:
        return [member.number for member in self.members.values() if member.state is State.SERVING]


def _dismiss(member: Member, now: float) -> Actions:
    member.state, member.until = State.LEAVING, now + STOP_SECONDS
    yield Kill(member.number, signal.SIGTERM)


def _crash_loop(failure: Failed | None) -> End:
    message = f"workers went on ending in or right after their start, {LOOP_DEATHS} times"
    if failure is not None:
        return End(CRASH_LOOP, f"{message}; the last one: {failure.message}", failure.hint)
    return End(CRASH_LOOP, message, "the service's log says how: worker_ended, and what stands before it")


def _death(number: int, status: int, failure: Failed | None, pause: float) -> dict[str, str | int | float]:
    kind = signal.Signals(-status).name if status < 0 else f"exit {status}"
    told: dict[str, str | int | float] = {"problem": failure.message} if failure else {}
    return {"worker": number, "kind": kind, "seconds": pause, **told}
