"""Good histories with their logs, made call by call, for tests that then spoil one thing in them."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.chaos.checker import Evidence
from tests.chaos.history import EVENTS, Answer, Kind, Op
from tests.chaos.model import ACTIONS, State

OPEN: Final = "open"
CLOSED: Final = "closed"
_OUTCOMES: Final = {Answer.DONE: "authorised", Answer.DENIED: "denied"}


@dataclass
class Story:
    """One customer; each call lasts half a second, and the next one begins half a second later."""

    ops: list[Op] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    state: State = field(default_factory=State)
    log_problems: list[str] = field(default_factory=list)
    service_problems: list[str] = field(default_factory=list)

    @property
    def now(self) -> float:
        return float(len(self.ops))

    def change(self, kind: Kind, **fields: Any) -> Op:
        """A change that is made, recorded and acknowledged."""
        number = len(self.ops)
        made = self._op(kind, request_id=f"request-{number}", answer=Answer.DONE)
        made = replace(made, value=f"v{number}" if kind is Kind.WRITE else "")
        self.state = self.state.after(made)
        told = {"version": self.state.version} if kind is Kind.WRITE else {}
        told |= {"seq": self.state.events} if kind in EVENTS else {}
        return self._add(replace(made, **{**told, **fields}))

    def read(self, **fields: Any) -> Op:
        """A read that is answered as it should be, unless `fields` say otherwise."""
        if self.state.consent == "given" and not self.state.objected:
            told = {"answer": Answer.DONE, "value": self.state.value, "version": self.state.version}
        else:
            reason = "objected" if self.state.objected else f"consent-{self.state.consent}"
            told = {"answer": Answer.DENIED, "reason": reason if self.state.exists else "not-available"}
        return self._add(self._op(Kind.READ, **{"bundle": OPEN, **told, **fields}))

    def switch(self, bundle: str) -> Op:
        op = self._op(Kind.SWITCH, answer=Answer.DONE, value=bundle, customer="")
        self.ops.append(op)
        return op

    def edit(self, op: Op, **fields: Any) -> None:
        """Tell an earlier call otherwise; the log stays as it is."""
        self.ops[self.ops.index(op)] = replace(op, **fields)

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.ops, self.log, OPEN, self.log_problems, self.service_problems)

    def _op(self, kind: Kind, *, answer: Answer, customer: str = "ana", **fields: Any) -> Op:
        return Op(kind, customer, 0, self.now, self.now + 0.5, answer, **fields)

    def _add(self, op: Op) -> Op:
        op = replace(op, record_id=f"record-{len(self.log)}", position=len(self.log))
        record = {"id": op.record_id, "action": ACTIONS[op.kind], "outcome": _OUTCOMES[op.answer]}
        record |= {"policy": op.bundle} if op.kind is Kind.READ else {"request": op.request_id}
        self.log.append(record)
        self.ops.append(op)
        return op


def good_story() -> Story:
    """Everything that can happen, as it should."""
    story = Story()
    story.switch(OPEN)
    story.read()
    for kind in (Kind.WRITE, Kind.GRANT, Kind.WITHDRAW, Kind.GRANT, Kind.OBJECT, Kind.LIFT, Kind.WRITE):
        story.change(kind)
        story.read()
    story.change(Kind.ERASE)
    story.read()
    story.change(Kind.WRITE)
    story.change(Kind.GRANT)
    story.read()
    story.switch(CLOSED)
    story.read(bundle=CLOSED, answer=Answer.DENIED, reason="not-permitted", value="", version=0)
    story.switch(OPEN)
    story.read()
    return story
