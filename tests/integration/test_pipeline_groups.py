"""Groups: whatever goes wrong with one item stays its own, and nothing leaves without a durable record."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.pipelines import House, open_house
from tests.support.service import policies_copy
from vault.audit import record as audit_record
from vault.audit.append import Appender
from vault.domain.errors import (
    AnswerTooLargeError,
    AuditUnavailableError,
    DatavaultError,
    InvalidArgumentError,
    KeysUnavailableError,
    RequireAllError,
)
from vault.domain.limits import LIMITS
from vault.policy.live import LivePolicy
from vault.reads import Attempt, MissingKeys, Released
from vault.recording import Recorder

pytestmark = pytest.mark.usefixtures("every_store")

LARGE = 70
"""Attributes of 64 KiB each: more than 4 MiB together."""
ATTRIBUTES = "".join(
    f"  large-{n}: {{type: string, category: pd:Communication, key_class: behaviour, forms: [clear]}}\n"
    for n in range(LARGE)
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, every_store: str) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    policies = policies_copy(folder / "policies", {"attributes.yaml": lambda text: text + ATTRIBUTES})
    with open_house(folder, policies=policies) as opened:
        yield opened


@pytest.fixture
def numbers(house: House, request: pytest.FixtureRequest) -> list[str]:
    """Five customers with an e-mail address each."""
    found = [f"{request.node.name}-{n}" for n in range(5)]
    house.write_group([house.draft(number, {"email": f"e{n}@b.example"}) for n, number in enumerate(found)])
    return found


def ask_all(house: House, numbers: Sequence[str]) -> list[Any]:
    return [house.ask("fraud-detection", number, "fraud-detection", ["email"]) for number in numbers]


def values(outcomes: Sequence[Any]) -> list[str]:
    return [
        type(each).__name__ if isinstance(each, DatavaultError) else str(each.value("email"))
        for each in outcomes
    ]


GOOD = [f"e{n}@b.example" for n in range(5)]


def test_a_group_is_answered_in_order(house: House, numbers: list[str]) -> None:
    """As asked, whatever the store's order is."""
    assert values(house.read_group(ask_all(house, numbers))) == GOOD
    assert values(house.read_group(ask_all(house, numbers[::-1]))) == GOOD[::-1]


def test_a_group_is_one_transaction_of_the_log(house: House, numbers: list[str]) -> None:
    """Positions are consecutive and in the order of the group."""
    outcomes = house.read_group(ask_all(house, numbers))
    house.read_group(ask_all(house, numbers))
    positions = [each.position for each in outcomes if not isinstance(each, DatavaultError)]
    assert positions == list(range(positions[0], positions[0] + 5))


def test_every_kind_of_item_in_one_group_gets_its_own_answer(house: House, numbers: list[str]) -> None:
    """Good, malformed, unknown, not entitled, denied as a whole, good."""
    group = [
        house.ask("fraud-detection", numbers[0], "fraud-detection", ["email"]),
        house.ask("fraud-detection", numbers[1], "fraud-detection", ["email", "email"]),
        house.ask("fraud-detection", "no-such-customer", "fraud-detection", ["email"]),
        house.ask("auditor", numbers[2], "fraud-detection", ["email"]),
        house.ask("fraud-detection", numbers[3], "fraud-detection", ["email", "income"], require_all=True),
        house.ask("fraud-detection", numbers[4], "fraud-detection", ["email"]),
    ]
    before = len(house.records())
    outcomes = house.read_group(group)
    assert [type(each) for each in outcomes if isinstance(each, DatavaultError)] == [
        InvalidArgumentError,
        RequireAllError,
    ]
    assert isinstance(outcomes[1], InvalidArgumentError)
    assert isinstance(outcomes[4], RequireAllError)
    told = [each.denied["email"].reason for each in (outcomes[2], outcomes[3])]  # type: ignore[union-attr]
    assert told == ["not-available", "not-permitted"]
    assert [values([outcomes[n]])[0] for n in (0, 5)] == [GOOD[0], GOOD[4]]
    assert [each["outcome"] for each in house.records()[before:]] == [
        "authorised",
        "error",
        "denied",
        "denied",
        "denied",
        "authorised",
    ]


