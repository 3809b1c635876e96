"""How long a batch waits between its streams, and when it stops trying."""

import grpc
import pytest

from vault.client import DatavaultClientError, ErrorReason, InvalidArgument, RetryPolicy
from vault.client.pacing import STREAM_SECONDS, Pace
from vault.client.status import from_rpc_error


class Monotonic:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


def pace(monotonic: Monotonic, timeout: float | None = None, attempts: int = 5) -> Pace:
    policy = RetryPolicy(attempts=attempts, first_seconds=1.0, longest_seconds=3.0)
    return Pace(policy, timeout, monotonic, lambda low, high: (low + high) / 2)


def unavailable(
    retry_after: float | None = None, reason: ErrorReason = ErrorReason.UNREACHABLE
) -> DatavaultClientError:
    return DatavaultClientError(reason, "gone", grpc.StatusCode.UNAVAILABLE, (), retry_after)


def test_waits_double_up_to_the_longest(monotonic: Monotonic) -> None:
    """The wait is drawn from the upper half of a backoff that doubles and is capped."""
    paced = pace(monotonic)
    assert [paced.wait_after(unavailable()) for _ in range(4)] == [0.75, 1.5, 2.25, 2.25]


def test_the_last_attempt_raises_its_failure(monotonic: Monotonic) -> None:
    """The failure of the last attempt is what the caller gets."""
    paced = pace(monotonic, attempts=2)
    paced.wait_after(unavailable())
    last = unavailable()
    with pytest.raises(DatavaultClientError) as caught:
        paced.wait_after(last)
    assert caught.value is last


def test_progress_starts_the_attempts_anew(monotonic: Monotonic) -> None:
    """After a result the backoff begins at its first step again."""
    paced = pace(monotonic, attempts=2)
    paced.wait_after(unavailable())
    paced.progressed()
    assert paced.wait_after(unavailable()) == 0.75


def test_the_server_can_ask_for_a_longer_wait(monotonic: Monotonic) -> None:
    """RetryInfo beats a shorter backoff, and not a longer one."""
    paced = pace(monotonic)
    assert [paced.wait_after(unavailable(9.0)), paced.wait_after(unavailable(0.1))] == [9.0, 1.5]


def test_no_wait_passes_the_end_of_the_batch(monotonic: Monotonic) -> None:
    """A wait that would use up the time left is not begun."""
    with pytest.raises(DatavaultClientError):
        pace(monotonic, timeout=0.75).wait_after(unavailable())


def test_streams_share_the_time_of_the_batch(monotonic: Monotonic) -> None:
    """Each stream gets what is left, never less than 0 and never more than an hour."""
    paced = pace(monotonic, timeout=5_000.0)
    left = [paced.stream_seconds()]
    for passed in (4_000.0, 2_000.0):
        monotonic.seconds += passed
        left.append(paced.stream_seconds())
    assert left == [STREAM_SECONDS, 1_000.0, 0.0]


def test_the_deadline_of_one_stream_does_not_end_the_batch(monotonic: Monotonic) -> None:
    """A batch without a timeout goes on after a stream's hour."""
    passed = DatavaultClientError(ErrorReason.DEADLINE_EXCEEDED, "over", grpc.StatusCode.DEADLINE_EXCEEDED)
    assert pace(monotonic).wait_after(passed) == 0.75


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code.name not in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}]
)
def test_other_failures_are_final(monotonic: Monotonic, code: grpc.StatusCode) -> None:
    """Nothing but UNAVAILABLE and a stream's deadline is tried again."""
    with pytest.raises(DatavaultClientError):
        pace(monotonic).wait_after(DatavaultClientError(ErrorReason.INTERNAL, "no", code))


def test_a_tls_failure_is_final(monotonic: Monotonic) -> None:
    """Certificates that do not match will not match the next time."""
    with pytest.raises(DatavaultClientError):
        pace(monotonic).wait_after(unavailable(reason=ErrorReason.TLS_FAILED))


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), True, "5"])
def test_a_timeout_is_a_positive_number_of_seconds(monotonic: Monotonic, timeout: float) -> None:
    """Any other timeout raises InvalidArgument."""
    with pytest.raises(InvalidArgument):
        pace(monotonic, timeout=timeout)


def test_a_status_that_grpc_lost_can_be_tried_again(monotonic: Monotonic) -> None:
    """What grpc.aio says in place of the server's status counts as a broken stream (grpc issue 36066)."""
    lost = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "Internal error from Core", ""
    )
    failure = from_rpc_error(lost)
    assert (failure.reason, pace(monotonic).wait_after(failure)) == (ErrorReason.UNREACHABLE, 0.75)
