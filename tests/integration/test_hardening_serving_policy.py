"""Other policies while the service runs: kept, with keys ready, then in force; or not at all."""

import asyncio
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import add_customer, read, refused_start, start_service, unstarted, write_lock
from tests.support.faults_policies import FILES, write_policies
from tests.support.pipelines import open_house
from tests.support.service import RunningService
from vault.domain.limits import LIMITS
from vault.policy import live
from vault.policy.files import FILES as MOST_FILES
from vault.policy.files import TOTAL_BYTES
from vault.policy.live import LivePolicy
from vault.reloading import PolicyReloader
from vault.v1 import policy_service_pb2

NEW_CLASS = {
    "attributes.yaml": FILES["attributes.yaml"].replace("  financial: {}", "  financial: {}\n  traces: {}")
    + "  device: {type: string, category: pd:PersonalData, key_class: traces, forms: [clear, exists]}\n",
    "policy.csv": FILES["policy.csv"]
    + "p, write-device, importer, administration, device, write, operation, allow\n"
    + "p, fraud-device, fraud-detection, fraud-detection, device, read.clear, legitimate-interest, allow\n",
}
NEW_TENANT = {"callers.yaml": FILES["callers.yaml"].replace("tenant: retail", "tenant: private", 1)}
SECURITY_TEAM = {
    "callers.yaml": FILES["callers.yaml"]
    + '  security-team:\n    tenant: retail\n    description: "Writes the policies"\n'
    + '    identities: [{spiffe: "spiffe://bank.example/security-team"}]\n',
    "policy.csv": FILES["policy.csv"]
    + "p, policy-read, security-team, administration, none, policy.read, operation, allow\n",
}


def reload(service: RunningService, policies: Path, changed: dict[str, str], expected: str) -> None:
    """Change the folder, send SIGHUP, wait for the event `expected` in the log."""
    write_policies(policies, changed)
    service.signal(signal.SIGHUP)
    service.wait_until(
        lambda: any(f'"{expected}"' in line for line in service.log_lines()), f"say {expected}"
    )


def hash_in_force(service: RunningService, number: str) -> str:
    """The hash that the record of a read names."""
    answer = read(service, number)
    return str(service.records()[answer.position]["policy"])


def kept(service: RunningService) -> set[str]:
    return {found for (found,) in service.sql("SELECT hash FROM bundle")}


def test_a_bundle_that_cannot_be_kept_is_not_served(tmp_path: Path) -> None:
    """While another process holds the database, SIGHUP with good policies leaves the last bundle in force;
    sent again afterwards it loads, and every bundle that is named by a record is in the table."""
    policies = write_policies(tmp_path / "policies")
    with start_service(tmp_path / "service", policies=policies) as service:
        number = add_customer(service)
        before = hash_in_force(service, number)
        with write_lock(service.database_path):
            reload(service, policies, NEW_CLASS, "policy_not_loaded")
        assert hash_in_force(service, number) == before
        reload(service, policies, NEW_CLASS, "policy_loaded")
        after = hash_in_force(service, number)
        assert after != before
        assert {before, after} <= kept(service)


def test_a_new_key_class_can_be_written_at_once(tmp_path: Path) -> None:
    """In development the key of a class that a reload brings is made before the bundle is in force."""
    policies = write_policies(tmp_path / "policies")
    with start_service(tmp_path / "service", policies=policies) as service:
        reload(service, policies, NEW_CLASS, "policy_loaded")
        number = add_customer(service, device="a telephone")
        assert read(service, number, "device").value("device") == "a telephone"


def test_a_new_tenant_has_its_keys_before_its_first_call(tmp_path: Path) -> None:
    """No read waits for the KMS: the keys of a tenant that a reload brings are there with the bundle."""
    policies = write_policies(tmp_path / "policies")
    with start_service(tmp_path / "service", policies=policies) as service:
        reload(service, policies, NEW_TENANT, "policy_loaded")
        assert set(service.sql('SELECT "use" FROM tenant_key WHERE tenant = ?', "private")) == {
            ("lookup",),
            ("pseudonym",),
        }


