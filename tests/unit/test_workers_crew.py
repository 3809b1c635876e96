"""What the supervisor decides about its workers, with time that is told."""

import signal

import pytest

from tests.support.workers import OLD, Paper
from vault.workers.actions import End
from vault.workers.crew import (
    LONGEST_PAUSE_SECONDS,
    LOOP_DEATHS,
    SILENT_TICKS,
    START_SECONDS,
    STOP_SECONDS,
    UNHEARD_TICKS,
    UNWELL_SECONDS,
)
from vault.workers.member import State
from vault.workers.messages import Condition, Failed, Ready

WRONG = Failed("callers.yaml: wrong", "correct it", 2, passing=False)
AWAY = Failed("the KMS does not answer", "", 1, passing=True)


def pause(paper: Paper, number: int) -> float:
    """Seconds until the worker starts again, 0.0 when it has started."""
    member = paper.crew.members[number]
    return member.until - paper.now if member.state is State.WAITING else 0.0


# --- starting -----------------------------------------------------------------------------------------------


def test_the_first_worker_starts_alone_and_the_others_get_the_hash_it_serves() -> None:
    """What a first start makes is made once, and only the first worker reads the policy folder."""
    paper = Paper.of(3)
    paper.tick()
    assert paper.spawned() == [(1, "")]
    paper.serve(1)
    assert paper.spawned() == [(1, ""), (2, OLD), (3, OLD)]


def test_it_is_announced_once_when_all_serve() -> None:
    """The ready file appears when the last worker is healthy, and not again after a replacement."""
    paper = Paper.of(2)
    paper.tick()
    paper.serve(1)
    paper.say(2, Ready(OLD, []))
    assert paper.announced() == 0
    paper.say(2, Condition(""))
    assert paper.announced() == 1
    paper.die(2)
    paper.tick()
    paper.serve(2)
    assert paper.announced() == 1


def test_a_worker_that_refuses_to_start_ends_the_first_start() -> None:
    """With its message, hint and exit code, as if it had served alone."""
    paper = Paper.of(2)
    paper.tick()
    paper.die(1, 2, WRONG)
    assert paper.end() == End(2, WRONG.message, WRONG.hint)


def test_the_second_worker_may_not_refuse_at_the_first_start_either() -> None:
    """The service then ends in order: the first worker is told to, and the code is that of the refusal."""
    paper = Paper.of(2)
    paper.tick()
    paper.serve(1)
    paper.die(2, 2, WRONG)
    assert paper.killed() == [(1, signal.SIGTERM)]
    paper.die(1, 0)
    assert paper.end() == End(2, WRONG.message, WRONG.hint)


def test_a_worker_that_never_gets_ready_is_killed() -> None:
    """A start that hangs is bounded."""
    paper = Paper.of(2)
    paper.tick()
    paper.tick(START_SECONDS - 1)
    assert paper.killed() == []
    paper.tick(1)
    assert paper.killed() == [(1, signal.SIGKILL)]


def test_a_worker_with_another_bundle_is_killed_before_it_counts() -> None:
    """A replacement that came up with other policies than those in force never is among those that serve."""
    paper = Paper.serving(2)
    paper.die(2)
    paper.tick()
    paper.say(2, Ready("another", []))
    assert paper.killed() == [(2, signal.SIGKILL)]
    assert paper.crew.members[2].state is State.STARTING


# --- replacing ----------------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_at_once_with_the_bundle_in_force() -> None:
    """One that had lived for long is no sign of anything."""
    paper = Paper.serving(2)
    paper.die(2)
    assert paper.spawned() == [(2, OLD)]
    assert paper.said() == ["worker_ended"]
    assert paper.crew.members[2].restarts == 1


def test_a_worker_that_dies_young_waits_for_a_growing_time() -> None:
    """0.25 s, doubled with each young death in a row, and none after a life that was long enough."""
    paper = Paper.serving(2)
    seen = []
    for _ in range(3):
        paper.die(2)
        seen.append(pause(paper, 2))
        paper.pass_time(1)
    assert seen == [0.0, 0.25, 0.5]
    paper.serve(2)
    paper.pass_time(20)
    paper.die(2)
    assert pause(paper, 2) == 0.0


