"""Rotation of lookup keys on a real database: everyone is found all the time, nobody twice, and it ends."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lookups import (
    FRAUD,
    PORTAL,
    TENANT,
    begun,
    email,
    lookups,
    open_lookup_house,
    replica_of,
    rotated,
    rotation,
    taken,
    versions,
)
from tests.support.pipelines import House
from tests.support.rotation import OPERATOR, ToldClock, stages
from vault import housekeeping
from vault.crypto.local import LocalKeyProvider
from vault.disclosure import DisclosurePipeline
from vault.domain.errors import (
    DatavaultError,
    InvalidArgumentError,
    KeysUnavailableError,
    NotFoundError,
    NotPermittedError,
    RequestIdReusedError,
    StoreUnavailableError,
)
from vault.domain.limits import LIMITS
from vault.intake import IntakePipeline
from vault.keys import lookup_indexing
from vault.keys.phases import Phase
from vault.store.lookups import LookupIndex

pytestmark = pytest.mark.usefixtures("every_store")

CUSTOMERS = [f"47{n:02}" for n in range(7)]
ACTION = "keys.rotate-lookup"
DAY = 86_400
LOSE_ONE = (
    "DELETE FROM subject_lookup WHERE key_version = 2 AND subject = (SELECT subject FROM subject LIMIT 1)"
)
NUMBER = "UPDATE attribute_value SET ciphertext = ? WHERE attribute = '$customer-number' AND subject = ?"


@pytest.fixture
def clock() -> ToldClock:
    return ToldClock()


@pytest.fixture
def house(tmp_path: Path, clock: ToldClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Seven customers, looked at in pages of three."""
    monkeypatch.setattr(lookup_indexing, "_PAGE_ROWS", 3)
    with open_lookup_house(tmp_path, clock) as opened:
        opened.write_group([opened.draft(number, {"email": f"{number}@b.example"}) for number in CUSTOMERS])
        yield opened


def all_found(house: House) -> bool:
    """Whether every customer is read as written, and there are no others."""
    found = [email(house, number) for number in CUSTOMERS]
    subjects = house.sql("SELECT count(*) FROM subject")[0][0]
    return found == [f"{number}@b.example" for number in CUSTOMERS] and subjects == len(CUSTOMERS)


# --- the way it goes --------------------------------------------------------------------------------------


def test_a_rotation_indexes_everyone_and_retires_the_old_key(house: House, clock: ToldClock) -> None:
    """In the end every customer has one row, of the new version, and the old one is retired."""
    last = rotated(house, clock)
    assert (last.phase, last.indexed, last.total, last.failed, last.version) == (Phase.DONE, 7, 7, 0, 2)
    assert versions(house) == {1: False, 2: True}
    assert list(lookups(house).values()) == [[2]] * 7
    assert all_found(house)
    assert house.verify().problems == []


def test_every_customer_is_found_between_any_two_steps(house: House, clock: ToldClock) -> None:
    """A replica that takes part and one that does not read everyone at every step."""
    other = replica_of(house)
    phases: list[Phase] = []
    for progress in rotation(house):
        clock.pass_by(progress.pause_seconds)
        if progress.phase is not Phase.WAITING or phases[-1] is not Phase.WAITING:
            assert all_found(house)
            assert all_found(other)
        phases.append(progress.phase)
    assert list(dict.fromkeys(phases)) == [Phase.REWRAPPING, Phase.WAITING, Phase.CHECKING, Phase.DONE]


def test_it_waits_one_longest_deadline_before_it_checks(house: House, clock: ToldClock) -> None:
    """Calls that began before the new key was in the table have ended by then."""
    waits = [each.pause_seconds for each in taken(rotation(house), clock) if each.phase is Phase.WAITING]
    assert sum(waits) == pytest.approx(LIMITS.longest_deadline_seconds, abs=1)


