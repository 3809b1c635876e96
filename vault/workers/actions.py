"""What the crew asks the supervisor to do."""

from collections.abc import Iterator
from dataclasses import dataclass

from vault.workers.messages import ToWorker


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process for this worker with this bundle ('': the folder's)."""

    number: int
    bundle: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to the worker."""

    number: int
    message: ToWorker


@dataclass(frozen=True, slots=True)
class Kill:
    """Send this signal to the worker."""

    number: int
    signal: int


@dataclass(frozen=True, slots=True)
class Say:
    """Write a line into the log."""

    level: str
    event: str
    fields: dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Announce:
    """Every worker serves, for the first time."""


@dataclass(frozen=True, slots=True)
class End:
    """The service has ended; code 0 is as it was told to."""

    code: int = 0
    message: str = ""
    hint: str = ""


Action = Spawn | Tell | Kill | Say | Announce | End
Actions = Iterator[Action]
