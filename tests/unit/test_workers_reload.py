"""Other policies in all workers or in none: the supervisor's part, with time that is told."""

import signal

import pytest

from tests.support.workers import NEW, OLD, Paper
from vault.workers.messages import Adopt, Adopted, Condition, Prepare, Prepared, Refused
from vault.workers.reload import ADOPT_SECONDS, PREPARE_SECONDS

REFUSED: dict[str, str | int] = {"problems": 1, "first": "policy.csv:3: no such purpose"}


def prepared(count: int = 2) -> Paper:
    """All but the last worker have prepared NEW."""
    paper = Paper.serving(count)
    turn = paper.reload()
    for number in range(1, count):
        paper.say(number, Prepared(turn, NEW))
    return paper


def test_all_prepare_before_any_adopts() -> None:
    """One reads the folder, the others take the bundle of its hash, and only then all are told to switch."""
    paper = Paper.serving(3)
    turn = paper.reload()
    assert paper.told() == [(1, Prepare(turn, ""))]
    paper.taken()
    paper.say(1, Prepared(turn, NEW))
    assert paper.told() == [(2, Prepare(turn, NEW)), (3, Prepare(turn, NEW))]
    paper.taken()
    paper.say(3, Prepared(turn, NEW))
    assert paper.told() == []
    paper.say(2, Prepared(turn, NEW))
    assert paper.told() == [(number, Adopt(NEW)) for number in (1, 2, 3)]
    paper.taken()
    for number in (1, 2, 3):
        assert paper.said() == []
        paper.say(number, Adopted(NEW))
    assert paper.said() == ["policy_loaded"]
    assert {member.bundle for member in paper.crew.members.values()} == {NEW}


@pytest.mark.parametrize("who", [1, 2])
def test_one_refusal_leaves_all_as_they_are(who: int) -> None:
    """Whether the folder is wrong or one worker cannot have the keys: one line, and nobody switches."""
    paper = Paper.serving(2)
    turn = paper.reload()
    if who == 2:
        paper.say(1, Prepared(turn, NEW))
    paper.say(who, Refused(turn, "policy_refused", dict(REFUSED)))
    assert paper.said() == ["policy_refused"]
    assert Adopt(NEW) not in [message for _, message in paper.told()]
    assert paper.crew.bundle == OLD
    paper.die(2)
    assert paper.spawned() == [(2, OLD)]


def test_a_worker_that_does_not_answer_ends_the_round() -> None:
    """After a minute; what it says later does not count."""
    paper = prepared()
    paper.pass_time(PREPARE_SECONDS)
    assert paper.said() == ["policy_not_loaded"]
    paper.say(2, Prepared(1, NEW))
    assert (paper.crew.bundle, Adopt(NEW) in [message for _, message in paper.told()]) == (OLD, False)


def test_an_answer_to_an_earlier_round_does_not_count() -> None:
    """The bundle that is adopted is the one that this round prepared."""
    paper = prepared()
    paper.pass_time(PREPARE_SECONDS)
    turn = paper.reload()
    paper.say(1, Prepared(turn - 1, "stale"))
    paper.say(1, Prepared(turn, NEW))
    paper.say(2, Refused(turn - 1, "policy_refused", {}))
    paper.say(2, Prepared(turn, NEW))
    assert paper.crew.bundle == NEW


def test_a_worker_that_dies_before_the_switch_begins_the_round_anew() -> None:
    """Its replacement starts with the bundle in force, and then all prepare again: the signal is not lost."""
    paper = prepared()
    paper.taken()
    paper.die(2)
    assert paper.told() == [(1, Prepare(2, ""))]
    paper.say(1, Prepared(2, NEW))
    paper.say(1, Adopted(NEW))
    assert paper.spawned() == [(2, NEW)]


def test_a_worker_that_dies_in_the_switch_comes_back_with_the_new_bundle() -> None:
    """The bundle is in force from the moment that all had prepared it."""
    paper = prepared()
    paper.say(2, Prepared(1, NEW))
    paper.die(2)
    assert paper.spawned() == []
    paper.say(1, Adopted(NEW))
    assert paper.spawned() == [(2, NEW)]
    assert "policy_loaded" in paper.said()


def test_a_worker_that_does_not_confirm_the_switch_is_killed() -> None:
    """It may serve the old bundle: it must not go on."""
    paper = prepared()
    paper.say(2, Prepared(1, NEW))
    paper.say(1, Adopted(NEW))
    paper.pass_time(ADOPT_SECONDS)
    assert paper.killed() == [(2, signal.SIGKILL)]
    paper.die(2)
    assert paper.spawned() == [(2, NEW)]


def test_a_reload_waits_for_a_worker_that_is_starting() -> None:
    """It was handed the bundle in force: it must be up before that can change."""
    paper = Paper.serving(2)
    paper.die(2)
    paper.reload()
    assert paper.told() == []
    paper.serve(2)
    assert paper.told() == [(1, Prepare(1, ""))]


def test_nobody_starts_while_a_reload_is_under_way() -> None:
    """A worker that is to be replaced waits until it is clear what is in force."""
    paper = Paper.serving(3)
    paper.reload()
    paper.die(3)
    paper.tick(1)
    assert paper.spawned() == []


def test_a_reload_before_the_first_worker_serves_is_not_lost() -> None:
    """SIGHUP at any moment is answered."""
    paper = Paper.of(2)
    paper.reload()
    paper.tick()
    paper.serve(1)
    assert paper.told() == [(1, Prepare(1, ""))]


def test_two_signals_make_two_rounds() -> None:
    """What the folder says when the last signal came is what counts."""
    paper = prepared(2)
    paper.reload()
    paper.say(2, Prepared(1, NEW))
    paper.say(1, Adopted(NEW))
    paper.taken()
    paper.say(2, Adopted(NEW))
    assert paper.told() == [(1, Prepare(2, ""))]


def test_a_worker_that_leaves_takes_no_part() -> None:
    """It answers its last calls with the old bundle, and nobody waits for it."""
    paper = Paper.serving(2)
    paper.say(2, Condition("stopping"))
    turn = paper.reload()
    paper.say(1, Prepared(turn, NEW))
    assert paper.told() == [(1, Prepare(turn, "")), (1, Adopt(NEW))]