def test_a_bundle_whose_keys_cannot_be_had_is_not_served(tmp_path: Path) -> None:
    """The key file is damaged when a reload needs a new key: the last good bundle goes on serving."""
    policies = write_policies(tmp_path / "policies")
    with start_service(tmp_path / "service", policies=policies) as service:
        number = add_customer(service)
        before = hash_in_force(service, number)
        key_file = service.home / "keys.json"
        good = key_file.read_bytes()
        key_file.write_bytes(b"{")
        reload(service, policies, NEW_CLASS, "policy_not_loaded")
        assert hash_in_force(service, number) == before
        key_file.write_bytes(good)


def test_an_unforeseen_fault_is_logged_and_the_last_good_bundle_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even a fault of the program itself leaves a line in the log and the bundle in force."""

    def fault(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    with open_house(tmp_path, policies=write_policies(tmp_path / "policies")) as house:
        reloader = PolicyReloader(house.rooms, house.pipelines)
        before = house.rooms.policy.current
        monkeypatch.setattr(live, "compare", fault)
        asyncio.run(reloader.reload())
        assert house.rooms.policy.current is before
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_two_reloads_do_not_interleave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins when the first has ended, so what is in force is what the folder said last."""
    steps: list[str] = []
    second_began = threading.Event()
    prepare, adopt = LivePolicy.prepare, LivePolicy.adopt

    def preparing(self: LivePolicy, *arguments: Any, **options: Any) -> Any:
        steps.append("prepare")
        if steps.count("prepare") == 1:
            second_began.wait(0.3)
        else:
            second_began.set()
        return prepare(self, *arguments, **options)

    def adopting(self: LivePolicy, loaded: Any) -> None:
        steps.append("adopt")
        adopt(self, loaded)

    async def twice(reloader: PolicyReloader) -> None:
        await asyncio.gather(reloader.reload(), reloader.reload())

    with open_house(tmp_path, policies=write_policies(tmp_path / "policies")) as house:
        reloader = PolicyReloader(house.rooms, house.pipelines)
        monkeypatch.setattr(LivePolicy, "prepare", preparing)
        monkeypatch.setattr(LivePolicy, "adopt", adopting)
        asyncio.run(twice(reloader))
    assert steps == ["prepare", "adopt", "prepare", "adopt"]


# --- size -------------------------------------------------------------------------------------------------


def padded(files: dict[str, str], total: int) -> dict[str, str]:
    """The files with a comment in policy.csv that makes them `total` bytes in all, names counted."""
    whole = {**FILES, **files}
    used = sum(len(path) + len(text.encode()) for path, text in whole.items())
    lines, rest = divmod(total - used, 1_000)
    comment = ("# " + "x" * 997 + "\n") * (lines - 1) + "# " + "x" * (997 + rest) + "\n"
    return {**files, "policy.csv": whole["policy.csv"] + comment}


def test_the_largest_bundle_fits_into_one_answer(tmp_path: Path) -> None:
    """GetBundle gives all files of the largest folder that loads."""
    policies = write_policies(tmp_path / "policies", padded(SECURITY_TEAM, TOTAL_BYTES))
    with start_service(tmp_path / "service", policies=policies) as service:
        bundle = service.client("security-team").get_bundle(include_files=True, timeout=30)
        assert sum(len(path) + len(content) for path, content in bundle.files.items()) == TOTAL_BYTES


def test_a_bundle_too_large_for_one_answer_is_refused_at_start(tmp_path: Path) -> None:
    """One byte more is told as an error of the policies, with the limit."""
    policies = write_policies(tmp_path / "policies", padded(SECURITY_TEAM, TOTAL_BYTES + 1))
    refused = refused_start(unstarted(tmp_path / "service", policies))
    assert refused.returncode != 0
    assert f"{TOTAL_BYTES} bytes in all" in refused.stderr


def test_the_answer_limit_holds_for_the_most_files_too() -> None:
    """What the protocol adds to each of the most files a folder may have stays within the message limit."""
    paths = [f"notices/n/{number}/en.md" for number in range(1, MOST_FILES + 1)]
    each = TOTAL_BYTES // MOST_FILES - max(map(len, paths))
    message = policy_service_pb2.GetBundleResponse(files=dict.fromkeys(paths, b"x" * each))
    assert message.ByteSize() + 16 * 1024 <= LIMITS.message_bytes
