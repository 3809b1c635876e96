"""Rewrapping on a real database and real keys: it ends with nothing left or says what is, and versions
retire last."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.pipelines import House
from tests.support.rotation import (
    ToldClock,
    finish,
    forget,
    open_rotation_house,
    rewrap,
    rotate,
    rotation_server,
    stages,
    stall_after_wrapping,
    taken,
    versions,
    wrapped,
)
from vault.crypto.envelope import key_context
from vault.domain.errors import (
    InvalidArgumentError,
    KeysUnavailableError,
    KeyTooOldError,
    NotPermittedError,
)
from vault.domain.limits import LIMITS
from vault.domain.protocols import UnwrapItem
from vault.domain.types import KeyScope
from vault.keys import rewrapping
from vault.keys.phases import Phase
from vault.keys.rewrap_job import RewrapWish

pytestmark = pytest.mark.usefixtures("every_store")

__all__ = ["rotation_server"]

CUSTOMERS = 7
FRAUD = "fraud-detection"


@pytest.fixture
def clock() -> ToldClock:
    return ToldClock()


@pytest.fixture(params=["local", "transit"])
def house(request: pytest.FixtureRequest, tmp_path: Any, clock: ToldClock) -> Iterator[House]:
    """Customers with DEKs of two classes, under each provider."""
    server = request.getfixturevalue("rotation_server") if request.param == "transit" else None
    with open_rotation_house(tmp_path, clock, server) as opened:
        yield filled(opened)


@pytest.fixture
def local(tmp_path: Any, clock: ToldClock) -> Iterator[House]:
    """The same on local keys alone, for what is not the provider's doing."""
    with open_rotation_house(tmp_path, clock, None) as opened:
        yield filled(opened)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of rows are several pages."""
    monkeypatch.setattr(rewrapping, "_PAGE_ROWS", 3)


def filled(house: House) -> House:
    for number in range(CUSTOMERS):
        house.write(str(number), {"email": f"{number}@mail.example", "income": number})
    return house


def emails(house: House) -> list[Any]:
    """What reads with an empty cache answer."""
    forget(house)
    return [house.read(FRAUD, str(number), FRAUD, ["email"]).value("email") for number in range(CUSTOMERS)]


def oldest(house: House, word: str = "contact") -> int:
    return house.rooms.provider.info(f"datavault-{word}").min_decryption_version


def test_a_rewrap_ends_with_no_straggler_and_retires_the_old_versions(house: House, clock: ToldClock) -> None:
    """Every DEK of the class and no other one has the newest version, ciphertexts are untouched, reads go
    on; the versions before open no more, not even a copy of an old row, and both ends stand on record."""
    before = rotate(house, "contact") - 1
    newest = before + 1
    old = wrapped(house, "contact")
    values = house.sql("SELECT ciphertext FROM attribute_value ORDER BY 1")
    incomes = wrapped(house, "financial")
    phases = []
    for progress in rewrap(house, "contact"):
        clock.pass_by(progress.pause_seconds)
        if progress.phase not in phases:
            phases.append(progress.phase)
        if progress.phase is not Phase.DONE:
            assert oldest(house) <= before
    assert phases == [Phase.REWRAPPING, Phase.WAITING, Phase.CHECKING, Phase.DONE]
    assert (progress.rewrapped, progress.failed, progress.stragglers) == (CUSTOMERS, 0, 0)
    assert progress.min_decryption_version == oldest(house) == newest
    assert versions(house, "contact") == {newest: CUSTOMERS}
    assert wrapped(house, "financial") == incomes
    assert house.sql("SELECT ciphertext FROM attribute_value ORDER BY 1") == values
    assert emails(house) == [f"{number}@mail.example" for number in range(CUSTOMERS)]
    assert opened(house, old) == [KeyTooOldError] * CUSTOMERS
    assert stages(house, "keys.rotate") == [("authorised", "begun"), ("authorised", "done")]
    assert stages(house) == [("authorised", "begun"), ("authorised", "done")]


def opened(house: House, old: dict[bytes, bytes]) -> list[type]:
    """What the provider says to copies of wrapped DEKs."""
    owners = dict(house.sql("SELECT dek_id, subject FROM subject_key"))
    items = [
        UnwrapItem(text, key_context(KeyScope("retail", owners[dek_id], "contact")))
        for dek_id, text in old.items()
    ]
    return [type(answer) for answer in house.rooms.provider.unwrap("datavault-contact", items)]


def test_it_waits_one_longest_deadline_before_it_checks(local: House, clock: ToldClock) -> None:
    """So no call is left that read an old wrapped key when the old versions retire."""
    rotate(local, "contact")
    waits = [
        progress.pause_seconds
        for progress in taken(rewrap(local, "contact"), clock)
        if progress.phase is Phase.WAITING
    ]
    assert LIMITS.longest_deadline_seconds - 1 < sum(waits) <= LIMITS.longest_deadline_seconds


def test_an_old_key_that_comes_in_during_the_wait_is_rewrapped_too(local: House, clock: ToldClock) -> None:
    """The check finds what a write that began before the rotation put there: it begins again."""
    old = wrapped(local, "contact")
    rotate(local, "contact")
    late = next(iter(old))
    put_back = False
    for progress in rewrap(local, "contact"):
        clock.pass_by(progress.pause_seconds)
        if progress.phase is Phase.WAITING and not put_back:
            local.sql("UPDATE subject_key SET wrapped = ? WHERE dek_id = ?", old[late], late)
            put_back = True
        assert oldest(local) == 1 or progress.phase is Phase.DONE
    assert (progress.rewrapped, progress.stragglers) == (CUSTOMERS + 1, 0)
    assert oldest(local) == 2


def test_a_dry_run_counts_and_changes_nothing(local: House, clock: ToldClock) -> None:
    """One record says that somebody looked."""
    rotate(local, "contact")
    before = wrapped(local, "contact")
    progress = finish(rewrap(local, "contact", dry_run=True), clock)
    assert (progress.phase, progress.stragglers, progress.total) == (Phase.DONE, CUSTOMERS, CUSTOMERS)
    assert (progress.min_decryption_version, oldest(local)) == (1, 1)
    assert wrapped(local, "contact") == before
    assert stages(local) == [("authorised", "dry-run")]


def test_old_versions_stay_usable_where_that_is_wished(local: House, clock: ToldClock) -> None:
    """For backups that hold old wrapped keys; a later run retires them."""
    rotate(local, "contact")
    progress = finish(rewrap(local, "contact", keep_old_versions=True), clock)
    assert (progress.stragglers, progress.min_decryption_version, oldest(local)) == (0, 1, 1)
    assert finish(rewrap(local, "contact"), clock).min_decryption_version == 2


def test_what_does_not_open_is_named_and_keeps_the_old_versions(
    house: House, clock: ToldClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damaged rows are left, counted and named to operators; everything else is rewrapped."""
    keys = wrapped(house, "contact")
    damaged, foreign, *_ = keys
    change = "UPDATE subject_key SET wrapped = ? WHERE dek_id = ?"
    house.sql(change, keys[damaged][:-8] + b"ABCDEFGH", damaged)
    house.sql(change, b"of another provider", foreign)
    before = oldest(house)
    rotate(house, "contact")
    progress = finish(rewrap(house, "contact"), clock)
    assert (progress.rewrapped, progress.failed, progress.stragglers) == (CUSTOMERS - 2, 2, 2)
    assert oldest(house) == before
    assert stages(house)[-1] == ("partial", "done")
    said = capsys.readouterr()
    assert damaged.hex() in said.out + said.err
    assert foreign.hex() in said.out + said.err


