"""A database with one log for all is parted into a log per tenant; there is no way back."""

from pathlib import Path
from typing import Any

import pytest

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
    rotate,
    signed,
    tenant_policies,
    verified,
    write,
)
from vault.audit.append import Appender
from vault.audit.opening import LogOpener
from vault.audit.query import AuditQuery
from vault.domain.errors import AuditUnavailableError, StartRefusedError
from vault.homes import verifier_keys

pytestmark = [FAKES_ARE_FINE, pytest.mark.usefixtures("every_store")]


class Killed(BaseException):
    """Stands for the process ending."""


def opened(folder: Path, logs: str) -> Any:
    return open_house(folder, policies=tenant_policies(folder / "policies", TENANTS), logs=logs)


def used(house: House) -> None:
    for tenant in TENANTS:
        write(house, tenant)
        read(house, tenant)
    house.pipelines.integrator.run_once()


def seen_by_auditor(house: House, tenant: str, **more: Any) -> list[tuple[str, int, str]]:
    """(log, position, action) of all the tenant's records, page by page."""
    caller, found, token = house.caller(caller_of(tenant, "auditor")), [], ""
    while True:
        wanted = AuditQuery(tenant, page_size=2, page_token=token, **more)
        page, _ = house.pipelines.operations.query(caller, wanted, "")
        found += [(each.origin, each.index, each.record.action) for each in page.records]
        token = page.next_page_token
        if not token:
            return found


def test_the_first_start_with_a_log_per_tenant_closes_the_one_of_all(tmp_path: Path) -> None:
    """Its last records say, to each tenant, where theirs go on, and each log begins with where it comes
    from; it takes no more, is signed to its end, and all verify. The next start changes nothing."""
    with opened(tmp_path, "one") as house:
        used(house)
    for _ in range(2):
        with opened(tmp_path, "tenant") as house:
            logs = logs_of(house)
            ends = [(each["action"], each["tenant"], each.get("detail")) for each in logs[ORIGIN]][4:]
            assert ends == [
                ("log.part", tenant, {"continued_in": origin_of(tenant)}) for tenant in sorted(TENANTS)
            ]
            for place, tenant in enumerate(sorted(TENANTS), 4):
                begin = logs[origin_of(tenant)][0]
                assert (begin["action"], begin["tenant"]) == ("log.part", tenant)
                assert begin["detail"] == {"continues": ORIGIN, "continues_after": place}
            used(house)
            assert len(logs_of(house)[ORIGIN]) == 6
            assert signed(house)[ORIGIN] == 6
            reports = verified(house)
            assert len(reports) == 3
            assert all(not report.problems for report in reports.values())


def test_a_server_that_goes_on_with_one_log_is_refused_its_records(tmp_path: Path) -> None:
    """Beside the first server with a log per tenant, one that still has one log releases nothing."""
    with opened(tmp_path, "one") as old:
        used(old)
        settings = old.rooms.settings.model_copy(update={"logs": "tenant"})
        rooms, signers = old.rooms, old.pipelines.integrator._signers
        LogOpener(
            rooms.database, settings.origin, True, rooms.outside, signers, rooms.clock, rooms.randomness
        ).open(TENANTS)
        with pytest.raises(AuditUnavailableError):
            read(old, RETAIL)


def test_killed_before_the_parting_is_committed_it_is_done_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one transaction: whoever dies within it leaves the log of all as it was."""
    with opened(tmp_path, "one") as house:
        used(house)
    append = Appender.append

    def killed(self: Appender, *arguments: Any) -> Any:
        if self.log > 1:
            raise Killed
        return append(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Appender, "append", killed)
        with pytest.raises(Killed):
            opened(tmp_path, "tenant").__enter__()
    with opened(tmp_path, "tenant") as house:
        assert {origin: len(records) for origin, records in logs_of(house).items()} == {
            ORIGIN: 6,
            **{origin_of(tenant): 1 for tenant in TENANTS},
        }
        assert all(not report.problems for report in verified(house).values())


@pytest.mark.parametrize("newest_first", [False, True])
def test_an_auditor_sees_the_records_of_both_logs(tmp_path: Path, newest_first: bool) -> None:
    """A query goes through the log of all and then the tenant's own, its pages without gap or repetition,
    and says which log a position is in. Another tenant's records are not among them."""
    with opened(tmp_path, "one") as house:
        used(house)
    with opened(tmp_path, "tenant") as house:
        used(house)
        wanted = {"newest_first": newest_first}
        seen = [each for each in seen_by_auditor(house, PRIVATE, **wanted) if each[2] != "audit.read"]
        own = origin_of(PRIVATE)
        expected = [
            (ORIGIN, 2, "write"),
            (ORIGIN, 3, "read"),
            (ORIGIN, 4, "log.part"),
            (own, 0, "log.part"),
            (own, 1, "write"),
            (own, 2, "read"),
        ]
        assert seen == (expected[::-1] if newest_first else expected)


