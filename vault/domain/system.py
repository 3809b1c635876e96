"""The real clock and randomness, and ids made of them."""

import os
import time
from collections import deque
from typing import Final

from vault.domain.protocols import Clock, Randomness

_RANDOM_BYTES: Final = 10
_DRAWN: Final = 256


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        return time.monotonic()


class SystemRandomness:
    """The operating system's CSPRNG."""

    def token(self, size: int) -> bytes:
        return os.urandom(size)


class RecordIds:
    """UUIDv7 ids, their random bits drawn many at a time.

    A system call lets go of the interpreter lock, and under load another thread then holds it for
    milliseconds: one call per id cost more than all else that a record needs. Thread-safe; not for keys.
    """

    def __init__(self, clock: Clock, randomness: Randomness) -> None:
        self._clock = clock
        self._randomness = randomness
        self._drawn: deque[bytes] = deque()

    def next(self) -> str:
        """A fresh id."""
        while True:
            try:
                return _uuid7(self._clock.now(), self._drawn.popleft())
            except IndexError:
                drawn = self._randomness.token(_RANDOM_BYTES * _DRAWN)
                self._drawn.extend(
                    drawn[start : start + _RANDOM_BYTES] for start in range(0, len(drawn), _RANDOM_BYTES)
                )


def uuid7(clock: Clock, randomness: Randomness) -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random bits."""
    return _uuid7(clock.now(), randomness.token(_RANDOM_BYTES))


def _uuid7(microseconds: int, token: bytes) -> str:
    random = int.from_bytes(token, "big")
    bits = (microseconds // 1_000 & (1 << 48) - 1) << 80
    bits |= 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    bits |= 0b10 << 62 | random & (1 << 62) - 1
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
