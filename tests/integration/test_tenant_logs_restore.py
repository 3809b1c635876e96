"""A log per tenant, and a database that lost records: the start names the log, and an adoption goes on."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.backup import back_up, put_back
from tests.support.identity import FAKES_ARE_FINE
from tests.support.pipelines import House, open_house
from tests.support.service import ORIGIN
from tests.support.tenants import (
    PRIVATE,
    RETAIL,
    TENANTS,
    caller_of,
    logs_of,
    origin_of,
    read,
    signed,
    tenant_policies,
    verified,
    write,
)
from vault import homes
from vault.audit import restore
from vault.config import Settings
from vault.domain.errors import ConfigurationError, StartRefusedError

pytestmark = [FAKES_ARE_FINE, pytest.mark.usefixtures("every_store")]

SUCCESSOR = f"{origin_of(RETAIL)}/r2"


class Killed(BaseException):
    """Stands for the process ending."""


def opened(folder: Path, logs: str = "tenant") -> Any:
    return open_house(folder, policies=tenant_policies(folder / "policies", TENANTS), logs=logs)


def restrict(house: House, tenant: str, number: str = "c-1") -> None:
    caller = house.caller(caller_of(tenant, "privacy-office"))
    house.pipelines.rights.restrict(caller, house.pipelines.recorder.new_id(), number, lift=False)


def restored(folder: Path, *lost: str) -> Settings:
    """Both tenants have a customer in the backup; after it, those of `lost` restricted theirs."""
    with opened(folder) as house:
        for tenant in TENANTS:
            write(house, tenant)
            read(house, tenant)
        house.pipelines.integrator.run_once()
        backup, place = folder / "backup", house.place
        back_up(place, backup)
        for tenant in lost:
            restrict(house, tenant)
        house.pipelines.integrator.run_once()
    put_back(place, backup)
    return house.rooms.settings


def test_a_truncated_log_refuses_the_start_by_name(tmp_path: Path) -> None:
    """A tenant's log without its last records is named; what the other's says does not help."""
    with opened(tmp_path) as house:
        for tenant in TENANTS:
            write(house, tenant)
            write(house, tenant)
        house.pipelines.integrator.run_once()
        ((log,),) = house.sql("SELECT log FROM log WHERE origin = ?", origin_of(PRIVATE))
        for table in ("log_tile", "log_checkpoint", "audit_index"):
            house.sql(f"DELETE FROM {table} WHERE log = ?", log)
        house.sql('DELETE FROM log_entry WHERE log = ? AND "index" = 1', log)
        house.sql("UPDATE log SET size = 1, integrated = 0 WHERE log = ?", log)
    with pytest.raises(StartRefusedError, match=f"audit log {origin_of(PRIVATE)}: .* holds 1 records"):
        opened(tmp_path).__enter__()


def test_only_the_log_that_lost_records_is_adopted(tmp_path: Path) -> None:
    """Its successor begins with what was lost and what binds again; the other log goes on as it was."""
    settings = restored(tmp_path, RETAIL)
    with pytest.raises(StartRefusedError, match=f"audit log {origin_of(RETAIL)}: "):
        opened(tmp_path).__enter__()
    (adoption,), reapplied = homes.adopt(settings)
    assert (adoption.lost_origin, adoption.log.origin) == (origin_of(RETAIL), SUCCESSOR)
    assert (reapplied.applied, reapplied.unknown) == (1, 0)
    with opened(tmp_path) as house:
        assert str(read(house, RETAIL)) == "not-available"
        assert read(house, PRIVATE) == "private@mail.example"
        logs = logs_of(house)
        told = [(record["action"], record["tenant"]) for record in logs[SUCCESSOR]]
        assert told == [("log.adopt-restore", RETAIL), ("log.reapply", RETAIL), ("read", RETAIL)]
        assert [record["action"] for record in logs[origin_of(PRIVATE)]] == ["write", "read", "read"]
        reports = verified(house)
        assert reports.keys() == {SUCCESSOR, origin_of(PRIVATE)}
        assert all(not report.problems for report in reports.values())
    with pytest.raises(ConfigurationError, match="nothing to adopt"):
        homes.adopt(settings)


@pytest.mark.parametrize("step", ["adopt_restores", "finish_restore"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_adoption_killed_at_a_step_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    """Nothing is served before everything that both logs lost is applied; run again, it comes to the same."""
    settings = restored(tmp_path, *TENANTS)
    work = getattr(homes, step)

    def killed(*arguments: Any) -> Any:
        if when == "after":
            work(*arguments)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(homes, step, killed)
        with pytest.raises(Killed):
            homes.adopt(settings)
    if (step, when) == ("finish_restore", "after"):
        with pytest.raises(ConfigurationError, match="nothing to adopt"):
            homes.adopt(settings)
    else:
        with pytest.raises(StartRefusedError):
            opened(tmp_path).__enter__()
        adoptions, reapplied = homes.adopt(settings)
        assert {each.lost_origin for each in adoptions} == {origin_of(tenant) for tenant in TENANTS}
        assert (reapplied.applied, reapplied.unknown) == (2, 0)
    with opened(tmp_path) as house:
        assert [str(read(house, tenant)) for tenant in TENANTS] == ["not-available"] * 2
        reports = verified(house)
        assert reports.keys() == {f"{origin_of(tenant)}/r2" for tenant in TENANTS}
        assert all(not report.problems for report in reports.values())


def test_an_adoption_that_fails_for_one_log_adopts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All logs are opened in one transaction."""
    settings = restored(tmp_path, *TENANTS)
    record, left = restore._adoption_record, [1]

    def sometimes(*arguments: Any) -> Any:
        if not left:
            raise Killed
        left.pop()
        return record(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(restore, "_adoption_record", sometimes)
        with pytest.raises(Killed):
            homes.adopt(settings)
    adoptions, _ = homes.adopt(settings)
    assert [each.log.origin for each in adoptions] == [
        f"{origin_of(tenant)}/r2" for tenant in sorted(TENANTS)
    ]


def test_a_backup_from_before_the_parting_is_adopted(tmp_path: Path) -> None:
    """What was restricted in the log of all tenants, and in a tenant's own after it was parted, binds again;
    the adopted log of all is parted anew by the next start."""
    with opened(tmp_path, "one") as house:
        for tenant in TENANTS:
            write(house, tenant)
            read(house, tenant)
        house.pipelines.integrator.run_once()
        backup, place, settings = tmp_path / "backup", house.place, house.rooms.settings
        back_up(place, backup)
        restrict(house, RETAIL)
        house.pipelines.integrator.run_once()
    with opened(tmp_path) as house:
        restrict(house, PRIVATE)
        house.pipelines.integrator.run_once()
    put_back(place, backup)
    for logs in ("one", "tenant"):
        with pytest.raises(StartRefusedError):
            opened(tmp_path, logs).__enter__()
    parted = settings.model_copy(update={"logs": "tenant"})
    adoptions, reapplied = homes.adopt(parted)
    assert [each.lost_origin for each in adoptions] == [ORIGIN, origin_of(PRIVATE), origin_of(RETAIL)]
    assert (reapplied.applied, reapplied.unknown) == (2, 0)
    with opened(tmp_path) as house:
        assert [str(read(house, tenant)) for tenant in TENANTS] == ["not-available"] * 2
        assert [record["action"] for record in logs_of(house)[f"{ORIGIN}/r2"]] == [
            "log.adopt-restore",
            "log.part",
            "log.part",
        ]
        reports = verified(house)
        assert signed(house)[f"{ORIGIN}/r2"] == 3
        assert all(not report.problems for report in reports.values())
