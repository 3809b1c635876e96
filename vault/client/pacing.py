"""How often and how long the client tries."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc

from vault.client.errors import ClientConfigurationError, DatavaultClientError, InvalidArgument
from vault.client.words import ErrorReason

STREAM_SECONDS: Final = 3_600.0
"""No stream lasts longer; a batch without a timeout of its own goes on with the next stream."""
_BREAKS: Final = frozenset(
    {ErrorReason.UNREACHABLE, ErrorReason.SHUTTING_DOWN, ErrorReason.DEADLINE_EXCEEDED}
)
_RANDOM: Final = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Tries on UNAVAILABLE and on calls that a server dropped (CANCELLED), and on nothing else.

    `attempts` (1 to 5, gRPC's own bound) counts the first one; for a batch, those in a row that brought no
    result. The wait doubles from `first_seconds` to `longest_seconds`, with jitter.
    """

    attempts: int = 4
    first_seconds: float = 0.1
    longest_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 5:
            raise ClientConfigurationError(["attempts must be 1 to 5"])
        if not 0 <= self.first_seconds <= self.longest_seconds < math.inf:
            raise ClientConfigurationError(["first_seconds must be 0 or more, and at most longest_seconds"])


def checked_timeout(seconds: float) -> float:
    """The timeout, if it is one. Raises InvalidArgument."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise InvalidArgument.of("timeout", "must be a positive number of seconds")
    return float(seconds)


class Pace:
    """The time and the attempts one batch has left, over all its streams.

    Ask `stream_seconds` before each stream, tell `progressed` at each result, and after a break wait as long
    as `wait_after` says, unless it raises the failure because it is final.
    """

    def __init__(
        self,
        retry: RetryPolicy,
        timeout: float | None,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = _RANDOM.uniform,
    ) -> None:
        self._retry = retry
        self._monotonic = monotonic
        self._uniform = uniform
        self._end = math.inf if timeout is None else monotonic() + checked_timeout(timeout)
        self._failures = 0

    def stream_seconds(self) -> float:
        """The deadline of the next stream; 0 when the time is up."""
        return min(STREAM_SECONDS, max(0.0, self._end - self._monotonic()))

    def progressed(self) -> None:
        """A result came: the attempts count anew."""
        self._failures = 0

    def wait_after_break(self, failure: DatavaultClientError) -> float:
        """As `wait_after`, for a job of the server: only a lost connection is worth another try at once, what
        the server itself says of the job is for the operator."""
        if failure.reason not in _BREAKS:
            raise failure
        return self.wait_after(failure)

    def wait_after(self, failure: DatavaultClientError) -> float:
        """Seconds to wait before the stream is resumed. Raises `failure` where it cannot be."""
        self._failures += 1
        if not _resumable(failure) or self._failures >= self._retry.attempts:
            raise failure
        backoff = min(self._retry.longest_seconds, self._retry.first_seconds * 2 ** (self._failures - 1))
        wait = max(self._uniform(backoff / 2, backoff), failure.retry_after_seconds or 0.0)
        if self._monotonic() + wait >= self._end:
            raise failure
        return wait


def _resumable(failure: DatavaultClientError) -> bool:
    if failure.reason is ErrorReason.TLS_FAILED:
        return False
    # a stream's deadline may be shorter than the batch's: wait_after refuses when the batch's own is up
    return failure.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