def test_a_customer_who_turns_up_while_it_waits_is_indexed_and_waited_for(
    house: House, clock: ToldClock
) -> None:
    """Only a pass in which nobody had to be indexed ends it."""
    steps = rotation(house)
    seen: list[Phase] = []
    for progress in steps:
        clock.pass_by(progress.pause_seconds)
        if progress.phase is Phase.WAITING and Phase.WAITING not in seen:
            # as a call leaves it that looked before the rotation began and committed after the first pass
            house.sql(LOSE_ONE)
        if not seen or seen[-1] is not progress.phase:
            seen.append(progress.phase)
    assert seen == [
        Phase.REWRAPPING, Phase.WAITING, Phase.CHECKING, Phase.WAITING, Phase.CHECKING, Phase.DONE,
    ]  # fmt: skip
    assert list(lookups(house).values()) == [[2]] * 7


def test_its_beginning_its_turn_and_its_end_are_on_record(house: House, clock: ToldClock) -> None:
    """Each change of the key table commits with a record; the last progress names the last one."""
    last = rotated(house, clock)
    assert stages(house, ACTION) == [("authorised", stage) for stage in ("begun", "retired", "done")]
    record = house.records()[-1]
    assert last.recorded is not None
    assert record["id"] == last.recorded.record_id
    assert record["detail"] == {"key": "lookup", "stage": "done", "version": 2, "indexed": 7, "failed": 0}


def test_a_second_rotation_makes_a_third_key(house: House, clock: ToldClock) -> None:
    """Versions are never used again, and a key retired before stays retired."""
    rotated(house, clock)
    assert rotated(house, clock).version == 3
    assert versions(house) == {1: False, 2: False, 3: True}
    assert list(lookups(house).values()) == [[3]] * 7
    assert all_found(house)


def test_a_dry_run_changes_nothing(house: House, clock: ToldClock) -> None:
    """It tells what a rotation would do, and is on record."""
    (only,) = taken(rotation(house, dry_run=True), clock)
    assert (only.phase, only.indexed, only.total, only.version) == (Phase.DONE, 0, 7, 2)
    assert versions(house) == {1: True}
    assert stages(house, ACTION) == [("authorised", "dry-run")]


def test_it_goes_no_faster_than_it_may(house: House, clock: ToldClock) -> None:
    """After a page of customers it asks for the time that they may take."""
    steps = rotation(house, subjects_per_second=2)
    first = next(each for each in steps if each.pause_seconds)
    assert first.pause_seconds == pytest.approx(1, abs=0.9)
    assert first.indexed == 2
    steps.close()


def test_tenants_rotate_apart(house: House, clock: ToldClock) -> None:
    """Another tenant's key and customers stay as they are."""
    house.pipelines.tenant_keys.warm("wholesale")
    rotated(house, clock)
    kept = house.sql("SELECT version FROM tenant_key WHERE tenant = 'wholesale' AND use = 'lookup'")
    assert kept == [(1,)]


# --- broken off, killed, at once --------------------------------------------------------------------------


def test_a_rotation_killed_after_any_step_is_ended_by_the_next_run(house: House, clock: ToldClock) -> None:
    """Nothing but the table is needed to go on; nobody is lost or doubled in between."""
    for steps_taken in range(1, 10):
        killed, done = rotation(house), 0
        while done < steps_taken:
            # the wait is one step here
            done += (progress := next(killed)).phase is not Phase.WAITING
            clock.pass_by(progress.pause_seconds)
        # a process that is killed closes nothing: its successor knows what the table holds
        heir = replica_of(house)
        assert all_found(heir)
        assert rotated(heir, clock, resume_only=True).failed == 0
        assert [version for version, in_force in versions(house).items() if in_force] == [steps_taken + 1]
        assert list(lookups(house).values()) == [[steps_taken + 1]] * 7
        assert all_found(heir)
        killed.close()


