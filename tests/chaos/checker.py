"""The promises, each a rule over what callers were told and what was found afterwards.

Rules of two kinds watch the same promise: some by the clock alone, which need nothing but the history; others
by the log, which is then a witness that has to agree with every answer.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from math import inf
from typing import Any, Final

from tests.chaos.history import CHANGES, EVENTS, Answer, Kind, Op
from tests.chaos.model import ACTIONS, Customer, customers, effects

_SHOWN: Final = 5
_RESTORES: Final = {
    Kind.WITHDRAW: (Kind.GRANT,),
    Kind.OBJECT: (Kind.LIFT, Kind.ERASE),
    Kind.ERASE: (Kind.GRANT, Kind.WRITE),
}
"""What must come after each, in any order, before there is anything to read again. An objection ends when it
is lifted or with the subject; an erasure takes both the value and the consent."""
_EITHER: Final = frozenset({Kind.OBJECT})


@dataclass
class Evidence:
    """All that a verdict rests on. `log` holds the records by position, `open_bundle` is the hash of the
    policies under which the attribute may be read."""

    ops: Sequence[Op]
    log: Sequence[Mapping[str, Any]]
    open_bundle: str
    log_problems: Sequence[str] = ()
    """Gaps, what `audit verify` said, and whether the log extends what is outside."""
    service_problems: Sequence[str] = ()
    """Ends that nobody asked for, faults in the servers' own logs, memory, connections left over."""

    @cached_property
    def of_customer(self) -> dict[str, list[Op]]:
        found: dict[str, list[Op]] = defaultdict(list)
        for op in self.ops:
            found[op.customer].append(op)
        return found

    @cached_property
    def states(self) -> dict[str, Customer]:
        return customers(self.ops, self.log)

    @cached_property
    def effects(self) -> dict[str, list[int]]:
        return effects(self.ops, self.log)

    @cached_property
    def acknowledged(self) -> "Latest":
        """By when which position had been told to somebody."""
        return Latest((op.end, op.position) for op in self.ops if op.position >= 0)


class Latest:
    """The largest value of all whose time is before a given one. Made of (time, value)."""

    def __init__(self, pairs: Iterable[tuple[float, float]]) -> None:
        ordered = sorted(pairs)
        self._times = [time for time, _ in ordered]
        self._largest = list(accumulate((value for _, value in ordered), max))

    def before(self, time: float) -> float:
        """-inf where there is none."""
        index = bisect_left(self._times, time)
        return self._largest[index - 1] if index else -inf


def _reads(ops: Iterable[Op]) -> Iterator[Op]:
    """Those that were answered, with or without a value."""
    return (op for op in ops if op.kind is Kind.READ and op.answer in (Answer.DONE, Answer.DENIED))


def _done(ops: Iterable[Op], *kinds: Kind) -> Iterator[Op]:
    return (op for op in ops if op.kind in kinds and op.answer is Answer.DONE)


# --- by the clock alone -----------------------------------------------------------------------------------


def nothing_after_a_withdrawal(evidence: Evidence) -> Iterator[str]:
    """A read that starts after a withdrawal, objection or erasure was acknowledged releases nothing, unless
    what takes it back may have come between."""
    for ops in evidence.of_customer.values():
        asked = _first_asked(ops)
        for negative, restorers in _RESTORES.items():
            # of those acknowledged before a read, the one that began last leaves least room
            latest = Latest((op.end, asked[op.request_id]) for op in _done(ops, negative))
            back = {kind: _may_have_happened(ops, kind) for kind in restorers}
            how_many = any if negative in _EITHER else all
            for read in _done(ops, Kind.READ):
                began = latest.before(read.start)
                if began > -inf and not how_many(each.before(read.end) > began for each in back.values()):
                    yield f"released after an acknowledged {negative}: {read}"


