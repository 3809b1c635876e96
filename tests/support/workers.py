"""A crew of workers on paper: what happens is told, and what the supervisor would do is kept."""

import signal
from dataclasses import dataclass, field

from vault.workers.actions import Action, Announce, End, Kill, Say, Spawn, Tell
from vault.workers.crew import Crew
from vault.workers.messages import Condition, Failed, FromWorker, Ready

OLD, NEW = "old-bundle", "new-bundle"
SERVICES = ["vault.v1.DataService"]


@dataclass
class Paper:
    """`done` holds every action since it was last taken; `now` moves only when told."""

    crew: Crew
    now: float = 1_000.0
    done: list[Action] = field(default_factory=list)
    _pid: int = 100

    @classmethod
    def of(cls, count: int) -> "Paper":
        return cls(Crew.of(count))

    @classmethod
    def serving(cls, count: int = 2, *, age: float = 60.0) -> "Paper":
        """All workers have been serving OLD for `age` seconds."""
        paper = cls.of(count)
        paper.tick()
        paper.serve(1)
        for number in range(2, count + 1):
            paper.serve(number)
        paper.pass_time(age)
        paper.taken()
        return paper

    # --- what happens ---------------------------------------------------------------------------------------

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self._keep(list(self.crew.tick(self.now)))

    def pass_time(self, seconds: float) -> None:
        """Time passes, and every worker that serves says so at each tick."""
        until = self.now + seconds
        while self.now < until:
            for member in self.crew.members.values():
                if member.serves:
                    self.say(member.number, Condition(""))
            self.tick(0.5)

    def say(self, number: int, message: FromWorker) -> None:
        self._keep(list(self.crew.received(number, message, self.now)))

    def serve(self, number: int, bundle: str = "") -> None:
        """A worker listens, and its first look at its health is good."""
        self.say(number, Ready(bundle or self.crew.bundle or OLD, SERVICES))
        self.say(number, Condition(""))

    def die(self, number: int, status: int = -signal.SIGKILL, failure: Failed | None = None) -> None:
        self._keep(list(self.crew.ended(number, status, failure, self.now)))

    def reload(self) -> int:
        """SIGHUP; the number of the round."""
        self._keep(list(self.crew.reload(self.now)))
        return self.crew.reloading.round

    def stop(self) -> None:
        self._keep(list(self.crew.stop(self.now)))

    # --- what is done about it ------------------------------------------------------------------------------

    def taken(self) -> list[Action]:
        """All actions since the last call."""
        done, self.done = self.done, []
        return done

    def spawned(self) -> list[tuple[int, str]]:
        return [(each.number, each.bundle) for each in self.done if isinstance(each, Spawn)]

    def told(self) -> list[tuple[int, object]]:
        return [(each.number, each.message) for each in self.done if isinstance(each, Tell)]

    def killed(self) -> list[tuple[int, int]]:
        return [(each.number, each.signal) for each in self.done if isinstance(each, Kill)]

    def said(self) -> list[str]:
        return [each.event for each in self.done if isinstance(each, Say)]

    def announced(self) -> int:
        return sum(isinstance(each, Announce) for each in self.done)

    def end(self) -> End | None:
        """How the service ended, None while it goes on."""
        return next((each for each in self.done if isinstance(each, End)), None)

    def _keep(self, actions: list[Action]) -> None:
        self.done.extend(actions)
        for action in actions:
            if isinstance(action, Spawn):
                self._pid += 1
                self.crew.spawned(action.number, self._pid, self.now)
