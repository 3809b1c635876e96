"""What a check of `datavault doctor` found."""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How a check came out."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it came out, and what to do ('' when nothing, or when the detail says it)."""

    check: str
    health: Health
    detail: str
    remedy: str = ""