def _first_asked(ops: Iterable[Op]) -> dict[str, float]:
    """When each request was made for the first time: a repeat is answered by what that try may have done."""
    asked: dict[str, float] = {}
    for op in ops:
        asked[op.request_id] = min(op.start, asked.get(op.request_id, inf))
    return asked


def _may_have_happened(ops: Iterable[Op], kind: Kind) -> Latest:
    """By when one had begun, and until when it may have happened."""
    return Latest(
        (op.start, op.end if op.answer is Answer.DONE else inf)
        for op in ops
        if op.kind is kind and op.answer in (Answer.DONE, Answer.UNKNOWN)
    )


def nothing_older_than_acknowledged(evidence: Evidence) -> Iterator[str]:
    """A read gets a value that was written, and none that an acknowledged write had replaced before."""
    for ops in evidence.of_customer.values():
        written: dict[str, tuple[float, float]] = {}
        for op in ops:
            if op.kind is Kind.WRITE and op.answer in (Answer.DONE, Answer.UNKNOWN):
                first, last = written.get(op.value, (inf, inf))
                done = op.end if op.answer is Answer.DONE else inf
                written[op.value] = min(first, op.start), min(last, done)
        newest = Latest((op.end, written[op.value][0]) for op in _done(ops, Kind.WRITE))
        for read in _done(ops, Kind.READ):
            begun, ended = written.get(read.value, (inf, inf))
            if begun > read.end:
                yield f"a value that was not written: {read}"
            elif newest.before(read.start) > ended:
                yield f"a value that was replaced before: {read}"


def policies_bind_everywhere(evidence: Evidence) -> Iterator[str]:
    """Only the policies with the rule let the value be read; and once every server has other policies, these
    decide."""
    switches = sorted(_done(evidence.ops, Kind.SWITCH), key=lambda op: op.end)
    for read in _reads(evidence.ops):
        if read.answer is Answer.DONE and read.bundle != evidence.open_bundle:
            yield f"released under policies that forbid it: {read}"
    ends = [op.end for op in switches]
    begins = [op.start for op in switches[1:]] + [inf]
    for read in _reads(evidence.ops):
        index = bisect_left(ends, read.start) - 1
        if index >= 0 and read.end < begins[index] and read.bundle != switches[index].value:
            yield f"decided by policies that are no more: {read}"


def no_fault_in_an_answer(evidence: Evidence) -> Iterator[str]:
    """Nobody is told of a fault inside, or of damaged data; and no request id is taken for another's."""
    bad = {"INTERNAL", "INTEGRITY", "integrity", "REQUEST_ID_REUSED", "UNREADABLE_ANSWER", "UNRECOGNISED"}
    return (f"{op.reason}: {op}" for op in evidence.ops if op.reason in bad)


# --- by the log -------------------------------------------------------------------------------------------


def log_is_whole(evidence: Evidence) -> Iterator[str]:
    """Gapless, verified, and an extension of what is outside."""
    return iter(evidence.log_problems)


def answers_are_recorded(evidence: Evidence) -> Iterator[str]:
    """What an answer says of its record is so: it stands there, and says the same."""
    for op in evidence.ops:
        if op.answer not in (Answer.DONE, Answer.DENIED) or op.kind is Kind.SWITCH:
            continue
        record = evidence.log[op.position] if 0 <= op.position < len(evidence.log) else {}
        outcome = "authorised" if op.answer is Answer.DONE else "denied"
        wanted = {"id": op.record_id, "action": ACTIONS[op.kind], "outcome": outcome}
        if op.kind is Kind.READ:
            wanted["policy"] = op.bundle
        if {name: record.get(name) for name in wanted} != wanted:
            yield f"its record is not in the log: {op}"


def positions_are_unique(evidence: Evidence) -> Iterator[str]:
    """No two calls share a record; all answers to one request name the same one."""
    owners: dict[int, Op] = {}
    for op in evidence.ops:
        if op.position < 0:
            continue
        owner = owners.setdefault(op.position, op)
        if owner is not op and not (op.request_id and op.request_id == owner.request_id):
            yield f"one record for two calls: {owner} and {op}"


