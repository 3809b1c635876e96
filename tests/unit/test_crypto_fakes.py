"""The fakes that ship with the package."""

import pytest

from vault.testing import FakeClock, FixedRandomness, TestingFakeWarning


@pytest.mark.parametrize("fake", [FakeClock, FixedRandomness])
def test_a_fake_warns_when_it_is_used(fake: type) -> None:
    """Nobody runs the service on a fake without being told."""
    with pytest.warns(TestingFakeWarning):
        fake()


def test_a_fake_clock_moves_when_told() -> None:
    """Both its readings advance together, and by themselves not at all."""
    clock = FakeClock(5_000_000)
    clock.advance(1.5)
    assert (clock.now(), clock.monotonic()) == (6_500_000, 1.5)
    assert (clock.now(), clock.monotonic()) == (6_500_000, 1.5)


def test_fixed_randomness_gives_its_tokens_first() -> None:
    """Then bytes that are the same in every run and never twice the same."""
    one, two = FixedRandomness(b"abc"), FixedRandomness(b"abc")
    assert one.token(3) == b"abc"
    two.token(3)
    assert one.token(16) == two.token(16)
    assert one.token(16) != one.token(16)


def test_fixed_randomness_refuses_another_size() -> None:
    """A golden vector whose nonce has the wrong size is a mistake of the test."""
    with pytest.raises(ValueError, match="3 bytes, not 12"):
        FixedRandomness(b"abc").token(12)