def test_a_crash_loop_ends_the_service() -> None:
    """Five young deaths within a minute: the others are told to end, then it ends with code 6."""
    paper = Paper.serving(2)
    paper.die(2)
    for _ in range(LOOP_DEATHS):
        assert paper.killed() == []
        paper.die(2, 1)
        paper.tick(LONGEST_PAUSE_SECONDS / 8)
    assert paper.killed() == [(1, signal.SIGTERM)]
    paper.die(1, 0)
    end = paper.end()
    assert end is not None
    assert (end.code, "workers went on ending" in end.message) == (6, True)


def test_young_deaths_far_apart_are_no_loop() -> None:
    """More than five of workers that had come up, but never five within a minute."""
    paper = Paper.serving(3)
    for _ in range(2 * LOOP_DEATHS):
        paper.die(2, 1)
        paper.pass_time(20)
        paper.serve(2)
    assert paper.end() is None
    assert paper.killed() == []


def test_starts_that_come_to_nothing_are_a_loop_however_long_they_take() -> None:
    """A worker that dies in its start after 11 s, five times in a row, with ever longer pauses between."""
    paper = Paper.serving(2)
    paper.die(2)
    pauses = []
    for _ in range(LOOP_DEATHS):
        assert paper.end() is None
        paper.pass_time(11 * START_SECONDS / 12)
        paper.die(2, 1)
        pauses.append(pause(paper, 2))
        paper.pass_time(LONGEST_PAUSE_SECONDS)
    assert pauses[:3] == [0.25, 0.5, 1.0]
    paper.die(1, 0)
    end = paper.end()
    assert end is not None
    assert end.code == 6


def test_life_begins_when_a_worker_serves() -> None:
    """A start that took long does not make a worker that dies at once an old one."""
    paper = Paper.serving(2)
    paper.die(2)
    paper.pass_time(30)
    paper.serve(2)
    paper.die(2)
    assert pause(paper, 2) == 0.25


def test_a_wrong_setting_found_by_a_replacement_leaves_the_others_serving_until_it_is_a_loop() -> None:
    """What serves well is not ended for one failed start; five of them end it with the last message."""
    paper = Paper.serving(2)
    paper.die(2)
    for _ in range(LOOP_DEATHS - 1):
        paper.die(2, 2, WRONG)
        paper.tick(LONGEST_PAUSE_SECONDS / 4)
    assert paper.killed() == []
    paper.die(2, 2, WRONG)
    paper.die(1, 0)
    end = paper.end()
    assert end is not None
    assert (end.code, WRONG.message in end.message, end.hint) == (6, True, WRONG.hint)


def test_while_others_serve_a_replacement_is_tried_until_the_kms_is_back() -> None:
    """A cause that may pass is no crash loop, however long it lasts; the pause grows to half a minute."""
    paper = Paper.serving(2)
    paper.die(2)
    for _ in range(3 * LOOP_DEATHS):
        paper.die(2, 1, AWAY)
        paper.pass_time(LONGEST_PAUSE_SECONDS + 1)
    assert paper.end() is None
    paper.die(2, 1, AWAY)
    assert pause(paper, 2) == LONGEST_PAUSE_SECONDS


def test_a_replacement_that_cannot_start_ends_it_when_nobody_serves() -> None:
    """As a server of one process would end: then whoever runs it sees why."""
    paper = Paper.serving(2)
    paper.die(1)
    paper.die(2)
    paper.die(1, 1, AWAY)
    paper.die(2, 1, AWAY)
    assert paper.end() == End(1, AWAY.message, AWAY.hint)


def test_a_worker_that_somebody_else_ended_is_replaced_without_alarm() -> None:
    """SIGTERM to a worker: it says that it stops, drains, ends with 0, and is no young death."""
    paper = Paper.serving(2, age=1)
    for _ in range(2 * LOOP_DEATHS):
        paper.say(2, Condition("stopping"))
        assert paper.crew.problem == ""
        paper.die(2, 0)
        paper.serve(2)
    assert paper.end() is None
    assert len(paper.spawned()) == 2 * LOOP_DEATHS


