"""Cached data keys serve within their lifetime and not after, through every outage and every jump of the
machine's clock.

The pipelines run in the test's process over a real KMS: only there can a clock be told. Lifetimes are counted
by the monotonic clock, which nobody can set; the wall clock is what jumps.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.support.faults import FRAUD, add_customer, eventually, read
from tests.support.faults_policies import write_policies
from tests.support.outages import (
    Scene,
    expected,
    heals_reads,
    options,
    reasons,
    sealed,
    stopped,
    without_policy,
)
from tests.support.pipelines import House, open_house
from tests.support.service import RunningService
from vault.client import DenialReason
from vault.domain.limits import LIMITS
from vault.domain.system import SystemClock

pytestmark = pytest.mark.xdist_group("outages")

SHORTEST_SECONDS = "1"
NUMBER = "customer"
EMAIL = "customer@mail.example"
TICK = 1 / 1024
"""Seconds, of which floats hold sums without rounding."""
HOUR_SECONDS = 3_600


class ToldClock:
    """Begins at the machine's time; `sleep` lets time pass, `jump` sets the wall clock alone."""

    def __init__(self) -> None:
        self._wall = SystemClock().now()
        self._passed = 0.0

    def now(self) -> int:
        return self._wall + int(self._passed * 1e6)

    def monotonic(self) -> float:
        return self._passed

    def sleep(self, seconds: float) -> None:
        self._passed += seconds

    def jump(self, seconds: float) -> None:
        self._wall += int(seconds * 1e6)


@pytest.fixture
def clock() -> ToldClock:
    return ToldClock()


@pytest.fixture
def house(stage: Scene, clock: ToldClock, tmp_path: Path) -> Iterator[House]:
    """Pipelines that have one customer, whose key has just come into the cache."""
    with open_house(
        tmp_path,
        clock,
        policies=write_policies(tmp_path / "policies"),
        keys="transit",
        environment="production",
        transit_address=stage.server.address,
        transit_token=SecretStr(stage.new_token()),
        transit_cacert=stage.server.ca_certificate,
    ) as opened:
        opened.write(NUMBER, {"email": EMAIL})
        yield opened


def email(house: House) -> object:
    """The email address, or the reason why not."""
    answer = house.read(FRAUD, NUMBER, FRAUD, ["email"])
    return answer.denied["email"].reason if answer.denied else answer.value("email")


@pytest.mark.parametrize("outage", [stopped, sealed, without_policy], ids=["stopped", "sealed", "403"])
def test_lifetime(
    house: House,
    clock: ToldClock,
    stage: Scene,
    outage: Callable[[Scene], contextlib.AbstractContextManager[None]],
) -> None:
    """During an outage a cached key serves until its lifetime is over, however often it is used, and from
    then on its attributes are denied; with the KMS back they are read again."""
    with outage(stage):
        clock.sleep(LIMITS.dek_cache_seconds / 2)
        assert email(house) == EMAIL
        clock.sleep(LIMITS.dek_cache_seconds / 2 - TICK)
        assert email(house) == EMAIL
        clock.sleep(TICK)
        assert email(house) is DenialReason.KEY_UNAVAILABLE
    eventually(lambda: email(house) == EMAIL, "the key is had again")


@pytest.mark.parametrize("seconds", [HOUR_SECONDS, -HOUR_SECONDS], ids=["forward", "back"])
def test_clock_jump(house: House, clock: ToldClock, stage: Scene, seconds: int) -> None:
    """A jump of the wall clock neither ends a cached key early nor makes it live longer."""
    with sealed(stage):
        clock.jump(seconds)
        clock.sleep(LIMITS.dek_cache_seconds - TICK)
        assert email(house) == EMAIL
        clock.sleep(TICK)
        assert email(house) is DenialReason.KEY_UNAVAILABLE
    eventually(lambda: email(house) == EMAIL, "the key is had again")
    house.write("another", {"email": EMAIL})
    assert house.verify().problems == []


def test_lifetime_of_a_running_service(stage: Scene, tmp_path: Path) -> None:
    """A service that was told a shorter lifetime denies after it what it had cached."""
    told = options(tmp_path, stage.server, environment={"DATAVAULT_DEK_CACHE_SECONDS": SHORTEST_SECONDS})
    with RunningService(tmp_path, told) as service:
        service.launch()
        number = add_customer(service)
        lost = dict.fromkeys(expected(number), DenialReason.KEY_UNAVAILABLE)
        with sealed(stage):
            eventually(lambda: reasons(read(service, number, *lost)) == lost, "cached keys are gone")
        heals_reads(service, number)
