"""A short run of the whole thing, and the checker on histories that are known to be bad."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.chaos import aftermath, checker
from tests.chaos.checker import RULES, check
from tests.chaos.faults import Fault, schedule
from tests.chaos.history import Answer, Kind, load, save
from tests.chaos.run import run
from tests.chaos.story import CLOSED, OPEN, Story, good_story

SECONDS: Final = 30.0
SEED: Final = 5


@pytest.mark.xdist_group("chaos")
def test_three_servers_keep_every_promise_under_load_and_faults() -> None:
    """Every kind of fault, on a real PostgreSQL and a real KMS; `make chaos` does the same for longer."""
    done = run(SECONDS, SEED)
    assert done.good, f"{done.verdict}\n{done.table()}\nkept: {done.folder}\nagain: {done.again()}"
    assert set(done.faults) == set(Fault)
    for kind in Kind:
        assert done.calls[kind, Answer.DONE], f"no {kind} was made"
    assert done.calls[Kind.READ, Answer.DENIED]


def test_the_same_seed_gives_the_same_faults() -> None:
    """Another seed gives others; each begins with one of every kind."""
    one, same, other = (list(itertools.islice(schedule(seed), 40)) for seed in (1, 1, 2))
    assert one == same != other
    assert {step.fault for step in other[: len(Fault)]} == set(Fault)


# --- the checker ------------------------------------------------------------------------------------------


def lit(story: Story) -> None:
    """A written value, and the consent to read it."""
    story.change(Kind.WRITE)
    story.change(Kind.GRANT)


def released_after(kind: Kind) -> Callable[[Story], None]:
    """The value is read, by the clock alone, after it was taken away."""

    def spoil(story: Story) -> None:
        lit(story)
        before = story.read()
        story.change(kind)
        story.read(answer=Answer.DONE, value=before.value, version=before.version, reason="")

    return spoil


def released_after_one_of_two(story: Story) -> None:
    """A grant without a write does not bring back what was erased."""
    lit(story)
    before = story.read()
    story.change(Kind.ERASE)
    story.change(Kind.GRANT)
    story.read(value=before.value, version=before.version)


def replaced_value(story: Story) -> None:
    lit(story)
    before = story.read()
    story.change(Kind.WRITE)
    story.read(value=before.value, version=before.version)


def invented_value(story: Story) -> None:
    lit(story)
    story.read(value="nobody wrote this")


def forbidden_by_policy(story: Story) -> None:
    lit(story)
    story.read(bundle=CLOSED)


def policies_of_yesterday(story: Story) -> None:
    story.switch(CLOSED)
    story.read(bundle=OPEN)


def fault_inside(story: Story) -> None:
    story.edit(story.read(), answer=Answer.REFUSED, reason="INTERNAL", position=-1)


def damaged_data(story: Story) -> None:
    story.read(answer=Answer.DENIED, reason="integrity", value="", version=0)


def log_with_a_gap(story: Story) -> None:
    story.log_problems.append("the log's 3 records are not numbered 0 to 3")


def read_without_a_record(story: Story) -> None:
    story.edit(story.read(), record_id="record-of-nothing")


def record_of_another_outcome(story: Story) -> None:
    story.read()
    story.log[-1]["outcome"] = "error"


def lost_record(story: Story) -> None:
    """Acknowledged, and then lost with the end of the log."""
    story.change(Kind.WRITE)
    story.log.pop()


def shared_record(story: Story) -> None:
    first, second = story.read(), story.read()
    story.edit(second, position=first.position, record_id=first.record_id)


def change_made_twice(story: Story) -> None:
    change = story.change(Kind.WRITE)
    story.log.append({**story.log[-1], "id": "another"})
    story.ops.append(replace(change, start=story.now, end=story.now + 0.5, replayed=True))


def change_made_though_refused(story: Story) -> None:
    story.edit(story.change(Kind.WRITE), answer=Answer.REFUSED, position=-1)


def change_made_nowhere(story: Story) -> None:
    story.change(Kind.GRANT)
    del story.log[-1]["request"]


def denied_without_reason(story: Story) -> None:
    """The customer had consented: no moment explains the denial."""
    lit(story)
    story.read(answer=Answer.DENIED, reason="consent-withdrawn", value="", version=0)


def stale_within_the_log(story: Story) -> None:
    """The clock alone cannot tell: the grant that would allow it was only attempted."""
    lit(story)
    before = story.read()
    story.change(Kind.WITHDRAW)
    grant = story.change(Kind.GRANT)
    story.edit(grant, answer=Answer.UNKNOWN, position=-1)
    story.log[-1]["outcome"] = "error"
    story.read(value=before.value, version=before.version)


def out_of_order(story: Story) -> None:
    story.read()
    story.read()
    story.log[-1], story.log[-2] = story.log[-2], story.log[-1]
    for op, step in ((story.ops[-1], -1), (story.ops[-2], 1)):
        story.edit(op, position=op.position + step)


def version_given_twice(story: Story) -> None:
    story.change(Kind.WRITE)
    story.change(Kind.WRITE, version=story.state.version)


def seq_given_twice(story: Story) -> None:
    story.change(Kind.GRANT)
    story.change(Kind.WITHDRAW, seq=story.state.events)


def leaked_connections(story: Story) -> None:
    story.service_problems.append("server-1 has 40 connections")


BAD: Final[list[tuple[Any, Any]]] = [
    (released_after(Kind.WITHDRAW), checker.nothing_after_a_withdrawal),
    (released_after(Kind.OBJECT), checker.nothing_after_a_withdrawal),
    (released_after(Kind.ERASE), checker.nothing_after_a_withdrawal),
    (released_after_one_of_two, checker.nothing_after_a_withdrawal),
    (replaced_value, checker.nothing_older_than_acknowledged),
    (invented_value, checker.nothing_older_than_acknowledged),
    (forbidden_by_policy, checker.policies_bind_everywhere),
    (policies_of_yesterday, checker.policies_bind_everywhere),
    (fault_inside, checker.no_fault_in_an_answer),
    (damaged_data, checker.no_fault_in_an_answer),
    (log_with_a_gap, checker.log_is_whole),
    (read_without_a_record, checker.answers_are_recorded),
    (record_of_another_outcome, checker.answers_are_recorded),
    (lost_record, checker.answers_are_recorded),
    (shared_record, checker.positions_are_unique),
    (change_made_twice, checker.changes_happen_once),
    (change_made_though_refused, checker.changes_happen_once),
    (change_made_nowhere, checker.changes_happen_once),
    (denied_without_reason, checker.reads_fit_the_log),
    (stale_within_the_log, checker.reads_fit_the_log),
    (out_of_order, checker.order_is_kept),
    (version_given_twice, checker.versions_and_seqs_count),
    (seq_given_twice, checker.versions_and_seqs_count),
    (leaked_connections, checker.servers_are_well),
]


def test_a_good_history_breaks_no_rule() -> None:
    """The one that all bad ones grow from."""
    assert check(good_story().evidence).broken == {}


def test_a_repeated_change_may_have_been_made_at_its_first_try() -> None:
    """An erasure that nobody heard of is acknowledged when it is asked for again; what was written between
    the two stays."""
    story = good_story()
    lost = story.change(Kind.ERASE)
    lit(story)
    story.edit(lost, answer=Answer.UNKNOWN, reason="UNREACHABLE", record_id="", position=-1)
    story.ops.append(replace(lost, start=story.now, end=story.now + 0.5, replayed=True))
    story.read()
    assert check(story.evidence).broken == {}


@pytest.mark.parametrize(("spoil", "rule"), BAD, ids=lambda each: each.__name__)
def test_the_rule_finds_what_is_wrong(spoil: Callable[[Story], None], rule: checker.Rule) -> None:
    """One thing is spoilt in a good history, and the rule for it says so."""
    story = good_story()
    spoil(story)
    assert rule.__name__ in check(story.evidence).broken


def test_every_rule_is_seen_to_fail() -> None:
    """By one of the bad histories above."""
    assert {rule for _, rule in BAD} == set(RULES)


def test_what_was_under_way_at_the_same_time_may_go_either_way() -> None:
    """A read that starts before the withdrawal is acknowledged may still get the value, or nothing."""
    for withdrawn_first in (True, False):
        story = good_story()
        lit(story)
        granted = story.state
        withdrawal = story.change(Kind.WITHDRAW)
        if not withdrawn_first:
            # its snapshot was taken before, and its record came later
            read = story.read(answer=Answer.DONE, value=granted.value, version=granted.version, reason="")
        else:
            read = story.read()
        story.edit(read, start=withdrawal.start)
        assert check(story.evidence).broken == {}


def test_an_attempt_without_an_answer_may_have_happened() -> None:
    """A grant nobody answered counts if the log has it; a repeat of it is answered with the same record."""
    story = good_story()
    lit(story)
    story.change(Kind.WITHDRAW)
    grant = story.change(Kind.GRANT)
    story.edit(grant, answer=Answer.UNKNOWN, position=-1, seq=0)
    story.read()
    story.ops.append(replace(grant, start=story.now, end=story.now + 0.5, replayed=True))
    assert check(story.evidence).broken == {}


def test_histories_are_kept_as_they_are(tmp_path: Path) -> None:
    """What is saved after a failed run can be judged again."""
    ops = good_story().ops
    save(ops, tmp_path / "history.jsonl")
    assert load(tmp_path / "history.jsonl") == ops


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"event": "started", "level": "info"}', False),
        ('{"event": "not_serving", "level": "error", "problem": "the database does not answer"}', False),
        ('{"event": "disclosure_fault", "level": "error"}', True),
        ('{"event": "audit_integration_failed", "level": "critical"}', True),
        ('{"event": "half a li', False),
        ("Traceback (most recent call last):", True),
        ("datavault: error: the database does not answer", False),
    ],
)
def test_a_fault_in_a_server_s_own_log_is_seen(line: str, fault: bool) -> None:
    """What comes of a database that is away is none."""
    assert aftermath.is_fault(line) is fault