def changes_happen_once(evidence: Evidence) -> Iterator[str]:
    """However often a request is sent it happens at most once, exactly once where it was acknowledged, and
    not at all where it was refused at the first attempt."""
    attempts: dict[str, list[Op]] = defaultdict(list)
    for op in evidence.ops:
        if op.kind in CHANGES:
            attempts[op.request_id].append(op)
    for request, ops in attempts.items():
        places = evidence.effects[request]
        acknowledged = [op.position for op in ops if op.answer is Answer.DONE]
        if len(places) > 1:
            yield f"{request} happened {len(places)} times: at {places}"
        elif acknowledged and places != sorted(set(acknowledged)):
            yield f"{request} was acknowledged at {acknowledged}, and happened at {places}"
        elif places and all(op.answer is Answer.REFUSED for op in ops):
            yield f"{request} was refused, and happened at {places}"


def reads_fit_the_log(evidence: Evidence) -> Iterator[str]:
    """Every answer to a read, denials too, is that of some moment between the last record that anybody knew
    of when it started, and its own."""
    for read in _reads(evidence.ops):
        customer = evidence.states.get(read.customer, Customer())
        known = int(max(-1, evidence.acknowledged.before(read.start)))
        seen = customer.between(known, read.position)
        open_ = read.bundle == evidence.open_bundle
        if not any(state.answers(read, open_=open_) for state in seen):
            yield f"{read} fits to none of {list(seen)}"


def order_is_kept(evidence: Evidence) -> Iterator[str]:
    """What was acknowledged before another call began stands before it in the log."""
    for op in evidence.ops:
        first = not op.replayed and op.position >= 0
        if first and evidence.acknowledged.before(op.start) >= op.position:
            yield f"its record stands before one that was acknowledged earlier: {op}"


def versions_and_seqs_count(evidence: Evidence) -> Iterator[str]:
    """Each write of a customer's life has the next version; events have ever higher seqs."""
    told = {op.request_id: op for op in _done(evidence.ops, *CHANGES)}
    for customer in evidence.states.values():
        seqs: dict[int, list[int]] = defaultdict(list)
        for change, state in zip(customer.changes, customer.states[1:], strict=True):
            op = told.get(change.request_id)
            if op is None:
                continue
            if op.kind is Kind.WRITE and op.version != state.version:
                yield f"version {state.version} was due: {op}"
            if op.kind in EVENTS:
                seqs[state.life].append(op.seq)
        for life in seqs.values():
            if any(later <= earlier for earlier, later in pairwise(life)):
                yield f"seqs of a customer do not rise: {life}"


# --- the servers ------------------------------------------------------------------------------------------


def servers_are_well(evidence: Evidence) -> Iterator[str]:
    """None ended by itself, leaked a connection, grew without bound, or logged a fault."""
    return iter(evidence.service_problems)


Rule = Callable[[Evidence], Iterator[str]]
RULES: Final[Sequence[Rule]] = (
    nothing_after_a_withdrawal,
    nothing_older_than_acknowledged,
    policies_bind_everywhere,
    no_fault_in_an_answer,
    log_is_whole,
    answers_are_recorded,
    positions_are_unique,
    changes_happen_once,
    reads_fit_the_log,
    order_is_kept,
    versions_and_seqs_count,
    servers_are_well,
)


@dataclass
class Verdict:
    """What each rule found, by its name; a rule that is kept has no entry."""

    broken: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = []
        for name, found in self.broken.items():
            lines.append(f"{name}: {len(found)}")
            lines += [f"    {each}" for each in found[:_SHOWN]]
        return "\n".join(lines) or "every promise was kept"


def check(evidence: Evidence) -> Verdict:
    """Apply all rules."""
    found = {rule.__name__: list(rule(evidence)) for rule in RULES}
    return Verdict({name: problems for name, problems in found.items() if problems})
