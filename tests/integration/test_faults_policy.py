"""SIGHUP with policies that are broken, missing, or without an attribute that was just read."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.faults import FRAUD, add_customer, eventually, moved_away, read, serving, start_service
from tests.support.faults_policies import FILES, write_policies
from tests.support.service import RunningService
from vault.client import DenialReason, Unauthenticated

INCOME = "  income: {type: int64, category: pd:Income, key_class: financial, forms: [clear, exists]}\n"
RULES_OF_INCOME = ("offers-income", "fraud-income", "write-income")
WITHOUT_INCOME = {
    "attributes.yaml": FILES["attributes.yaml"].replace(INCOME, ""),
    "policy.csv": "".join(
        line
        for line in FILES["policy.csv"].splitlines(keepends=True)
        if not line.startswith(tuple(f"p, {rule}," for rule in RULES_OF_INCOME))
    ),
}
BROKEN = {
    "a rule for a purpose that nobody declared": {
        "policy.csv": FILES["policy.csv"].replace("administration, email", "administartion, email")
    },
    "a file that is no YAML": {"attributes.yaml": "attributes: [\n"},
    "a test that fails": {
        "tests/fraud.yaml": "tests:\n  - name: fraud sees nothing\n    caller: fraud-detection\n"
        "    purpose: fraud-detection\n    bases: [legitimate-interest]\n    expect: {email: not-permitted}\n"
    },
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One service for all tests here: each must leave it on the policies it started with."""
    with start_service(tmp_path_factory.mktemp("policy")) as running:
        yield running


@pytest.fixture(autouse=True)
def restored(service: RunningService) -> Iterator[None]:
    """Put the policies back after each test."""
    before = read(service, add_customer(service)).bundle_hash
    yield
    reload(service, lambda: write_anew(service.options.policies), "policy_loaded")
    assert read(service, add_customer(service)).bundle_hash == before


def write_anew(folder: Path, changed: dict[str, str] | None = None) -> None:
    shutil.rmtree(folder)
    write_policies(folder, changed)


def told(service: RunningService, event: str) -> int:
    return sum(f'"{event}"' in line for line in service.log_lines())


def reload(service: RunningService, change: Callable[[], None], event: str) -> None:
    """Change the policies, send SIGHUP, and wait until the service says `event`."""
    before = told(service, event)
    change()
    service.signal(signal.SIGHUP)
    eventually(lambda: told(service, event) > before, event)


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_broken_bundle_leaves_the_last_good_one_serving(service: RunningService, mistake: str) -> None:
    """Nothing changes for callers, health stays up, and the log names the file."""
    number = add_customer(service)
    before = read(service, number)
    reload(service, lambda: write_anew(service.options.policies, BROKEN[mistake]), "policy_refused")
    after = read(service, number)
    assert (after.bundle_hash, after.value("email")) == (before.bundle_hash, f"{number}@mail.example")
    assert serving(service)
    assert next(iter(BROKEN[mistake])) in service.log_lines()[-1]


def test_a_missing_folder_leaves_the_last_good_bundle_serving(service: RunningService) -> None:
    """Without any policies on disk the service goes on with those it has."""
    number = add_customer(service)
    before = read(service, number)
    with moved_away(service.options.policies):
        reload(service, lambda: None, "policy_refused")
        assert read(service, number).bundle_hash == before.bundle_hash


def test_an_attribute_that_vanished_is_denied_and_the_others_are_given(service: RunningService) -> None:
    """Read, gone with the next bundle, back with the one after: each read names the bundle that decided."""
    number = add_customer(service)
    first = read(service, number, "email", "income")
    assert first.value("income") == 41_000
    reload(service, lambda: write_anew(service.options.policies, WITHOUT_INCOME), "policy_loaded")
    second = read(service, number, "email", "income")
    assert second.value("email") == first.value("email")
    assert second.denied["income"].reason is DenialReason.NOT_PERMITTED
    assert second.bundle_hash != first.bundle_hash
    reload(service, lambda: write_anew(service.options.policies), "policy_loaded")
    third = read(service, number, "email", "income")
    assert (third.value("income"), third.bundle_hash) == (41_000, first.bundle_hash)
    policies = [service.records()[answer.position]["policy"] for answer in (first, second, third)]
    assert policies == [first.bundle_hash, second.bundle_hash, first.bundle_hash]


def test_a_caller_removed_by_a_reload_is_turned_away(service: RunningService) -> None:
    """Who is no longer in callers.yaml proves nothing with the same certificate, on the same connection."""
    number = add_customer(service)
    read(service, number)
    entry = FILES["callers.yaml"].index(f"  {FRAUD}:")
    following = FILES["callers.yaml"].index("  customer-portal:")
    without = {
        "callers.yaml": FILES["callers.yaml"][:entry] + FILES["callers.yaml"][following:],
        "policy.csv": "".join(
            line for line in FILES["policy.csv"].splitlines(keepends=True) if f" {FRAUD}," not in line
        ),
    }
    reload(service, lambda: write_anew(service.options.policies, without), "policy_loaded")
    with pytest.raises(Unauthenticated):
        read(service, number)
