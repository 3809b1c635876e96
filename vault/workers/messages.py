"""What a supervisor and its workers say to each other: JSON lines over a socket pair.

Both ends are of one release, started by one command: a line that does not fit is a fault of the other end.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, get_args

LINE_BYTES: Final = 16 * 1024 * 1024
"""The longest line: a page of metrics."""


class GarbledError(Exception):
    """A line that is no message."""


# --- to a worker ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """The first line: serve with these settings (config.hand_over), and with the bundle of this hash; '' is
    the policy folder's, for the first worker."""

    number: int
    settings: dict[str, Any] = field(repr=False)
    bundle: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """Get ready to serve another bundle, that of the folder ('') or one that is kept; go on with the old."""

    round: int
    bundle: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Serve the bundle that was prepared, from now on."""

    bundle: str


@dataclass(frozen=True, slots=True)
class Measure:
    """Send the metrics."""


# --- from a worker --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """It listens and serves this bundle; `services` are the full names of its gRPC services."""

    bundle: str
    services: list[str]


@dataclass(frozen=True, slots=True)
class Condition:
    """Its health, several times in a second or two: what is wrong, '' while it serves."""

    problem: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """Could serve this bundle at once."""

    round: int
    bundle: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Cannot serve the bundle it was to prepare: the event of the log line and its fields."""

    round: int
    event: str
    fields: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Adopted:
    """Serves this bundle."""

    bundle: str


@dataclass(frozen=True, slots=True)
class Measured:
    """The metrics, as Prometheus reads them."""

    page: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot start: what the command line says of it, and the exit code. `passing`: for want of something
    that may come back by itself."""

    message: str
    hint: str
    code: int
    passing: bool


ToWorker = Start | Prepare | Adopt | Measure
FromWorker = Ready | Condition | Prepared | Refused | Adopted | Measured | Failed
_KINDS: Final[dict[str, type]] = {
    kind.__name__: kind for kind in (*get_args(ToWorker), *get_args(FromWorker))
}


def encode(message: ToWorker | FromWorker) -> bytes:
    """One line."""
    return json.dumps({"is": type(message).__name__, **asdict(message)}).encode() + b"\n"


def decode(line: bytes) -> Any:
    """The message of a line.

    Raises:
        GarbledError: it is none.
    """
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("is")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        # the cause may hold settings
        raise GarbledError("a line of the other process is no message") from None
