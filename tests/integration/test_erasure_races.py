"""What happens at the same moment as an erasure: reads, writes, consents, other erasures, other replicas."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.erasure import erase, evidence, subject_id
from tests.support.faults import eventually, together
from tests.support.pipelines import House, another_replica, open_house
from vault.client import DenialReason
from vault.domain.errors import NotFoundError, UncertainCommitError
from vault.domain.limits import LIMITS
from vault.erasing.erasure import ErasurePipeline
from vault.erasing.receipts import ErasureOutcome
from vault.intake import IntakePipeline
from vault.reads import Attempt, MissingKeys
from vault.store.database import Block, Database, Side
from vault.testing import FakeClock

pytestmark = pytest.mark.usefixtures("every_store")

EMAIL = {"email": "ana@b.example"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, every_store: str) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.fixture
def ana(request: pytest.FixtureRequest) -> str:
    return f"ana-{request.node.originalname}"


def seen(house: House, number: str, attribute: str = "email") -> Any:
    """What fraud detection gets: the value, or the reason why not."""
    answer = house.read("fraud-detection", number, "fraud-detection", [attribute])
    return answer.value(attribute) or answer.denied[attribute].reason


def test_another_replica_with_the_key_in_its_cache_has_nothing_at_once(house: House, ana: str) -> None:
    """It used the cached key before the erasure; right after it, it answers not-available, without asking the
    provider."""
    house.write(ana, EMAIL)
    replica = another_replica(house)
    assert seen(replica, ana) == EMAIL["email"]
    hits = replica.pipelines.keyring.hits
    assert seen(replica, ana) == EMAIL["email"]
    assert replica.pipelines.keyring.hits == hits + 1
    erase(house, ana)
    assert seen(replica, ana) is DenialReason.NOT_AVAILABLE
    assert seen(house, ana) is DenialReason.NOT_AVAILABLE


def test_the_replica_that_erased_forgets_the_keys(house: House, ana: str) -> None:
    """What was destroyed does not stay in its memory until it would have expired."""
    house.write(ana, EMAIL | {"given-name": "Ana"})
    seen(house, ana)
    seen(house, ana, "given-name")
    subject = subject_id(house, ana)
    before = _cached(house, subject)
    erase(house, ana)
    assert (before, _cached(house, subject)) == ({"contact", "identity"}, {"identity"})


def _cached(house: House, subject: bytes) -> set[str]:
    return {place[4] for place in house.pipelines.keyring._cache if place[1] == subject}


def test_a_key_fetched_before_the_erasure_opens_nothing_after_it(house: House, ana: str) -> None:
    """A read that left its group for a key, and comes back with it, sees a new snapshot without the row."""
    house.write(ana, EMAIL)
    replica = another_replica(house)
    read = replica.ask("fraud-detection", ana, "fraud-detection", ["email"])
    (missing,) = replica.pipelines.disclosure.disclose([Attempt(read)])
    assert isinstance(missing, MissingKeys)
    keys = replica._keys(missing)
    erase(house, ana)
    (answer,) = replica.pipelines.disclosure.disclose([Attempt(read, keys)])
    assert answer.denials == ("not-available",)  # type: ignore[union-attr]


def test_no_read_that_starts_after_the_answer_gets_anything(house: House, ana: str) -> None:
    """Readers that go on all the time get the value until the erasure, and not once after its answer."""
    house.write(ana, EMAIL)
    erased, wrong, reads = threading.Event(), [], []

    def go_on_reading() -> None:
        for _ in range(60):
            late = erased.is_set()
            found = seen(house, ana)
            reads.append(found)
            if late and found is not DenialReason.NOT_AVAILABLE:
                wrong.append(found)

    def erase_then_tell() -> None:
        eventually(lambda: len(reads) >= 20, "readers are at it")
        erase(house, ana)
        erased.set()

    together(go_on_reading, go_on_reading, erase_then_tell)
    assert wrong == []
    assert EMAIL["email"] in reads
    assert reads[-1] is DenialReason.NOT_AVAILABLE


def between(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, happens: Callable[[], object]) -> None:
    """Let something happen right before the first call of a method."""
    whole = getattr(owner, method)
    first = [True]

    def instead(*arguments: Any, **named: Any) -> Any:
        if first.pop() if first else False:
            happens()
        return whole(*arguments, **named)

    monkeypatch.setattr(owner, method, instead)


@pytest.mark.parametrize("kept", [{}, {"given-name": "Ana"}], ids=["whole", "in part"])
def test_a_write_under_way_never_uses_a_destroyed_key(
    house: House, ana: str, monkeypatch: pytest.MonkeyPatch, kept: dict[str, str]
) -> None:
    """Prepared before the erasure and committed after it, it makes a key of its own; its value is read."""
    house.write(ana, EMAIL | kept)
    between(monkeypatch, IntakePipeline, "_commit", lambda: erase(house, ana))
    house.write(ana, {"email": "new@b.example"})
    assert seen(house, ana) == "new@b.example"
    ((dek_id, ciphertext),) = house.sql(
        "SELECT k.dek_id, v.ciphertext FROM subject_key AS k JOIN attribute_value AS v"
        " USING (subject, key_class) WHERE subject = ? AND v.attribute = 'email'",
        subject_id(house, ana),
    )
    assert ciphertext[4:36] == dek_id


def test_a_write_under_way_never_uses_a_retained_key(
    house: House, ana: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class stays for its ground; the new value is sealed under a new key and served as any other."""
    house.write(ana, {"given-name": "Ana"})
    between(monkeypatch, IntakePipeline, "_commit", lambda: erase(house, ana))
    house.write(ana, {"given-name": "Eva"})
    assert seen(house, ana, "given-name") == "Eva"


