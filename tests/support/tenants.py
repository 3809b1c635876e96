"""Several tenants on one service: the small policies, once per tenant, and what each one's log says.

The callers of `retail` are called as in faults_policies.py, those of another tenant `<tenant>-<caller>`.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from tests.support.faults_policies import FILES, write_policies
from tests.support.pipelines import House
from tests.support.service import ORIGIN
from vault.audit.report import VerifyReport
from vault.homes import verify_logs
from vault.keys.log_rotation import RotatedLogKey
from vault.reads import Read
from vault.writes import Written

FRAUD: Final = "fraud-detection"
RETAIL: Final = "retail"
PRIVATE: Final = "private"
TENANTS: Final = (RETAIL, PRIVATE)
_OPERATOR: Final = """\
  operator:
    tenant: retail
    description: "operator"
    identities: [{spiffe: "spiffe://bank.example/operator"}]
"""
_OPERATOR_RULES: Final = """\
p, keys-rotate, operator, administration, none, keys.rotate, operation, allow
p, rights-erase, privacy-office, administration, none, subject.erase, operation, allow
g, operator, everyone
"""


def caller_of(tenant: str, name: str) -> str:
    return name if tenant == RETAIL else f"{tenant}-{name}"


def origin_of(tenant: str) -> str:
    return f"{ORIGIN}/tenant-{tenant}"


def tenant_policies(folder: Path, tenants: Collection[str]) -> Path:
    """The small policies for these tenants; an operator of `retail` may rotate keys."""
    head, _, callers = FILES["callers.yaml"].partition("callers:\n")
    rules = FILES["policy.csv"] + _OPERATOR_RULES
    all_callers, all_rules = callers + _OPERATOR, rules
    for tenant in sorted({*tenants} - {RETAIL}):
        all_callers += _callers(callers, tenant)
        all_rules += _rules(rules, tenant)
    changed = {"callers.yaml": f"{head}callers:\n{all_callers}", "policy.csv": all_rules}
    return write_policies(folder, changed)


def _callers(callers: str, tenant: str) -> str:
    named = callers.replace("tenant: retail", f"tenant: {tenant}").replace("example/", f"example/{tenant}-")
    lines = [
        line.replace("  ", f"  {tenant}-", 1) if line[2:3] not in ("", " ") else line
        for line in named.splitlines()
    ]
    return "\n".join(lines) + "\n"


def _rules(rules: str, tenant: str) -> str:
    """Each `p, id, caller, ...` and `g, caller, role` once more, for the tenant's callers."""
    made = []
    for line in rules.splitlines():
        if ", operator," in line:
            continue
        kind, *words = line.split(", ")
        words = [
            f"{tenant}-{word}" if place < (2 if kind == "p" else 1) else word
            for place, word in enumerate(words)
        ]
        made.append(", ".join([kind, *words]))
    return "\n".join(made) + "\n"


def logs_of(house: House) -> dict[str, list[dict[str, Any]]]:
    """Every log's records in order, by origin."""
    rows = house.sql(
        'SELECT l.origin, e.entry FROM log l LEFT JOIN log_entry e ON e.log = l.log ORDER BY l.log, e."index"'
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for origin, entry in rows:
        found.setdefault(origin, []).extend([json.loads(bytes(entry))] if entry is not None else [])
    return found


def verified(house: House) -> dict[str, VerifyReport]:
    """What verification says of each log in use, by origin, after everything was integrated."""
    house.pipelines.integrator.run_once()
    reports = verify_logs(house.rooms.settings, (), "", lambda done, total: None)
    return {report.origin: report for report in reports}


def signed(house: House) -> dict[str, int]:
    """How many records of each log a checkpoint covers, by origin."""
    rows = house.sql(
        "SELECT l.origin, coalesce(max(c.size), 0) FROM log l LEFT JOIN log_checkpoint c ON c.log = l.log"
        " GROUP BY l.origin"
    )
    return dict(rows)


# --- as a tenant -------------------------------------------------------------------------------------------


def write(house: House, tenant: str, number: str = "c-1", **more: Any) -> Written:
    values = {"email": f"{tenant}@mail.example"}
    return house.write(number, values, caller=caller_of(tenant, "importer"), **more)


def ask(house: House, tenant: str, number: str = "c-1") -> Read:
    return house.ask(caller_of(tenant, FRAUD), number, FRAUD, ["email"])


def read(house: House, tenant: str, number: str = "c-1") -> Any:
    """The email address that the tenant's fraud detection gets, or the reason why not."""
    answer = house.read(caller_of(tenant, FRAUD), number, FRAUD, ["email"])
    return answer.value("email") or answer.denied["email"].reason


def rotate(house: House) -> RotatedLogKey:
    """A rotation of the log key, by the operator of `retail`."""
    return house.pipelines.log_rotation.rotate(house.caller("operator"))