def test_a_job_that_is_broken_off_loses_nothing_and_the_next_goes_on(local: House, clock: ToldClock) -> None:
    """What was rewrapped stays so; the log says that it was broken off."""
    rotate(local, "contact")
    steps = rewrap(local, "contact")
    while next(steps).rewrapped == 0:
        pass
    steps.close()
    done = versions(local, "contact")[2]
    assert 0 < done < CUSTOMERS
    assert stages(local)[-1] == ("partial", "broken-off")
    assert finish(rewrap(local, "contact"), clock).rewrapped == CUSTOMERS - done
    assert versions(local, "contact") == {2: CUSTOMERS}


@pytest.mark.parametrize("turns", ["ab", "aab", "abb"])
def test_two_rewraps_at_once_do_no_harm(local: House, clock: ToldClock, turns: str) -> None:
    """However their steps fall, both end clean and every DEK was rewrapped once."""
    rotate(local, "contact")
    jobs = {name: rewrap(local, "contact") for name in "ab"}
    last: dict[str, Any] = {}
    while jobs:
        for turn in turns:
            progress = next(jobs[turn], None) if turn in jobs else None
            if progress is None:
                jobs.pop(turn, None)
            else:
                last[turn] = progress
                clock.pass_by(progress.pause_seconds)
    assert [last[name].stragglers for name in "ab"] == [0, 0]
    assert last["a"].rewrapped + last["b"].rewrapped == CUSTOMERS
    assert emails(local) == [f"{number}@mail.example" for number in range(CUSTOMERS)]