def test_closing_it_breaks_it_off_on_record(house: House) -> None:
    """Both keys stay in force, and whoever looks sees where it stopped."""
    begun(house).close()
    assert versions(house) == {1: True, 2: True}
    assert stages(house, ACTION) == [("authorised", "begun"), ("partial", "broken-off")]
    assert all_found(house)


def test_resume_only_begins_nothing(house: House, clock: ToldClock) -> None:
    """Where no rotation is under way there is nothing to go on with."""
    last = rotated(house, clock, resume_only=True)
    assert (last.phase, last.version, last.indexed) == (Phase.DONE, 1, 7)
    assert versions(house) == {1: True}


def test_two_at_once_do_no_harm(house: House, clock: ToldClock) -> None:
    """The second goes on with the first's key; whichever ends first, both end."""
    first, second = rotation(house), rotation(replica_of(house))
    ends: dict[str, int] = {}
    while len(ends) < 2:
        for name, steps in (("first", first), ("second", second)):
            if name not in ends and (progress := next(steps)).phase is Phase.DONE:
                ends[name] = progress.version
            clock.pass_by(1)
    assert ends == {"first": 2, "second": 2}
    assert list(lookups(house).values()) == [[2]] * 7
    assert all_found(house)


def test_a_store_that_fails_breaks_it_off_on_record(
    house: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was indexed stays, and the next run ends it."""
    steps = begun(house)

    def fail(*_: Any) -> Any:
        raise StoreUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(LookupIndex, "reseal", fail)
        with pytest.raises(StoreUnavailableError):
            next(steps)
    assert stages(house, ACTION)[-1] == ("error", "failed")
    assert all(found == [1] for found in lookups(house).values())
    assert rotated(house, clock).indexed == 7


# --- what does not open -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        (NUMBER, bytes(80)),
        (NUMBER, None),
        ("UPDATE subject_lookup SET mac = ? WHERE subject = ?", bytes(32)),
    ],
    ids=["changed", "cleared", "another's row"],
)
def test_a_customer_who_cannot_be_indexed_keeps_the_old_key_in_force(
    house: House, clock: ToldClock, damage: tuple[str, bytes | None]
) -> None:
    """They are counted and left, everyone else is indexed, and the rotation does not end."""
    ((subject,),) = house.sql("SELECT subject FROM subject LIMIT 1")
    statement, content = damage
    house.sql(statement, content, subject)
    last = rotated(house, clock)
    assert (last.phase, last.indexed, last.failed) == (Phase.DONE, 6, 1)
    assert versions(house) == {1: True, 2: True}
    assert lookups(house)[subject] == [1]
    assert stages(house, ACTION)[-1] == ("partial", "done")


def test_two_customers_with_one_number_are_left(house: House, clock: ToldClock) -> None:
    """A number's new row that leads elsewhere already is not written over."""
    begun(house).close()
    ((mac, subject),) = house.sql("SELECT mac, subject FROM subject_lookup WHERE key_version = 1 LIMIT 1")
    new = house.pipelines.tenant_keys.lookup(TENANT)
    number = next(each for each in CUSTOMERS if mac in new.macs(each))
    ((other,),) = house.sql("SELECT subject FROM subject WHERE subject <> ? LIMIT 1", subject)
    house.sql("INSERT INTO subject_lookup VALUES (?, ?, 2, ?)", TENANT, new.mac(number), other)
    assert rotated(house, clock).failed == 1
    assert email(house, number) == "INTEGRITY"


# --- a replica that has not heard of it -------------------------------------------------------------------


def test_a_first_write_by_a_replica_with_the_old_key_makes_one_customer(
    house: House, clock: ToldClock
) -> None:
    """It finds out inside its transaction, and inserts under both keys."""
    old = replica_of(house)
    steps = begun(house)
    old.write("4800", {"email": "new@b.example"})
    house.write("4800", {"email": "newer@b.example"})
    ((subject,),) = house.sql("SELECT subject FROM subject ORDER BY created_at DESC LIMIT 1")
    assert lookups(house)[subject] == [1, 2]
    assert house.sql("SELECT count(*) FROM subject") == [(8,)]
    assert email(old, "4800") == "newer@b.example"
    steps.close()


def test_a_first_write_that_was_prepared_before_the_rotation_began_is_prepared_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rotation begins between its look for the customer and its transaction."""
    old, commit = replica_of(house), IntakePipeline._commit
    steps: list[Any] = []

    def late(self: Any, *arguments: Any) -> None:
        if not steps:
            steps.append(begun(house))
        commit(self, *arguments)

    monkeypatch.setattr(IntakePipeline, "_commit", late)
    assert old.write("4800", {"email": "new@b.example"}).subject_created
    assert [1, 2] in lookups(house).values()
    steps[0].close()


def test_a_first_consent_by_a_replica_with_the_old_key_makes_one_customer(house: House) -> None:
    """Consent events enrol customers too."""
    old = replica_of(house)
    begun(house).close()
    old.record("4800", "personalised-offers", "given")
    house.record("4800", "personalised-offers", "withdrawn")
    assert [1, 2] in lookups(house).values()
    assert house.sql("SELECT count(*) FROM subject") == [(8,)]


def test_a_replica_with_a_retired_key_finds_everyone(house: House, clock: ToldClock) -> None:
    """Reads, changes, consents, looks at consent: none of them takes a customer for unknown."""
    old = [replica_of(house) for _ in range(5)]
    rotated(house, clock)
    number = CUSTOMERS[0]
    assert email(old[0], number) == f"{number}@b.example"
    assert not old[1].write(number, {"email": "x@b.example"}, jurisdictions=()).subject_created
    assert old[2].record(number, "marketing", "objected", caller="privacy-office").token.seq == 1
    portal = old[3].caller(PORTAL)
    assert old[3].pipelines.views.overview(portal, number).jurisdictions == ("EU",)
    assert old[4].restrict(number).token.seq == 2
    assert house.sql("SELECT count(*) FROM subject") == [(7,)]


def test_nobody_is_found_who_does_not_exist(house: House, clock: ToldClock) -> None:
    """A miss is believed once the keys were read again."""
    old, older = replica_of(house), replica_of(house)
    rotated(house, clock)
    assert email(old, "no-such-customer") == "not-available"
    with pytest.raises(NotFoundError):
        older.restrict("no-such-customer")


def test_a_group_leaves_for_the_new_key_once_and_together(
    house: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are read again once for all members who need them."""
    old = replica_of(house)
    rotated(house, clock)
    reads = [old.ask(FRAUD, number, FRAUD, ["email"]) for number in CUSTOMERS]
    disclose, sizes = DisclosurePipeline.disclose, []

    def counted(self: Any, group: Any) -> Any:
        sizes.append(len(group))
        return disclose(self, group)

    monkeypatch.setattr(DisclosurePipeline, "disclose", counted)
    assert len(old.read_group(reads)) == 7
    # once for the lookup key, once more for the DEKs, which this replica never had
    assert sizes == [7, 7, 7]


def test_without_the_new_key_what_is_indexed_anew_is_unavailable_and_not_unknown(
    house: House, clock: ToldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica whose KMS is down while others rotate says so; when it is back it answers."""
    old = replica_of(house)
    rotated(house, clock)
    unwrap = LocalKeyProvider.unwrap

    def down(self: LocalKeyProvider, key: str, items: Any) -> Any:
        if key == "datavault-lookup":
            raise KeysUnavailableError("down")
        return unwrap(self, key, items)

    with monkeypatch.context() as patch:
        patch.setattr(LocalKeyProvider, "unwrap", down)
        assert email(old, CUSTOMERS[0]) == "KEYS_UNAVAILABLE"
        with pytest.raises(KeysUnavailableError):
            old.write("4800", {"email": "new@b.example"})
    assert email(old, CUSTOMERS[0]) == f"{CUSTOMERS[0]}@b.example"
    assert all_found(old)


# --- repeats ----------------------------------------------------------------------------------------------


def test_a_request_repeated_across_a_rotation_is_known_as_one(house: House, clock: ToldClock) -> None:
    """Before, during and after it, on replicas that know of it and on others, until it is forgotten."""
    draft = house.draft(CUSTOMERS[0], {"email": "again@b.example"}, request_id="request-1")
    changed = house.draft(CUSTOMERS[0], {"email": "other@b.example"}, request_id="request-1")
    (first,) = house.write_group([draft])
    old = replica_of(house)
    steps = begun(house)
    later = house.draft(CUSTOMERS[1], {"email": "later@b.example"}, request_id="request-2")
    house.write_group([later])
    assert old.write_group([later])[0].replayed  # type: ignore[union-attr]
    taken(steps, clock)
    for each in (house, old, replica_of(house)):
        (again,) = each.write_group([draft])
        assert not isinstance(again, DatavaultError)
        assert not isinstance(first, DatavaultError)
        assert (again.replayed, again.record_id) == (True, first.record_id)
        assert isinstance(each.write_group([changed])[0], RequestIdReusedError)


def test_a_consent_repeated_across_a_rotation_is_known_as_one(house: House, clock: ToldClock) -> None:
    """The same holds for consent events."""
    wish = {"caller": "privacy-office", "request_id": "request-1"}
    first = house.record(CUSTOMERS[0], "marketing", "objected", **wish)
    old = replica_of(house)
    rotated(house, clock)
    for each in (house, old):
        again = each.record(CUSTOMERS[0], "marketing", "objected", **wish)
        assert (again.replayed, again.token.event_id) == (True, first.token.event_id)


def forget_old(house: House) -> None:
    async def run(work: Any) -> Any:
        return work()

    asyncio.run(housekeeping.forget_old(run, house.rooms.database, house.rooms.clock))


@pytest.mark.parametrize(("days", "kept"), [(7.5, {1: False, 2: True}), (8.5, {2: True})])
def test_a_retired_key_goes_after_the_requests_it_recognises(
    house: House, clock: ToldClock, days: float, kept: dict[int, bool]
) -> None:
    """It is kept longer than any request made under it, and then deleted; memory forgets it when told."""
    rotated(house, clock)
    clock.pass_by(days * DAY)
    forget_old(house)
    assert versions(house) == kept
    assert not house.sql("SELECT 1 FROM request")
    house.pipelines.tenant_keys.refresh_all()
    assert [key.version for key in house.pipelines.tenant_keys.lookup(TENANT).kept] == sorted(kept)[::-1]
    assert all_found(house)


# --- who may ----------------------------------------------------------------------------------------------


def test_who_may_not_rotate_is_refused_on_record(house: House) -> None:
    """The importer has no right to keys; nothing begins."""
    with pytest.raises(NotPermittedError):
        next(rotation(house, caller="importer"))
    assert (house.records()[-1]["action"], house.records()[-1]["outcome"]) == (ACTION, "denied")
    assert versions(house) == {1: True}


def test_a_negative_rate_is_refused_on_record(house: House) -> None:
    """The field is named."""
    with pytest.raises(InvalidArgumentError) as caught:
        next(rotation(house, subjects_per_second=-1))
    assert [each.field for each in caught.value.violations] == ["subjects_per_second"]
    assert house.records()[-1]["outcome"] == "error"


def test_an_erased_customer_stays_erased(house: House, clock: ToldClock) -> None:
    """Who is erased while a rotation is under way has no lookup row of any version."""
    ((subject,),) = house.sql("SELECT subject FROM subject LIMIT 1")
    begun(house).close()
    house.sql("DELETE FROM subject_lookup WHERE subject = ?", subject)
    last = rotated(house, clock)
    assert (last.indexed, last.total, last.failed) == (6, 6, 0)
    assert subject not in lookups(house)
    assert OPERATOR in {record["caller"] for record in house.records()}
