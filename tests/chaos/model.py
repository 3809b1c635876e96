"""What is true of one customer after each record of the log, and which answers of a read fit to that.

The log gives every change its place; what each changed is known from the history, by its request id.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.chaos.history import CHANGES, Answer, Kind, Op

ACTIONS: Final = {
    Kind.READ: "read",
    Kind.WRITE: "write",
    Kind.GRANT: "consent.record",
    Kind.WITHDRAW: "consent.withdraw",
    Kind.OBJECT: "subject.object",
    Kind.LIFT: "subject.object",
    Kind.ERASE: "subject.erase",
}
"""What the log calls them."""


@dataclass(frozen=True, slots=True)
class State:
    """One customer number at one moment. `life` counts the subjects it has had, `events` those of the ledger
    of this one."""

    exists: bool = False
    consent: str = "missing"
    objected: bool = False
    value: str = ""
    version: int = 0
    events: int = 0
    life: int = 0

    def after(self, op: Op) -> "State":
        """The state once this change has happened."""
        one_more = self.events + 1
        match op.kind:
            case Kind.WRITE:
                return replace(self, exists=True, value=op.value, version=self.version + 1)
            case Kind.GRANT:
                return replace(self, exists=True, consent="given", events=one_more)
            case Kind.WITHDRAW:
                return replace(self, consent="withdrawn", events=one_more)
            case Kind.OBJECT | Kind.LIFT:
                return replace(self, objected=op.kind is Kind.OBJECT, events=one_more)
            case _:
                return State(life=self.life + 1)

    def answers(self, read: Op, *, open_: bool) -> bool:
        """Whether a read of this state may end like that, under policies with or without the rule."""
        lawful = self.consent == "given" and not self.objected
        if read.answer is Answer.DONE:
            same = (self.value, self.version) == (read.value, read.version)
            return open_ and lawful and self.version > 0 and same
        fits = {
            "not-permitted": not open_,
            "not-available": not self.exists,
            "consent-missing": self.exists and self.consent == "missing",
            "consent-withdrawn": self.consent == "withdrawn",
            "objected": self.objected,
            "not-set": lawful and self.version == 0,
            # the KMS may be too slow for a call's deadline; no data is then the right answer
            "key-unavailable": True,
        }
        return fits.get(read.reason, False)


@dataclass
class Customer:
    """All states of one customer; `positions[i]` is the record that led from `states[i]` to the next one."""

    states: list[State] = field(default_factory=lambda: [State()])
    positions: list[int] = field(default_factory=list)
    changes: list[Op] = field(default_factory=list)

    def between(self, acknowledged: int, recorded: int) -> Sequence[State]:
        """The states that a read may have seen whose caller had all records up to `acknowledged`, and whose
        own record stands at `recorded`."""
        first = bisect_right(self.positions, acknowledged)
        last = bisect_left(self.positions, recorded)
        return self.states[first : max(first, last) + 1]


def is_effect(record: Mapping[str, Any]) -> bool:
    """Whether a record tells of a change that happened, and not of a refusal or a repeat."""
    return record["outcome"] == "authorised" and "replay_of" not in record.get("detail", record)


def effects(ops: Iterable[Op], log: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """The positions at which each request of the history had an effect."""
    known = {op.request_id: op.kind for op in ops if op.kind in CHANGES}
    found: dict[str, list[int]] = {request: [] for request in known}
    for position, record in enumerate(log):
        kind = known.get(record.get("request", ""))
        if kind is not None and record["action"] == ACTIONS[kind] and is_effect(record):
            found[record["request"]].append(position)
    return found


def customers(ops: Sequence[Op], log: Sequence[Mapping[str, Any]]) -> dict[str, Customer]:
    """Every customer's states, replayed in the order of the log."""
    by_request = {op.request_id: op for op in ops if op.kind in CHANGES}
    placed = sorted(
        (position, request) for request, positions in effects(ops, log).items() for position in positions
    )
    found: dict[str, Customer] = defaultdict(Customer)
    for position, request in placed:
        op = by_request[request]
        customer = found[op.customer]
        customer.positions.append(position)
        customer.changes.append(op)
        customer.states.append(customer.states[-1].after(op))
    return found
