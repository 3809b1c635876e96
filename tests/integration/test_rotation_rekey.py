"""A customer's values under new DEKs: the same values, versions and retention, whatever comes in between."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pipelines import House
from tests.support.rotation import (
    OPERATOR,
    ToldClock,
    finish,
    forget,
    open_rotation_house,
    rewrap,
    rotate,
    stall_after_wrapping,
    versions,
    wrapped,
)
from vault.crypto.envelope import dek_id_of
from vault.domain.errors import (
    IntegrityError,
    InvalidArgumentError,
    NotFoundError,
    NotPermittedError,
    RequestIdReusedError,
    StoreUnavailableError,
)
from vault.intake import IntakePipeline
from vault.keys.rekeying import Rekeyed
from vault.keys.resealing import Resealer

pytestmark = pytest.mark.usefixtures("every_store")

FRAUD = "fraud-detection"
NUMBER = "4711"


@pytest.fixture
def clock() -> ToldClock:
    return ToldClock()


@pytest.fixture
def house(tmp_path: Path, clock: ToldClock) -> Iterator[House]:
    """One customer with values of two classes, and a neighbour."""
    with open_rotation_house(tmp_path, clock, None) as opened:
        opened.write(NUMBER, {"email": "first@mail.example", "income": 1})
        opened.write(NUMBER, {"email": "a@mail.example", "income": 2})
        opened.write("neighbour", {"email": "b@mail.example"})
        yield opened


def rekey(house: House, request_id: str = "q1", number: str = NUMBER, caller: str = OPERATOR) -> Rekeyed:
    return house.pipelines.keys.rekey.rekey(house.caller(caller), request_id, number)


def subject_of(house: House) -> bytes:
    """The customer is the one with an income."""
    ((subject,),) = house.sql("SELECT subject FROM attribute_value WHERE attribute = 'income'")
    assert isinstance(subject, bytes)
    return subject


def keys_of(house: House) -> list[tuple[Any, ...]]:
    return house.sql(
        "SELECT key_class, dek_id, retained_since FROM subject_key WHERE subject = ? ORDER BY 1, 3",
        subject_of(house),
    )


def values(house: House, number: str = NUMBER) -> tuple[Any, Any]:
    """What a read with an empty cache answers."""
    forget(house)
    found = house.read(FRAUD, number, FRAUD, ["email", "income"])
    return found.value("email"), found.value("income")


def actions(house: House) -> list[tuple[str, dict[str, Any]]]:
    return [
        (record["outcome"], record.get("detail", {}))
        for record in house.records()
        if record["action"] == "subject.rekey"
    ]


def test_every_value_is_under_a_new_dek_and_reads_the_same(house: House) -> None:
    """Old wrapped DEKs and ciphertexts are gone, versions stay, the neighbour and the number are left."""
    before, rows = keys_of(house), house.sql("SELECT attribute, version, ciphertext FROM attribute_value")
    neighbours = wrapped(house, "contact").keys() - {dek_id for _, dek_id, _ in before}
    done = rekey(house)
    assert (done.values, done.key_classes, done.replayed) == (2, ("contact", "financial"), False)
    after = keys_of(house)
    assert [key_class for key_class, *_ in after] == ["contact", "financial"]
    assert {dek_id for _, dek_id, _ in before}.isdisjoint(dek_id for _, dek_id, _ in after)
    assert wrapped(house, "contact").keys() >= neighbours
    assert values(house) == ("a@mail.example", 2)
    changed = {
        (attribute, version): ciphertext
        for attribute, version, ciphertext in house.sql(
            "SELECT attribute, version, ciphertext FROM attribute_value WHERE subject = ?", subject_of(house)
        )
    }
    kept = {ciphertext for _, _, ciphertext in rows}
    assert changed.keys() == {("$customer-number", 1), ("email", 2), ("income", 2)}
    assert [key for key, ciphertext in changed.items() if ciphertext in kept] == [("$customer-number", 1)]
    assert actions(house) == [("authorised", {"values": 2, "key_classes": "contact,financial"})]
    assert dict(house.write(NUMBER, {"email": "c@mail.example"}).versions) == {"email": 3}
    assert values(house) == ("c@mail.example", 2)


def test_a_repeated_request_is_answered_as_the_first_time(house: House) -> None:
    """Nothing is done twice, and its record names the first; other content under the id is refused."""
    first = rekey(house)
    keys = keys_of(house)
    again = rekey(house)
    assert (again.values, again.key_classes, again.at) == (first.values, first.key_classes, first.at)
    assert (again.recorded, again.replayed) == (first.recorded, True)
    assert keys_of(house) == keys
    assert actions(house)[-1] == ("authorised", {"replay_of": first.recorded.record_id})
    with pytest.raises(RequestIdReusedError):
        rekey(house, number="neighbour")


def test_what_an_erasure_left_stays_retained(house: House) -> None:
    """It gets a DEK of its own, retained since the same moment; what is written later has another one."""
    house.sql("UPDATE subject_key SET retained_since = 77 WHERE key_class = 'financial'")
    created = house.sql("SELECT created_at FROM subject_key WHERE retained_since = 77")
    rekey(house)
    (_, (_, retained, since)) = keys_of(house)
    assert since == 77
    assert house.sql("SELECT created_at FROM subject_key WHERE retained_since = 77") == created
    ((ciphertext,),) = house.sql("SELECT ciphertext FROM attribute_value WHERE attribute = 'income'")
    assert dek_id_of(ciphertext) == retained
    house.write(NUMBER, {"income": 3})
    rekey(house, "q2")
    assert [(key_class, since) for key_class, _, since in keys_of(house)] == [
        ("contact", 0),
        ("financial", 0),
        ("financial", 77),
    ]
    assert values(house) == ("a@mail.example", 3)


def test_a_write_in_between_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is written while the new DEKs are made goes under them too: nothing is done twice."""
    prepared = meanwhile(monkeypatch, lambda: house.write(NUMBER, {"email": "meanwhile@mail.example"}))
    assert rekey(house).values == 2
    assert values(house) == ("meanwhile@mail.example", 2)
    assert len(prepared) == 1


