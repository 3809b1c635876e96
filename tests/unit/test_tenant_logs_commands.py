"""The commands that look into a home, where each tenant has a log."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.support.cli import run
from tests.support.identity import FAKES_ARE_FINE
from tests.support.pipelines import House, open_house
from tests.support.service import ORIGIN
from tests.support.tenants import PRIVATE, RETAIL, origin_of, tenant_policies, write
from vault import diagnosis
from vault.audit.checkpoint import parse_vkey
from vault.policy.check import check

pytestmark = FAKES_ARE_FINE

LOGS = [ORIGIN, origin_of(PRIVATE), origin_of(RETAIL)]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Parted: the log of all tenants is there too. The commands look into its home."""
    policies = tenant_policies(tmp_path / "policies", (RETAIL, PRIVATE))
    for name, value in (("HOME", tmp_path / "home"), ("POLICIES", policies), ("ORIGIN", ORIGIN)):
        monkeypatch.setenv(f"DATAVAULT_{name}", str(value))
    monkeypatch.setenv("DATAVAULT_LOGS", "tenant")
    for logs in ("one", "tenant"):
        with open_house(tmp_path, policies=policies, logs=logs) as opened:
            for tenant in (RETAIL, PRIVATE):
                write(opened, tenant)
            opened.pipelines.integrator.run_once()
    return opened


def keys(*arguments: str) -> list[str]:
    printed = run("audit", "vkey", *arguments)
    assert printed.exit_code == 0, printed.stderr
    return printed.stdout.split()


def test_vkey_prints_the_keys_of_every_log(house: House) -> None:
    """One line per log, or with --tenant that of one; a tenant without a log is named."""
    assert [parse_vkey(line).name for line in keys()] == LOGS
    assert [parse_vkey(line).name for line in keys("--tenant", PRIVATE)] == [origin_of(PRIVATE)]
    refused = run("audit", "vkey", "--tenant", "nobody")
    assert refused.exit_code == 2
    assert "--tenant: this database holds no audit log of tenant 'nobody' alone" in refused.stderr


def test_verify_goes_over_every_log(house: House) -> None:
    """Each in turn; those that a key, a checkpoint or --tenant name, and no others."""
    everything = json.loads(run("audit", "verify", "--output", "json").stdout)
    assert everything["ok"] is True
    assert [(log["origin"], log["ok"]) for log in everything["logs"]] == [(origin, True) for origin in LOGS]
    one = json.loads(run("audit", "verify", "--tenant", PRIVATE, "--output", "json").stdout)
    assert (one["origin"], one["ok"]) == (origin_of(PRIVATE), True)
    (key,) = keys("--tenant", RETAIL)
    told = run("audit", "verify", "--vkey", key)
    assert told.exit_code == 0
    assert [origin for origin in LOGS if f" {origin}\n" in told.stdout] == [origin_of(RETAIL)]
    ((note,),) = house.sql("SELECT note FROM log_checkpoint WHERE log = (SELECT max(log) FROM log)")
    kept = house.rooms.settings.home / "kept.checkpoint"
    kept.write_text(note, "utf-8")
    from_kept = json.loads(run("audit", "verify", "--from-checkpoint", kept, "--output", "json").stdout)
    assert from_kept["origin"] == note.partition("\n")[0]


def test_verify_names_the_log_that_was_changed(house: House) -> None:
    """Exit code 5, also when the others verify."""
    house.sql("UPDATE log_entry SET entry = x'00' WHERE log = 1 AND \"index\" = 0")
    told = run("audit", "verify", "--output", "json")
    assert told.exit_code == 5
    document = json.loads(told.stdout)
    assert document["ok"] is False
    assert [log["ok"] for log in document["logs"]] == [False, True, True]


def test_a_checkpoint_of_no_log_here_is_refused(house: House, tmp_path: Path) -> None:
    """Whatever log is compared with it, the message names the one that it is of."""
    kept = tmp_path / "kept.checkpoint"
    kept.write_text("other.example/log\n1\n\n\n", "utf-8")
    refused = run("audit", "verify", "--from-checkpoint", kept)
    assert refused.exit_code == 5


def test_db_status_lists_the_logs(house: House) -> None:
    """With how much each holds, and the closed one."""
    listed = json.loads(run("db", "status", "--output", "json").stdout)["logs"]
    assert {log["log"]: (log["records"], log["state"]) for log in listed} == {
        ORIGIN: (4, "closed"),
        origin_of(PRIVATE): (2, "active"),
        origin_of(RETAIL): (2, "active"),
    }
    assert origin_of(PRIVATE) in run("db", "status").stdout


def test_doctor_looks_at_every_log(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed log of all is well; with DATAVAULT_LOGS=one the way back is refused."""
    monkeypatch.setattr(diagnosis, "check", partial(check, budget_seconds=0.01))
    settings = house.rooms.settings
    findings = list(diagnosis.diagnose(settings))
    seen = [each for each in findings if each.check in ("audit log", "outside store")]
    assert [each.health.value for each in seen] == ["good"] * 6
    for origin in LOGS:
        assert sum(each.detail.startswith(f"{origin}: ") for each in seen) == 2
    back = list(diagnosis.diagnose(settings.model_copy(update={"logs": "one"})))
    assert any("DATAVAULT_LOGS=tenant" in each.detail for each in back)
