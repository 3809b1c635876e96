"""What `keys status` is made of: counts per version, and one bad key that hides no other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pipelines import House
from tests.support.rotation import OPERATOR, ToldClock, open_rotation_house, rotate, stages
from vault.domain.errors import (
    InvalidArgumentError,
    KeyForbiddenError,
    KeysUnavailableError,
    NotPermittedError,
)
from vault.domain.protocols import KeyHealth, KeyInfo
from vault.keys.status import KeyState, KeyStates

pytestmark = pytest.mark.usefixtures("every_store")

CONTACT = "datavault-contact"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Two customers with an address each."""
    with open_rotation_house(tmp_path, ToldClock(), None) as opened:
        opened.write("1", {"email": "a@mail.example"})
        opened.write("2", {"email": "b@mail.example"})
        yield opened


def states(house: House) -> KeyStates:
    found, _ = house.pipelines.keys.status.status(house.caller(OPERATOR))
    return found


def state(house: House, name: str = CONTACT) -> KeyState:
    (found,) = [key for key in states(house).keys if key.name == name]
    return found


def test_every_key_is_told_with_what_its_versions_wrap(house: House) -> None:
    """Classes, keys of tenants and keys that sign, by name; stragglers are what older versions wrapped."""
    rotate(house, "contact")
    house.write("3", {"email": "c@mail.example"})
    found = {key.name: (dict(key.versions), key.stragglers, key.problem) for key in states(house).keys}
    assert found == {
        "datavault-contact": ({1: 2, 2: 1}, 2, ""),
        "datavault-financial": ({}, 0, ""),
        "datavault-index": ({}, 0, ""),
        "datavault-log": ({}, 0, ""),
        "datavault-lookup": ({1: 1}, 0, ""),
        "datavault-pseudonym": ({1: 1}, 0, ""),
        "datavault-receipt": ({}, 0, ""),
    }
    assert (state(house).latest_version, state(house).min_decryption_version) == (2, 1)
    assert states(house).health.healthy
    assert [record["action"] for record in house.records()].count("keys.read") >= 1


def test_a_key_this_replica_may_not_use_has_a_problem_and_the_others_answer(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are counted all the same."""
    provider = house.rooms.provider
    real = provider.info

    def info(key: str) -> KeyInfo:
        if key == CONTACT:
            raise KeyForbiddenError("this replica may not use the key")
        return real(key)

    monkeypatch.setattr(provider, "info", info)
    found = state(house)
    assert (found.problem, dict(found.versions), found.latest_version) == (
        "this replica may not use the key",
        {1: 2},
        0,
    )
    assert state(house, "datavault-financial").problem == ""


def test_without_the_provider_it_asks_no_further(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A KMS that does not answer is asked once, and every key says so."""
    provider = house.rooms.provider
    monkeypatch.setattr(provider, "health", lambda: KeyHealth(False, "the KMS does not answer"))
    monkeypatch.setattr(provider, "info", lambda key: pytest.fail(f"asked for {key}"))
    found = states(house)
    assert not found.health.healthy
    assert {key.problem for key in found.keys} == {"the KMS does not answer"}


@pytest.mark.parametrize(
    ("wrapped", "problem"),
    [
        ("vault:v1:AAAA", "wrapped keys that are not of this provider: 1"),
        ("local:v9:AAAA", "wrapped keys of versions that the key does not have: 1; was it restored?"),
        ("local:v1:AAAA", "wrapped keys of versions that no longer open: 1; lower min_decryption_version"),
    ],
)
def test_wrapped_keys_that_cannot_open_are_a_problem(house: House, wrapped: str, problem: str) -> None:
    """By their version alone: nothing is opened for it."""
    rotate(house, "contact")
    house.sql("UPDATE subject_key SET wrapped = ?", b"local:v2:AAAA")
    house.sql(
        "UPDATE subject_key SET wrapped = ? WHERE dek_id = (SELECT dek_id FROM subject_key LIMIT 1)",
        wrapped.encode(),
    )
    house.rooms.provider.retire(CONTACT, 2)
    assert state(house).problem == problem


def test_rows_of_a_class_that_the_policies_no_longer_have_are_told(house: House) -> None:
    """Their key is not there, or not looked after: the operator sees them."""
    house.sql("UPDATE subject_key SET key_class = 'behaviour'")
    assert dict(state(house, "datavault-behaviour").versions) == {1: 2}


def test_a_rotation_that_fails_is_on_record(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What began is followed by why it did not end."""

    def fails(_: str) -> int:
        raise KeysUnavailableError("the KMS does not answer")

    monkeypatch.setattr(house.rooms.provider, "rotate", fails)
    with pytest.raises(KeysUnavailableError):
        rotate(house, "contact")
    assert stages(house, "keys.rotate") == [("authorised", "begun"), ("error", "failed")]


@pytest.mark.parametrize("word", ["kontact", "datavault-contact", ""])
def test_a_key_that_does_not_exist_is_refused(house: House, word: str) -> None:
    """With the words that there are."""
    with pytest.raises(InvalidArgumentError, match="one of contact, financial, index, log"):
        rotate(house, word)
    assert stages(house, "keys.rotate") == [("error", "")]


def test_both_need_the_right(house: House) -> None:
    """A caller without it learns nothing and rotates nothing."""
    importer = house.caller("importer")
    with pytest.raises(NotPermittedError):
        house.pipelines.keys.status.status(importer)
    with pytest.raises(NotPermittedError):
        house.pipelines.keys.rotation.rotate(importer, "contact")
    assert state(house).latest_version == 1