def test_a_fault_in_one_item_is_an_internal_error_of_its_own(
    house: House, numbers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A programming error that only one customer's data lead to: its neighbours are answered, and the error
    says nothing of what went wrong."""
    draft = Recorder.draft

    def faulty(self: Any, *arguments: Any, **fields: Any) -> Any:
        if fields["request"] == "faulty" and fields.get("attributes"):
            raise ZeroDivisionError("secret canary")
        return draft(self, *arguments, **fields)

    monkeypatch.setattr(Recorder, "draft", faulty)
    group = ask_all(house, numbers)
    group[2] = replace(group[2], request_id="faulty")
    outcomes = house.read_group(group)
    assert values(outcomes) == [*GOOD[:2], "DatavaultError", *GOOD[3:]]
    assert str(outcomes[2]) == "internal error"
    assert house.records()[-3]["outcome"] == "error"


def test_an_answer_of_more_than_4_mib_is_refused_before_it_is_released(house: House) -> None:
    """Sized before it is recorded: the caller gets an error that helps, the record says error."""
    number = "large"
    text = "x" * 65_536
    for start in range(0, LARGE, 35):
        house.write(number, {f"large-{n}": text for n in range(start, start + 35)})
    names = [f"large-{n}" for n in range(LARGE)]
    with pytest.raises(AnswerTooLargeError):
        house.read("privacy-office", number, "subject-rights", names)
    record = house.records()[-1]
    assert (record["outcome"], record["detail"]) == ("error", {"error": "ANSWER_TOO_LARGE"})
    assert len(house.read("privacy-office", number, "subject-rights", names[:60]).attributes) == 60


def test_a_record_that_would_be_too_large_releases_nothing(
    house: House, numbers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry has at most 49,146 bytes: the call is refused, its neighbours are answered."""
    monkeypatch.setattr(audit_record, "LIMITS", replace(LIMITS, record_bytes=2_000))
    group = ask_all(house, numbers)
    names = ["email", *(f"name-{n}" for n in range(60))]
    group[1] = house.ask("fraud-detection", numbers[1], "fraud-detection", names)
    assert values(house.read_group(group)) == [GOOD[0], "RecordTooLargeError", *GOOD[2:]]
    assert house.records()[-4]["detail"] == {"error": "RECORD_TOO_LARGE"}


def test_256_unknown_attributes_fit_into_a_record(house: House, numbers: list[str]) -> None:
    """The largest question there is, with the longest names, still has a record that receipts can carry."""
    names = [f"{'x' * 60}{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(256)]
    answer = house.read("fraud-detection", numbers[0], "fraud-detection", names)
    assert len(answer.denied) == 256


def test_without_a_durable_record_nothing_is_released(
    house: House, numbers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The append fails after everything was decrypted: no item of the group gets a value."""

    def fail(*_: Any) -> Any:
        raise AuditUnavailableError("the log is stuck")

    before = len(house.records())
    with monkeypatch.context() as patched:
        patched.setattr(Appender, "append", fail)
        outcomes = house.pipelines.disclosure.disclose([_attempt(house, number) for number in numbers])
        assert all(isinstance(each, AuditUnavailableError | MissingKeys) for each in outcomes)
        assert values(house.read_group(ask_all(house, numbers))) == ["AuditUnavailableError"] * 5
    assert len(house.records()) == before
    assert values(house.read_group(ask_all(house, numbers))) == GOOD


def _attempt(house: House, number: str) -> Any:
    return Attempt(house.ask("fraud-detection", number, "fraud-detection", ["email"]))


def test_items_without_a_cached_key_leave_the_group_and_the_others_are_answered(
    house: House, numbers: list[str]
) -> None:
    """A missing key does not hold up those whose key is there; nothing is recorded for who goes for it."""
    house.read_group(ask_all(house, numbers))
    scopes = _scopes(house, numbers[2:4])
    house.pipelines.keyring.forget(scopes)
    before = len(house.records())
    results = house.pipelines.disclosure.disclose([_attempt(house, number) for number in numbers])
    assert [type(each) for each in results] == [Released, Released, MissingKeys, MissingKeys, Released]
    assert len(house.records()) == before + 3
    assert values(house.read_group(ask_all(house, numbers))) == GOOD


def test_a_key_provider_that_fails_denies_what_needs_it_and_nothing_else(
    house: House, numbers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`key-unavailable` for the one whose key is not cached; the cached ones go on serving."""
    house.read_group(ask_all(house, numbers))
    house.pipelines.keyring.forget(_scopes(house, numbers[:1]))

    def down(*_: Any) -> Any:
        raise KeysUnavailableError("the KMS does not answer")

    monkeypatch.setattr(type(house.rooms.provider), "unwrap", down)
    outcomes = house.read_group(ask_all(house, numbers))
    assert values(outcomes[1:]) == GOOD[1:]
    assert not isinstance(outcomes[0], DatavaultError)
    assert outcomes[0].denied["email"].reason == "key-unavailable"
    assert house.records()[-1]["attributes"]["email"]["reason"] == "key-unavailable"


def test_a_new_customer_cannot_be_written_while_the_provider_fails(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write fails as a whole and leaves nothing, and the same request goes through later."""

    def down(*_: Any) -> Any:
        raise KeysUnavailableError("the KMS does not answer")

    write = house.draft("late", {"email": "a@b.example"})
    with monkeypatch.context() as patched:
        patched.setattr(type(house.rooms.provider), "wrap", down)
        (outcome,) = house.write_group([write])
        assert isinstance(outcome, KeysUnavailableError)
    (again,) = house.write_group([write])
    assert not isinstance(again, DatavaultError)
    assert (again.subject_created, again.replayed) == (True, False)


def test_a_policy_that_changes_between_two_groups_binds_the_second(
    house: House, numbers: list[str], tmp_path: Path
) -> None:
    """A group is decided by one bundle as a whole; the next by the one that is live then."""
    policy: LivePolicy = house.rooms.policy
    before = house.read_group(ask_all(house, numbers[:1]))[0]
    deny = "p, no-mail-for-fraud, everyone, fraud-detection, email, read.exists, any, deny\n"
    without = policies_copy(
        tmp_path / "policies",
        {"attributes.yaml": lambda text: text + ATTRIBUTES, "policy.csv": lambda text: text + deny},
    )
    (without / "tests" / "fraud.yaml").unlink()
    try:
        policy.load(without, "compiled")
        after = house.read_group(ask_all(house, numbers[:1]))[0]
    finally:
        policy.load(house.rooms.settings.policies, "compiled")
    assert not isinstance(before, DatavaultError)
    assert not isinstance(after, DatavaultError)
    assert "email" in before
    assert after.denied["email"].reason == "not-permitted"
    assert before.bundle_hash != after.bundle_hash


def _scopes(house: House, numbers: Sequence[str]) -> list[Any]:
    """The key scopes of customers, by way of what their reads would fetch."""
    keyring = house.pipelines.keyring
    everything = [_attempt(house, number) for number in numbers]
    with keyring._lock:
        cached = dict(keyring._cache)
        keyring._cache.clear()
    results = house.pipelines.disclosure.disclose(everything)
    with keyring._lock:
        keyring._cache.update(cached)
    return [scope for each in results if isinstance(each, MissingKeys) for scope, _ in each.requests]


def test_all_of_it_verifies(house: House) -> None:
    """Errors and refusals included."""
    report = house.verify()
    assert report.ok, report.problems