def test_a_row_that_goes_or_changes_meanwhile_is_left_alone(
    local: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure between the provider's answer and the update is no error, and is not undone."""
    rotate(local, "contact")
    provider = local.rooms.provider
    real = provider.rewrap

    def slow(key: str, items: Any) -> Any:
        answers = real(key, items)
        local.sql("DELETE FROM subject_key WHERE wrapped = ?", items[0].wrapped)
        return answers

    monkeypatch.setattr(provider, "rewrap", slow)
    progress = finish(rewrap(local, "contact"), clock)
    assert (progress.stragglers, progress.failed, oldest(local)) == (0, 0, 2)
    assert len(wrapped(local, "contact")) == progress.rewrapped < CUSTOMERS


def test_a_provider_that_fails_ends_it_on_record(
    local: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job says why it stopped; run again it goes on."""
    rotate(local, "contact")
    provider = local.rooms.provider
    with monkeypatch.context() as patch:
        patch.setattr(provider, "retire", unavailable)
        with pytest.raises(KeysUnavailableError):
            finish(rewrap(local, "contact"), clock)
    assert stages(local)[-1] == ("error", "failed")
    assert finish(rewrap(local, "contact"), clock).min_decryption_version == 2


def unavailable(*_: Any) -> None:
    raise KeysUnavailableError("the KMS does not answer")


def test_the_rate_is_kept_by_pauses(local: House, clock: ToldClock) -> None:
    """At 2 keys a second each page has 2 keys and takes a second."""
    rotate(local, "contact")
    pauses = [
        progress.pause_seconds
        for progress in taken(rewrap(local, "contact", keys_per_second=2, keep_old_versions=True), clock)
        if progress.pause_seconds
    ]
    assert len(pauses) == (CUSTOMERS + 1) // 2
    assert all(0.3 < pause <= 1 for pause in pauses)


@pytest.mark.parametrize("word", ["lookup", "pseudonym"])
def test_the_keys_of_tenants_are_rewrapped_too(
    house: House, clock: ToldClock, tmp_path: Any, word: str
) -> None:
    """A process that starts afterwards opens them."""
    rotate(house, word)
    progress = finish(rewrap(house, word), clock)
    assert (progress.total, progress.rewrapped, progress.stragglers) == (1, 1, 0)
    house.pipelines.tenant_keys.__init__(  # type: ignore[misc]
        house.rooms.provider, house.pipelines.tenant_keys._repository, house.rooms.randomness
    )
    house.pipelines.tenant_keys.warm("retail")
    assert emails(house)[0] == "0@mail.example"


@pytest.mark.parametrize(
    ("word", "more", "said"),
    [
        ("contcat", {}, "did you mean 'contact'"),
        ("log", {}, "signs and wraps no keys"),
        ("contact", {"keys_per_second": -1}, "keys_per_second"),
    ],
)
def test_a_wrong_wish_is_refused_on_record(
    local: House, clock: ToldClock, word: str, more: dict[str, Any], said: str
) -> None:
    """The error names the field, and what would be right."""
    with pytest.raises(InvalidArgumentError, match=said):
        finish(rewrap(local, word, **more), clock)
    assert stages(local) == [("error", "")]


def test_whoever_may_not_rewrap_does_nothing(local: House) -> None:
    """The denial is on record."""
    steps = local.pipelines.keys.rewrap.run(local.caller("importer"), RewrapWish("contact"))
    with pytest.raises(NotPermittedError):
        next(steps)
    assert stages(local) == [("denied", "")]


# --- what meets a version that is retired while it is under way ---------------------------------------------


def retire_before_unwrapping(house: House, clock: ToldClock, patch: pytest.MonkeyPatch) -> None:
    """From the moment the next read or write has loaded its row, the version that wraps it is retired."""
    forget(house)
    rotate(house, "contact")
    provider = house.rooms.provider
    real = provider.unwrap

    def unwrap(key: str, items: Any) -> Any:
        patch.setattr(provider, "unwrap", real)
        finish(rewrap(house, "contact"), clock)
        return real(key, items)

    patch.setattr(provider, "unwrap", unwrap)


def test_a_read_that_meets_a_retired_version_reads_the_row_once_more(
    house: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its wrapped key no longer opens; the row it came from has another one by now."""
    retire_before_unwrapping(house, clock, monkeypatch)
    assert house.read(FRAUD, "3", FRAUD, ["email"]).value("email") == "3@mail.example"


def test_a_write_that_meets_a_retired_version_prepares_once_more(
    house: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written under the DEK that the customer has."""
    retire_before_unwrapping(house, clock, monkeypatch)
    assert dict(house.write("3", {"email": "new@mail.example"}).versions) == {"email": 2}
    assert house.read(FRAUD, "3", FRAUD, ["email"]).value("email") == "new@mail.example"
    assert len(wrapped(house, "contact")) == CUSTOMERS


def test_a_write_that_stood_still_meanwhile_is_prepared_again(
    local: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has wrapped by then opens no more: nothing is committed under a retired version."""
    stall_after_wrapping(local, clock, monkeypatch, "contact")
    local.write("late", {"email": "late@mail.example"})
    assert versions(local, "contact") == {2: CUSTOMERS + 1}
    forget(local)
    assert local.read(FRAUD, "late", FRAUD, ["email"]).value("email") == "late@mail.example"


def test_a_version_that_was_retired_too_early_is_no_endless_loop(local: House) -> None:
    """Somebody raised it by hand: reads and writes of that class say that the key is not to be had."""
    forget(local)
    rotate(local, "contact")
    local.rooms.provider.retire("datavault-contact", 2)
    found = local.read(FRAUD, "3", FRAUD, ["email", "income"])
    assert found.denied["email"].reason.value == "key-unavailable"
    assert found.value("income") == 3
    with pytest.raises(KeysUnavailableError):
        local.write("3", {"email": "new@mail.example"})