def test_a_truncated_former_log_refuses_the_start_by_name(tmp_path: Path) -> None:
    """The log of all tenants is held against the outside store at every start, though it takes no more."""
    with opened(tmp_path, "one") as house:
        used(house)
    with opened(tmp_path, "tenant") as house:
        house.pipelines.integrator.run_once()
        for table in ("log_tile", "log_checkpoint", "audit_index"):
            house.sql(f"DELETE FROM {table} WHERE log = 1")
        house.sql('DELETE FROM log_entry WHERE log = 1 AND "index" > 2')
        house.sql("UPDATE log SET size = 3, integrated = 0 WHERE log = 1")
    with pytest.raises(StartRefusedError, match=f"audit log {ORIGIN}: .*holds 3 records"):
        opened(tmp_path, "tenant").__enter__()


def test_a_truncated_log_is_not_parted(tmp_path: Path) -> None:
    """The outside store is asked before anything is appended."""
    with opened(tmp_path, "one") as house:
        used(house)
        house.sql("DELETE FROM log_tile")
        house.sql("DELETE FROM log_checkpoint")
        house.sql("DELETE FROM audit_index")
        house.sql('DELETE FROM log_entry WHERE "index" > 2')
        house.sql("UPDATE log SET size = 3, integrated = 0")
    with pytest.raises(StartRefusedError, match=f"audit log {ORIGIN}: .*holds 3 records"):
        opened(tmp_path, "tenant").__enter__()
    assert {origin: len(records) for origin, records in logs_of(house).items()} == {ORIGIN: 3}


def test_there_is_no_way_back(tmp_path: Path) -> None:
    """A database with logs of tenants is not served with one log: their records would be forgotten."""
    with opened(tmp_path, "tenant") as house:
        used(house)
    with pytest.raises(StartRefusedError, match="DATAVAULT_LOGS=tenant"):
        opened(tmp_path, "one").__enter__()


def test_an_empty_database_is_not_served_with_one_log_where_the_outside_store_knows_more(
    tmp_path: Path,
) -> None:
    """Logs of tenants that only the outside store knows any more are not forgotten either."""
    with opened(tmp_path / "old", "tenant") as house:
        used(house)
    outside = str(house.rooms.settings.outside)
    with pytest.raises(StartRefusedError, match=f"{origin_of(PRIVATE)}, which the outside store knows"):
        open_house(
            tmp_path / "new",
            policies=tenant_policies(tmp_path / "policies", TENANTS),
            outside_store=outside,
        ).__enter__()


def test_the_log_key_is_announced_in_the_former_log_too(tmp_path: Path) -> None:
    """So its last signer leads to the key in use; it stays closed."""
    with opened(tmp_path, "one") as house:
        used(house)
    with opened(tmp_path, "tenant") as house:
        rotate(house)
        assert logs_of(house)[ORIGIN][-1]["action"] == "log.key"
        assert house.sql("SELECT state FROM log WHERE log = 1") == [("closed",)]
        assert all(not report.problems for report in verified(house).values())
        assert [key.partition("+")[0] for key in verifier_keys(house.rooms.settings)].count(ORIGIN) == 2
    with opened(tmp_path, "tenant") as house:
        used(house)


def test_a_request_from_before_the_parting_is_answered_as_then(tmp_path: Path) -> None:
    """A repeated request is recognised; its record stands in the log of all, so it has no position here."""
    with opened(tmp_path, "one") as house:
        first = write(house, RETAIL, request_id="r-1")
    with opened(tmp_path, "tenant") as house:
        again = write(house, RETAIL, request_id="r-1")
        assert (again.replayed, again.record_id, again.position) == (True, first.record_id, -1)
