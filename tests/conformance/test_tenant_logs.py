"""A log per tenant (DATAVAULT_LOGS=tenant), on every store."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.pipelines import House, another_replica, open_house
from tests.support.postgres import SERVICE_USER, SUPERUSER
from tests.support.stores import SQLITE
from tests.support.tenants import (
    PRIVATE,
    RETAIL,
    TENANTS,
    ask,
    caller_of,
    logs_of,
    origin_of,
    read,
    rotate,
    signed,
    tenant_policies,
    verified,
    write,
)
from vault.audit import opening
from vault.audit.outside import events_folder
from vault.client.results import Disclosure
from vault.domain.errors import AuditUnavailableError, IntegrityError
from vault.erasing.receipts import Erasure
from vault.homes import verifier_keys, verify_logs
from vault.keys.log_rotation import LogKeyAnnouncer
from vault.reloading import PolicyReloader

pytestmark = pytest.mark.usefixtures("every_store")

NEW = "wealth"


class Killed(BaseException):
    """Stands for the process ending: nothing may catch it and go on."""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    return tenant_policies(tmp_path / "policies", TENANTS)


@pytest.fixture
def house(tmp_path: Path, policies: Path) -> Iterator[House]:
    with open_house(tmp_path, policies=policies, logs="tenant") as opened:
        yield opened


def superuser(house: House) -> str:
    return house.rooms.settings.database.replace(f"://{SERVICE_USER}@", f"://{SUPERUSER}@")


def test_each_tenant_has_a_gapless_log_that_verifies(house: House) -> None:
    """Two tenants' records go to two logs, numbered each by itself, and both verify."""
    for _ in range(3):
        for tenant in TENANTS:
            write(house, tenant)
            assert read(house, tenant) == f"{tenant}@mail.example"
    logs = logs_of(house)
    assert logs.keys() == {origin_of(tenant) for tenant in TENANTS}
    for tenant in TENANTS:
        records = logs[origin_of(tenant)]
        assert {record["tenant"] for record in records} == {tenant}
        assert [record["action"] for record in records] == ["write", "read"] * 3
    reports = verified(house)
    assert {
        origin: (report.problems, report.size, report.signed_size) for origin, report in reports.items()
    } == {origin_of(tenant): ([], 6, 6) for tenant in TENANTS}


def test_positions_count_in_each_tenants_own_log(house: House) -> None:
    """A group with reads of two tenants: each answer has its place in its tenant's log."""
    for tenant in TENANTS:
        write(house, tenant)
    group = [ask(house, tenant) for tenant in (RETAIL, PRIVATE, RETAIL, PRIVATE)]
    answers = house.read_group(group)
    assert [answer.position for answer in answers if isinstance(answer, Disclosure)] == [1, 1, 2, 2]
    assert all(not report.problems for report in verified(house).values())


def test_a_log_that_takes_nothing_holds_up_its_own_tenant_alone(house: House) -> None:
    """In one group: what cannot be recorded is not released, and the other tenant's read is answered."""
    for tenant in TENANTS:
        write(house, tenant)
        read(house, tenant)
    house.sql("UPDATE log SET state = 'closed' WHERE origin = ?", origin_of(PRIVATE))
    refused, answered = house.read_group([ask(house, PRIVATE), ask(house, RETAIL)])
    assert isinstance(refused, AuditUnavailableError)
    assert isinstance(answered, Disclosure)
    assert answered.value("email") == "retail@mail.example"
    assert house.pipelines.recorder.problem() == "the audit log is closed"
    house.sql("UPDATE log SET state = 'active'")
    assert house.pipelines.recorder.problem() == ""


def test_a_tenant_does_not_wait_for_the_head_row_of_another(house: House, every_store: str) -> None:
    """While somebody holds one tenant's head row, the other's reads and changes are committed."""
    if every_store == SQLITE:
        pytest.skip("SQLite has one writer at a time")
    for tenant in TENANTS:
        write(house, tenant)
        read(house, tenant)
    with psycopg.connect(superuser(house)) as other:
        other.execute("SELECT size FROM log WHERE origin = %s FOR UPDATE", [origin_of(PRIVATE)])
        assert read(house, RETAIL) == "retail@mail.example"
        write(house, RETAIL, "c-2")
        with pytest.raises(AuditUnavailableError):
            read(house, PRIVATE)
    assert read(house, PRIVATE) == "private@mail.example"


def test_logs_go_on_after_a_restart(tmp_path: Path, policies: Path) -> None:
    """The same logs are opened again, and go on where they were."""
    for round in range(2):
        with open_house(tmp_path, policies=policies, logs="tenant") as house:
            for tenant in TENANTS:
                write(house, tenant)
            assert {origin: len(records) for origin, records in logs_of(house).items()} == {
                origin_of(tenant): round + 1 for tenant in TENANTS
            }
            assert all(not report.problems for report in verified(house).values())


def test_a_replica_starts_while_another_one_signs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that gets outside between the start's look at a log and its look there refuses nothing."""
    look, left = opening.open_log, [1, 2]

    def slow(*arguments: Any, **options: Any) -> Any:
        opened = look(*arguments, **options)
        if left:
            left.pop()
            for tenant in TENANTS:
                write(house, tenant)
            house.pipelines.integrator.run_once()
        return opened

    monkeypatch.setattr(opening, "open_log", slow)
    replica = another_replica(house)
    assert not left
    assert read(replica, PRIVATE) == "private@mail.example"