def test_a_silent_worker_is_killed() -> None:
    """Its ports still take connections, so it must go; what counts is ticks, not time that nobody saw."""
    paper = Paper.serving(2)
    paper.tick(3_600)
    assert paper.killed() == []
    for _ in range(SILENT_TICKS):
        paper.say(1, Condition(""))
        paper.tick(0.5)
    assert paper.killed() == [(2, signal.SIGKILL)]


def test_a_worker_that_alone_does_not_serve_is_replaced() -> None:
    """After half a minute, in order: SIGTERM, then SIGKILL when that takes too long."""
    paper = Paper.serving(2)
    for _ in range(int(UNWELL_SECONDS / 0.5)):
        paper.say(2, Condition("the disclosure worker has died"))
        paper.pass_time(0.5)
    assert paper.killed() == [(2, signal.SIGTERM)]
    paper.pass_time(STOP_SECONDS)
    assert paper.killed() == [(2, signal.SIGTERM), (2, signal.SIGKILL)]


def test_workers_that_all_do_not_serve_are_left_alone() -> None:
    """The database is away for all: new processes would not have it either."""
    paper = Paper.serving(2)
    for _ in range(int(4 * UNWELL_SECONDS / 0.5)):
        for number in (1, 2):
            paper.say(number, Condition("database: it does not answer"))
        paper.tick(0.5)
    assert paper.killed() == []


# --- health -------------------------------------------------------------------------------------------------


def test_a_worker_that_is_silent_spoils_the_health_until_it_speaks_or_is_gone() -> None:
    """It still takes connections, so calls hang there."""
    paper = Paper.serving(2)

    def silent_for(ticks: int) -> str:
        for _ in range(ticks):
            paper.say(1, Condition(""))
            paper.tick(0.5)
        return paper.crew.problem

    paper.say(2, Condition(""))
    assert silent_for(UNHEARD_TICKS - 1) == ""
    assert silent_for(1) == "worker 2: it is silent"
    paper.say(2, Condition(""))
    assert paper.crew.problem == ""
    assert silent_for(UNHEARD_TICKS) == "worker 2: it is silent"
    paper.die(2)
    assert paper.crew.problem == ""


def test_it_serves_while_every_worker_that_listens_does() -> None:
    """One that is gone or coming up gets no connections and does not count; one that cannot answer does."""
    paper = Paper.of(2)
    assert paper.crew.problem == "no worker serves"
    paper.tick()
    paper.serve(1)
    assert paper.crew.problem == ""
    paper.say(2, Ready(OLD, []))
    assert paper.crew.problem == ""
    paper.say(2, Condition("database: locked"))
    assert paper.crew.problem == "worker 2: database: locked"
    paper.die(2)
    assert paper.crew.problem == ""
    paper.die(1)
    assert paper.crew.problem == "no worker serves"


# --- stopping -----------------------------------------------------------------------------------------------


def test_a_stop_tells_all_at_once_and_ends_when_the_last_has_ended() -> None:
    """They drain side by side; the end is code 0."""
    paper = Paper.serving(3)
    paper.stop()
    assert paper.killed() == [(number, signal.SIGTERM) for number in (1, 2, 3)]
    assert paper.crew.problem == "stopping"
    for number in (2, 1):
        paper.die(number, 0)
        assert paper.end() is None
    paper.die(3, 0)
    assert paper.end() == End()
    assert paper.spawned() == []


def test_a_worker_that_hangs_in_a_stop_is_killed_and_told() -> None:
    """The stop is bounded, and its exit code says that it was not clean."""
    paper = Paper.serving(2)
    paper.stop()
    paper.die(1, 0)
    paper.tick(STOP_SECONDS)
    assert paper.killed()[-1] == (2, signal.SIGKILL)
    paper.die(2)
    end = paper.end()
    assert end is not None
    assert (end.code, end.message) == (1, "worker 2: it did not end in time and was killed")


@pytest.mark.parametrize("when", ["before the first", "in a pause"])
def test_a_stop_with_nobody_running_ends_at_once(when: str) -> None:
    """There is nobody to wait for, and nobody is started any more."""
    paper = Paper.of(1) if when == "before the first" else Paper.serving(1, age=1)
    if when == "in a pause":
        paper.die(1)
    paper.stop()
    assert paper.end() == End()
    paper.taken()
    paper.tick(60)
    assert paper.spawned() == []