def test_a_dek_that_comes_in_between_is_changed_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was prepared without it is thrown away, and prepared again."""
    prepared = meanwhile(monkeypatch, lambda: house.write("neighbour", {"income": 7}))
    assert rekey(house, number="neighbour").values == 2
    assert values(house, "neighbour") == ("b@mail.example", 7)
    assert len(prepared) == 2


def meanwhile(patch: pytest.MonkeyPatch, work: Callable[[], Any]) -> list[Any]:
    """Do `work` after each preparation; gives the preparations."""
    real = Resealer.prepare
    prepared: list[Any] = []

    def prepare(self: Resealer, *arguments: Any) -> Any:
        prepared.append(real(self, *arguments))
        work()
        return prepared[-1]

    patch.setattr(Resealer, "prepare", prepare)
    return prepared


def test_a_rewrap_in_between_does_not_matter(
    house: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rewrapped DEK is the same DEK: the first preparation stands."""
    rotate(house, "contact")
    prepared = meanwhile(monkeypatch, lambda: finish(rewrap(house, "contact", keep_old_versions=True), clock))
    rekey(house)
    assert len(prepared) == 1
    assert values(house) == ("a@mail.example", 2)


def test_a_version_that_is_retired_in_between_is_read_again(
    house: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old DEK no longer opens as it was read; the row has it rewrapped by now."""
    forget(house)
    rotate(house, "contact")
    provider = house.rooms.provider
    real = provider.unwrap

    def unwrap(key: str, items: Any) -> Any:
        monkeypatch.setattr(provider, "unwrap", real)
        finish(rewrap(house, "contact"), clock)
        return real(key, items)

    monkeypatch.setattr(provider, "unwrap", unwrap)
    assert rekey(house).values == 2
    assert values(house) == ("a@mail.example", 2)


def test_a_rekey_that_stood_still_meanwhile_is_prepared_again(
    house: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new DEKs are never wrapped by a version that was retired between wrapping and commit."""
    stall_after_wrapping(house, clock, monkeypatch, "contact")
    rekey(house)
    forget(house)
    assert values(house) == ("a@mail.example", 2)
    assert versions(house, "contact") == {2: 2}


def test_a_write_that_was_prepared_before_is_prepared_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is ever encrypted under a DEK that a rekey destroyed."""
    real = IntakePipeline._commit
    done: list[Rekeyed] = []

    def commit(self: IntakePipeline, *arguments: Any) -> None:
        if not done:
            done.append(rekey(house))
        real(self, *arguments)

    monkeypatch.setattr(IntakePipeline, "_commit", commit)
    house.write(NUMBER, {"email": "late@mail.example"})
    assert values(house) == ("late@mail.example", 2)
    assert len(keys_of(house)) == 2


def test_a_customer_whose_keys_never_rest_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few rounds it says so, and has changed nothing."""
    moments = iter(range(1, 100))
    meanwhile(
        monkeypatch,
        lambda: house.sql("UPDATE subject_key SET retained_since = ?", next(moments)),
    )
    before = [(key_class, dek_id) for key_class, dek_id, _ in keys_of(house)]
    with pytest.raises(StoreUnavailableError):
        rekey(house)
    assert [(key_class, dek_id) for key_class, dek_id, _ in keys_of(house)] == before


def test_a_value_that_does_not_open_changes_nothing(house: House) -> None:
    """It would be lost with its DEK: the whole customer is left as he is, and the log says why."""
    ((ciphertext,),) = house.sql("SELECT ciphertext FROM attribute_value WHERE attribute = 'income'")
    house.sql(
        "UPDATE attribute_value SET ciphertext = ? WHERE attribute = 'income'", ciphertext[:-4] + b"ABCD"
    )
    before = keys_of(house)
    with pytest.raises(IntegrityError):
        rekey(house)
    assert keys_of(house) == before
    assert actions(house) == [("error", {"error": "INTEGRITY"})]


@pytest.mark.parametrize(
    ("arguments", "error", "outcome"),
    [
        ({"number": "nobody"}, NotFoundError, "error"),
        ({"request_id": ""}, InvalidArgumentError, "error"),
        ({"caller": "importer"}, NotPermittedError, "denied"),
    ],
)
def test_a_refusal_is_on_record(
    house: House, arguments: dict[str, str], error: type[Exception], outcome: str
) -> None:
    """And changes nothing."""
    before = keys_of(house)
    with pytest.raises(error):
        rekey(house, **arguments)
    assert keys_of(house) == before
    assert [found for found, _ in actions(house)] == [outcome]