def test_receipts_and_events_outside_name_the_tenants_log(house: House) -> None:
    """What an erasure leaves, its receipt and its tombstone, belongs to the log of its tenant."""
    for tenant in TENANTS:
        write(house, tenant)
    office = house.caller(caller_of(PRIVATE, "privacy-office"))
    outcome = house.pipelines.erasure.erase(office, Erasure(house.pipelines.recorder.new_id(), "c-1"))
    assert outcome.receipt is not None
    assert json.loads(outcome.receipt.raw)["log"]["origin"] == origin_of(PRIVATE)
    house.pipelines.integrator.run_once()
    store = house.rooms.outside
    assert store.entries(events_folder(origin_of(PRIVATE))) == [f"{origin_of(PRIVATE)}/events/{1:020d}.json"]
    assert store.entries(events_folder(origin_of(RETAIL))) == []


# --- integration -------------------------------------------------------------------------------------------


def test_damage_in_one_log_does_not_stop_the_others(house: House) -> None:
    """The log with a gap is not signed on, the other one is, and the lag is that of the damaged one."""
    for tenant in TENANTS:
        write(house, tenant)
    house.pipelines.integrator.run_once()
    for tenant in TENANTS:
        write(house, tenant)
    write(house, PRIVATE)
    write(house, PRIVATE)
    house.sql(
        'DELETE FROM log_entry WHERE "index" = 2 AND log = (SELECT log FROM log WHERE origin = ?)',
        origin_of(PRIVATE),
    )
    for _ in range(2):
        with pytest.raises(IntegrityError):
            house.pipelines.integrator.run_once()
    assert signed(house) == {origin_of(RETAIL): 2, origin_of(PRIVATE): 1}
    assert house.pipelines.integrator.lag_seconds() > 0


def test_replicas_share_the_logs(house: House, every_store: str) -> None:
    """A log that another replica is integrating is left to it, and the others are integrated meanwhile."""
    if every_store == SQLITE:
        pytest.skip("SQLite has one writer at a time")
    for tenant in TENANTS:
        write(house, tenant)
    ((log,),) = house.sql("SELECT log FROM log WHERE origin = ?", origin_of(PRIVATE))
    with psycopg.connect(superuser(house)) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s::int, %s::int)", [0x64767600, log])
        house.pipelines.integrator.run_once()
        assert signed(house) == {origin_of(RETAIL): 1, origin_of(PRIVATE): 0}
    house.pipelines.integrator.run_once()
    assert signed(house) == {origin_of(RETAIL): 1, origin_of(PRIVATE): 1}


def test_a_log_that_another_replica_opened_is_integrated(tmp_path: Path, house: House) -> None:
    """A replica that has not reloaded its policies yet integrates the new tenant's log too."""
    tenant_policies(tmp_path / "policies", (*TENANTS, NEW))
    with_new = another_replica(house)
    asyncio.run(PolicyReloader(with_new.rooms, with_new.pipelines).reload())
    write(with_new, NEW)
    house.pipelines.integrator.run_once()
    assert signed(house)[origin_of(NEW)] == 1


# --- the log key -------------------------------------------------------------------------------------------


def test_the_log_key_is_rotated_in_every_log(house: House) -> None:
    """One rotation announces one new version in each log, on record for its tenant; each verifies after it
    from the key it had before."""
    before = verifier_keys(house.rooms.settings)
    for tenant in TENANTS:
        write(house, tenant)
    house.pipelines.integrator.run_once()
    rotated = rotate(house)
    assert rotated.verifier_key.startswith(f"{origin_of(RETAIL)}+")
    for tenant in TENANTS:
        write(house, tenant)
        announced = logs_of(house)[origin_of(tenant)][1]
        assert (announced["action"], announced["tenant"]) == ("log.key", tenant)
    verified(house)
    after = verifier_keys(house.rooms.settings)
    assert [key.partition("+")[0] for key in after] == [origin_of(PRIVATE)] * 2 + [origin_of(RETAIL)] * 2
    reports = verify_logs(house.rooms.settings, before, "", lambda done, total: None)
    assert [(report.problems, report.signed_size) for report in reports] == [([], 3)] * 2


def test_a_rotation_that_died_between_two_logs_is_finished_by_the_next(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logs that were left behind get the version that the others have."""
    announce, left = LogKeyAnnouncer.announce, [1]

    def sometimes(self: LogKeyAnnouncer, *arguments: Any) -> Any:
        if not left:
            raise Killed
        left.pop()
        return announce(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(LogKeyAnnouncer, "announce", sometimes)
        with pytest.raises(Killed):
            rotate(house)
    assert rotate(house).version == 2
    announced = [record["action"] for records in logs_of(house).values() for record in records]
    assert announced == ["log.key", "log.key"]
    assert all(not report.problems for report in verified(house).values())


# --- a new tenant ------------------------------------------------------------------------------------------


def test_a_new_tenants_log_is_open_before_its_first_call(tmp_path: Path, house: House) -> None:
    """Policies that name a new tenant come into force with its log."""
    tenant_policies(tmp_path / "policies", (*TENANTS, NEW))
    asyncio.run(PolicyReloader(house.rooms, house.pipelines).reload())
    write(house, NEW)
    assert read(house, NEW) == "wealth@mail.example"
    assert [record["tenant"] for record in logs_of(house)[origin_of(NEW)]] == [NEW, NEW]
    assert not verified(house)[origin_of(NEW)].problems


def test_policies_of_a_tenant_whose_log_was_lost_are_not_taken(tmp_path: Path, house: House) -> None:
    """Where the outside store knows more of the new tenant's log, the last good policies stay in force."""
    house.rooms.outside.put(f"{events_folder(origin_of(NEW))}/{7:020d}.json", b"{}")
    before = house.rooms.policy.current
    tenant_policies(tmp_path / "policies", (*TENANTS, NEW))
    asyncio.run(PolicyReloader(house.rooms, house.pipelines).reload())
    assert house.rooms.policy.current is before
    assert not house.pipelines.recorder.logs.knows(NEW)
