"""`datavault serve --workers 2` with a log per tenant, the real program on each store."""

import json
import signal
from pathlib import Path

import pytest

from tests.support.faults import command, eventually, refused_start
from tests.support.service import ORIGIN, Options, RunningService
from tests.support.tenants import FRAUD, PRIVATE, RETAIL, caller_of, origin_of, tenant_policies

pytestmark = pytest.mark.usefixtures("every_store")

NEW = "wealth"


def used(service: RunningService, tenant: str) -> None:
    """A customer of the tenant is written and read, by whichever worker has the connection."""
    number = service.customer()
    service.client(caller_of(tenant, "importer")).write_attributes(
        number, {"email": f"{tenant}@mail.example"}, jurisdictions=["EU"]
    )
    answer = service.client(caller_of(tenant, FRAUD)).read_attributes(
        number, purpose=FRAUD, attributes=["email"]
    )
    assert answer.value("email") == f"{tenant}@mail.example"


def seen(service: RunningService, tenant: str) -> list[tuple[str, int, str]]:
    auditor = service.client(caller_of(tenant, "auditor"))
    return [
        (record.log, record.position, record.document["action"])
        for record in auditor.query_records(page_size=2)
        if record.document["action"] != "audit.read"
    ]


def signed(service: RunningService) -> bool:
    """Whether every log is under a checkpoint outside."""
    rows = service.sql(
        "SELECT l.size, coalesce(max(c.size), 0) FROM log l LEFT JOIN log_checkpoint c ON c.log = l.log"
        " GROUP BY l.log, l.size"
    )
    waiting = service.sql("SELECT count(*) FROM outbox WHERE delivered_at IS NULL")
    return all(size == covered for size, covered in rows) and waiting == [(0,)]


def test_a_service_is_parted_and_takes_a_new_tenant_in_all_its_workers(tmp_path: Path) -> None:
    """After a restart with DATAVAULT_LOGS=tenant each tenant's records are in its log and its auditor sees
    those of before; a tenant that a reload brings has its log; all of them verify; there is no way back."""
    policies = tenant_policies(tmp_path / "policies", (RETAIL, PRIVATE))
    with RunningService.start(tmp_path, policies=policies) as service:
        for tenant in (RETAIL, PRIVATE):
            used(service, tenant)
    own = {"DATAVAULT_LOGS": "tenant"}
    with RunningService.start(tmp_path, policies=policies, workers=2, environment=own) as service:
        for tenant in (RETAIL, PRIVATE):
            used(service, tenant)
        assert seen(service, PRIVATE) == [
            (ORIGIN, 2, "write"),
            (ORIGIN, 3, "read"),
            (ORIGIN, 4, "log.part"),
            (origin_of(PRIVATE), 0, "log.part"),
            (origin_of(PRIVATE), 1, "write"),
            (origin_of(PRIVATE), 2, "read"),
        ]
        tenant_policies(policies, (RETAIL, PRIVATE, NEW))
        service.signal(signal.SIGHUP)
        service.wait_until(
            lambda: any('"policy_loaded"' in line for line in service.log_lines()), "load the policies"
        )
        for _ in range(4):
            used(service, NEW)
        head = service.client(caller_of(NEW, "auditor")).get_checkpoint()
        assert head.verifier_key.startswith(f"{origin_of(NEW)}+")
        eventually(lambda: signed(service), "every log is outside")
        verified = command(service, "audit", "verify", "--output", "json")
        assert verified.returncode == 0, verified.stderr
        logs = [log["origin"] for log in json.loads(verified.stdout)["logs"]]
        assert logs == [ORIGIN, *map(origin_of, sorted((RETAIL, PRIVATE, NEW)))]
    refused = refused_start(RunningService(tmp_path, Options(policies=policies)))
    assert refused.returncode == 2
    assert "DATAVAULT_LOGS=tenant" in refused.stderr
