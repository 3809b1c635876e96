"""The real clock and randomness, and ids made of them."""

import os
import time
import uuid

from vault.domain.protocols import Clock, Randomness


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


def uuid7(clock: Clock, randomness: Randomness) -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random bits."""
    milliseconds = clock.now() // 1_000
    random = int.from_bytes(randomness.token(10), "big")
    bits = (milliseconds & (1 << 48) - 1) << 80
    bits |= 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    bits |= 0b10 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=bits))
