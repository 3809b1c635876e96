"""What a rotation is doing, told with its progress (key_service.proto, `RewrapPhase`)."""

from enum import StrEnum


class Phase(StrEnum):
    """The phases of a rewrap and of a rotation of lookup keys, in order."""

    REWRAPPING = "rewrapping"
    WAITING = "waiting"
    CHECKING = "checking"
    DONE = "done"
