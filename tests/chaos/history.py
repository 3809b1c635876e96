"""What callers asked and were told: one entry per attempt, in one process and so by one clock."""

import dataclasses
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final


class Kind(StrEnum):
    """What was asked."""

    READ = "read"
    WRITE = "write"
    GRANT = "grant"
    WITHDRAW = "withdraw"
    OBJECT = "object"
    LIFT = "lift"
    ERASE = "erase"
    SWITCH = "switch"
    """Of the policies, on all servers: from before the first file changed until the last server answered that
    it has the bundle that `value` names."""


class Answer(StrEnum):
    """How it ended, as the caller sees it."""

    DONE = "done"
    """A change was made, or a read released its value."""
    DENIED = "denied"
    """A read that released nothing, for `reason`."""
    REFUSED = "refused"
    """An error that says that nothing was changed."""
    UNKNOWN = "unknown"
    """No answer, or one that leaves open whether it happened."""


CHANGES: Final = frozenset({Kind.WRITE, Kind.GRANT, Kind.WITHDRAW, Kind.OBJECT, Kind.LIFT, Kind.ERASE})
EVENTS: Final = frozenset({Kind.GRANT, Kind.WITHDRAW, Kind.OBJECT, Kind.LIFT})


@dataclass(frozen=True, slots=True)
class Op:
    """One attempt of one call. `start` and `end` are seconds of the monotonic clock.

    A change that is tried again keeps its `request_id`. `value` is what a write sets or a read got: a tag
    that no other write has; `version` and `seq` are those of the answer; `bundle` the policies that decided.
    """

    kind: Kind
    customer: str
    server: int
    start: float
    end: float
    answer: Answer
    request_id: str = ""
    record_id: str = ""
    position: int = -1
    value: str = ""
    version: int = 0
    seq: int = 0
    bundle: str = ""
    reason: str = ""
    replayed: bool = False

    def __str__(self) -> str:
        times = f"{self.start:.3f} to {self.end:.3f}"
        told = " ".join(
            filter(None, (self.value, f"version {self.version}" * bool(self.version), self.reason))
        )
        return (
            f"[{self.kind} {self.customer} at server {self.server}, {times}: {self.answer} {told}"
            f" record {self.position} {self.request_id}{' again' * self.replayed}]"
        )


class History:
    """Grows from many threads."""

    def __init__(self) -> None:
        self._ops: list[Op] = []
        self._guard = threading.Lock()

    def add(self, op: Op) -> None:
        with self._guard:
            self._ops.append(op)

    @property
    def ops(self) -> list[Op]:
        """All entries so far, in the order in which they ended."""
        with self._guard:
            return list(self._ops)


def save(ops: Iterable[Op], path: Path) -> None:
    """One JSON object per line."""
    with path.open("w", encoding="utf-8") as file:
        for op in ops:
            file.write(json.dumps(dataclasses.asdict(op)) + "\n")


def load(path: Path) -> list[Op]:
    """What `save` wrote."""
    with path.open(encoding="utf-8") as file:
        return [_op(json.loads(line)) for line in file]


def _op(document: dict[str, object]) -> Op:
    known = {"kind": Kind(str(document["kind"])), "answer": Answer(str(document["answer"]))}
    return Op(**{**document, **known})  # type: ignore[arg-type]
