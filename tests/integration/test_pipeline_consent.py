"""What time does to consent, values and quotas, by a clock that is told."""

from collections.abc import Iterator

import pytest

from tests.support.identity import FAKES_ARE_FINE
from tests.support.pipelines import House, open_house
from tests.support.service import policies_copy
from vault.domain.errors import InvalidArgumentError, QuotaExceededError
from vault.testing import FakeClock

pytestmark = [FAKES_ARE_FINE, pytest.mark.usefixtures("every_store")]

DAY = 86_400.0
CALLERS = """\
  slow-scorer:
    tenant: retail
    description: "May look at two customers an hour"
    identities: [{spiffe: "spiffe://bank.example/slow-scorer"}]
    quotas: {subjects_per_hour: {"*": 2}}
"""


@pytest.fixture(scope="module")
def clock(every_store: str) -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock, every_store: str) -> Iterator[House]:
    """Each test has customers of its own; time only goes on."""
    folder = tmp_path_factory.mktemp("house")
    policies = policies_copy(
        folder / "policies",
        {
            "callers.yaml": lambda text: text + CALLERS,
            "policy.csv": lambda text: text + "g, slow-scorer, fraud-analysis\n",
        },
    )
    with open_house(folder, clock, policies=policies) as opened:
        yield opened


@pytest.fixture
def ana(house: House, request: pytest.FixtureRequest) -> str:
    number = f"ana-{request.node.name}"
    house.write(number, {"income": "41000", "email": "ana@b.example", "credit-score": 640})
    return number


def seen(house: House, number: str, purpose: str = "personalised-offers", attribute: str = "income") -> str:
    """The form the engine gets, or why it gets none."""
    answer = house.read("personalization-engine", number, purpose, [attribute])
    return str(answer.denied[attribute].reason if answer.denied else answer[attribute].form)


def test_consent_ends_at_its_expiry_to_the_microsecond(house: House, clock: FakeClock, ana: str) -> None:
    """It holds in the last microsecond before, and no longer at the moment itself; nobody sweeps."""
    house.record(ana, "personalised-offers", "given", expires_at=clock.now() + 10 * 1_000_000)
    clock.advance(9.999_999)
    assert seen(house, ana) == "generalise"
    clock.advance(0.000_001)
    assert seen(house, ana) == "consent-expired"


def test_renewing_an_expired_consent_brings_it_back(house: House, clock: FakeClock, ana: str) -> None:
    """A later event counts, whatever became of the earlier one."""
    house.record(ana, "personalised-offers", "given", expires_at=clock.now() + 1_000_000)
    clock.advance(1)
    assert seen(house, ana) == "consent-expired"
    house.record(ana, "personalised-offers", "renewed")
    assert seen(house, ana) == "generalise"


def test_consent_lasts_no_longer_than_the_purpose_allows(house: House, clock: FakeClock, ana: str) -> None:
    """730 days and not one second more."""
    longest = clock.now() + 730 * 86_400 * 1_000_000
    with pytest.raises(InvalidArgumentError) as caught:
        house.record(ana, "personalised-offers", "given", expires_at=longest + 1)
    assert [each.field for each in caught.value.violations] == ["expires_at"]
    house.record(ana, "personalised-offers", "given", expires_at=longest)
    assert seen(house, ana) == "generalise"


def test_what_is_recorded_later_counts_though_the_clock_went_back(
    house: House, clock: FakeClock, ana: str
) -> None:
    """*Later* is a higher seq, never a clock: a withdrawal binds even when it is dated before the grant."""
    house.record(ana, "personalised-offers", "given")
    clock.advance(-3_600)
    house.record(ana, "personalised-offers", "withdrawn")
    assert seen(house, ana) == "consent-withdrawn"
    clock.advance(3_600)
    assert seen(house, ana) == "consent-withdrawn"


def test_consent_that_begins_in_the_future_is_refused(house: House, clock: FakeClock, ana: str) -> None:
    """The ledger holds what customers said, not what they may say one day."""
    with pytest.raises(InvalidArgumentError) as caught:
        house.record(ana, "personalised-offers", "given", valid_from=clock.now() + 1)
    assert [each.field for each in caught.value.violations] == ["valid_from"]


def test_a_value_past_its_retention_is_not_set(house: House, clock: FakeClock, ana: str) -> None:
    """A credit score lives for a year from its last write; unreadable then, in every form."""
    office = ("privacy-office", ana, "subject-rights", ["credit-score"])
    clock.advance(365 * DAY - 0.000_001)
    assert house.read(*office).value("credit-score") == 640
    clock.advance(0.000_001)
    assert house.read(*office).denied["credit-score"].reason == "not-set"
    house.write(ana, {"credit-score": 700})
    assert house.read(*office).value("credit-score") == 700


def test_a_value_without_retention_stays(house: House, clock: FakeClock, ana: str) -> None:
    """Ten years on, the e-mail address is still there."""
    clock.advance(3_650 * DAY)
    assert house.read("privacy-office", ana, "subject-rights", ["email"]).value("email") == "ana@b.example"


def test_a_quota_begins_anew_with_the_hour(house: House, clock: FakeClock) -> None:
    """Two customers an hour; the wait that is told ends with the hour; then there are two again."""
    clock.advance(3_600 - clock.now() // 1_000_000 % 3_600)
    numbers = [f"quota-{n}" for n in range(3)]
    for number in numbers:
        house.write(number, {"email": "a@b.example"})

    def read(number: str) -> str:
        return str(house.read("slow-scorer", number, "fraud-detection", ["email"]).value("email"))

    assert [read(number) for number in numbers[:2]] == ["a@b.example"] * 2
    with pytest.raises(QuotaExceededError) as caught:
        read(numbers[2])
    assert caught.value.retry_after_seconds is not None
    clock.advance(caught.value.retry_after_seconds)
    assert read(numbers[2]) == "a@b.example"


def test_a_quota_binds_within_a_group(house: House, clock: FakeClock) -> None:
    """Four reads in one group: two are answered, two refused, and the refused ones are on record."""
    clock.advance(3_600 - clock.now() // 1_000_000 % 3_600)
    house.write("grouped", {"email": "a@b.example"})
    group = [house.ask("slow-scorer", "grouped", "fraud-detection", ["email"]) for _ in range(4)]
    outcomes = house.read_group(group)
    assert [isinstance(each, QuotaExceededError) for each in outcomes] == [False, False, True, True]
    assert [each["outcome"] for each in house.records()[-4:]] == [
        "authorised",
        "authorised",
        "error",
        "error",
    ]


def test_keys_are_asked_for_again_after_their_lifetime(house: House, clock: FakeClock, ana: str) -> None:
    """A cached data key serves for 60 s; then the provider is asked again."""
    keyring = house.pipelines.keyring
    office = ("privacy-office", ana, "subject-rights", ["email"])
    house.read(*office)
    misses = keyring.misses
    house.read(*office)
    assert keyring.misses == misses
    clock.advance(60)
    assert house.read(*office).value("email") == "ana@b.example"
    assert keyring.misses > misses


def test_all_of_it_verifies(house: House) -> None:
    """Records of a clock that went forth and back are a sound log all the same."""
    report = house.verify()
    assert report.ok, report.problems