def test_an_erasure_that_stood_still_makes_the_key_of_its_evidence_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version that wrapped it may be retired by then."""
    clock = FakeClock()
    with open_house(tmp_path, clock) as house:
        house.write("eva", EMAIL)
        house.record("eva", "marketing", "refused")
        wrapped: list[str] = []
        wrap = house.rooms.provider.wrap
        monkeypatch.setattr(
            house.rooms.provider, "wrap", lambda key, items: wrapped.append(key) or wrap(key, items)
        )
        between(
            monkeypatch, ErasurePipeline, "_commit", lambda: clock.advance(LIMITS.longest_deadline_seconds)
        )
        outcome = erase(house, "eva")
        assert wrapped == ["datavault-evidence"] * 2
        assert outcome.receipt is not None
        assert b'"state":"refused"' in evidence(house, outcome.receipt.id)


def test_a_consent_recorded_meanwhile_is_sealed_too(
    house: House, ana: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first event of a customer comes after the erasure was prepared without a key for evidence."""
    house.write(ana, EMAIL)
    between(monkeypatch, ErasurePipeline, "_commit", lambda: house.record(ana, "marketing", "refused"))
    outcome = erase(house, ana)
    assert outcome.receipt is not None
    assert b'"state":"refused"' in evidence(house, outcome.receipt.id)


def outcome_of(house: House, number: str, request_id: str) -> ErasureOutcome | NotFoundError:
    try:
        return erase(house, number, request_id=request_id)
    except NotFoundError as error:
        return error


def test_two_erasures_at_once_destroy_once(house: House, ana: str) -> None:
    """With one request id both get the same receipt; with two, the second finds no customer."""
    house.write(ana, EMAIL)
    same = together(*[lambda: outcome_of(house, ana, f"same-{ana}"[:64])] * 2)
    assert {one.receipt.raw for one in same} == {same[0].receipt.raw}
    assert sorted(one.replayed for one in same) == [False, True]
    house.write(ana, EMAIL)
    other = together(lambda: outcome_of(house, ana, "one"), lambda: outcome_of(house, ana, "two"))
    assert sorted(isinstance(one, NotFoundError) for one in other) == [False, True]


def test_an_uncertain_commit_erases_once(house: House, ana: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """COMMIT happened and its answer was lost: the call answers as if nothing had been."""
    house.write(ana, EMAIL)
    store = type(house.rooms.database)
    whole = store._commit
    first = [True]

    def lost(self: Database, side: Side, block: Block) -> None:
        whole(self, side, block)
        if first and first.pop():
            raise UncertainCommitError("the database did not confirm the change")

    monkeypatch.setattr(store, "_commit", lost)
    outcome = erase(house, ana)
    assert outcome.whole
    records = [one for one in house.records() if one["id"] == outcome.recorded.record_id]
    assert len(records) == 1
    assert replace(outcome.recorded).position == house.records().index(records[0])
