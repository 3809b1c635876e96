"""What becomes of a row: it is ready to be sent, or it is rejected with reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from vault.cli.importing.rows import Row
from vault.domain.values import Value

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is rejected: the column ('' for the whole row) and what would be right, never a value."""

    column: str
    reason: str

    def __str__(self) -> str:
        return f"column {self.column!r}: {self.reason}" if self.column else self.reason


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that does not go in."""

    row: Row
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Ready(Generic[T]):
    """A row that can be sent."""

    row: Row
    item: T


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """What one row says of one customer. Shows nothing in repr."""

    customer_number: str
    values: Mapping[str, Value]
    jurisdictions: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class ConsentRecord:
    """One consent event of one customer. Shows nothing in repr."""

    customer_number: str
    purpose: str
    state: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's answer to one item; `reason` is '' when it is in, else an ErrorReason."""

    reason: str = ""
    message: str = ""
    replayed: bool = False


@dataclass(slots=True)
class Totals:
    """Counts of one transfer; read = sent + earlier + rejected when it ran to its end."""

    read: int = 0
    sent: int = 0
    replayed: int = 0
    earlier: int = 0
    rejected: int = 0
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)

    def count(self, faults: tuple[Fault, ...]) -> None:
        self.rejected += 1
        for fault in faults:
            key = (fault.column, fault.reason)
            self.reasons[key] = self.reasons.get(key, 0) + 1
