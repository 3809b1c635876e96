"""Fakes for tests of datavault and of what uses it. They implement the real protocols and warn when used."""

import hashlib
import threading
import warnings


class TestingFakeWarning(UserWarning):
    """A fake that belongs into tests alone is in use: the service must not run on it."""

    __test__ = False


class FakeClock:
    """A clock that stands still until told to advance. Implements `vault.domain.protocols.Clock`."""

    def __init__(self, now_microseconds: int = 1_700_000_000_000_000) -> None:
        _warn("FakeClock: time stands still")
        self._lock = threading.Lock()
        self._now = now_microseconds
        self._monotonic = 0.0

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds advanced since the clock was made."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both readings forward."""
        with self._lock:
            self._now += round(seconds * 1_000_000)
            self._monotonic += seconds


class FixedRandomness:
    """Repeatable bytes, for golden vectors. Implements `vault.domain.protocols.Randomness`.

    Gives the `tokens` in order, then SHAKE-256 of a counter: never twice the same, always the same in every
    run.

    Raises:
        ValueError: the next given token has another size than the one asked for.
    """

    def __init__(self, *tokens: bytes) -> None:
        _warn("FixedRandomness: every key and nonce is known beforehand")
        self._lock = threading.Lock()
        self._tokens = list(tokens)
        self._count = 0

    def token(self, size: int) -> bytes:
        """`size` bytes."""
        with self._lock:
            if self._tokens:
                if len(self._tokens[0]) != size:
                    raise ValueError(f"the next token has {len(self._tokens[0])} bytes, not {size}")
                return self._tokens.pop(0)
            self._count += 1
            return hashlib.shake_256(b"datavault fixed randomness %d" % self._count).digest(size)


def _warn(message: str) -> None:
    warnings.warn(message, TestingFakeWarning, stacklevel=3)
