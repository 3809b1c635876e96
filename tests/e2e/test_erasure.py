"""Erasure over the wire: by the clients, by the command line, over a kill of the service."""

import asyncio
import base64
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.erasure import CANARY, files
from tests.support.faults import PATIENCE, Call, FaultySwitch, eventually, start_service
from tests.support.faults_policies import FILES, write_policies
from tests.support.service import ORIGIN, RunningService
from vault.client import DenialReason, InvalidArgument, NotFound
from vault.crypto.receipts import verify_receipt

OFFICE = "privacy-office"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with RunningService.start(tmp_path_factory.mktemp("erasure")) as running:
        yield running


def add(service: RunningService, **values: Any) -> str:
    number = service.customer()
    service.client("importer").write_attributes(
        number, values or {"email": "ana@b.example", "given-name": "Ana"}, jurisdictions=["EU"]
    )
    return number


def seen(service: RunningService, number: str, attribute: str = "email") -> Any:
    answer = service.client("fraud-detection").read_attributes(
        number, purpose="fraud-detection", attributes=[attribute]
    )
    return answer.value(attribute) or answer.denied[attribute].reason


def run(service: RunningService, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the privacy office."""
    certificate, key = service.certificate(OFFICE)
    return subprocess.run(
        [sys.executable, "-m", "vault.cli", *arguments],
        env=service.environment()
        | {
            "DATAVAULT_ADDR": service.target,
            "DATAVAULT_CACERT": str(service.ca_certificate),
            "DATAVAULT_CLIENT_CERT": str(certificate),
            "DATAVAULT_CLIENT_KEY": str(key),
        },
        cwd=service.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_client_erases_and_gets_a_receipt_that_verifies(service: RunningService) -> None:
    """Typed results, a signature by the key of the answer, the tombstone outside, the evidence by receipt."""
    number = add(service)
    office = service.client(OFFICE)
    office.withdraw_consent(number, purpose="marketing", channel="letter")
    preview = office.erase_subject(number, dry_run=True)
    assert (preview.receipt_id, preview.erased) == ("", ("contact",))
    done = office.erase_subject(number, request_id="e2e-erase-1")
    assert (done.erased, done.whole, done.replayed) == (("contact",), False, False)
    (kept,) = done.retained
    assert (kept.key_class, kept.legal_hold, kept.ends_at) == ("identity", False, None)
    verify_receipt(done.receipt, done.signature, done.public_key)
    assert json.loads(done.receipt)["log"]["position"] == done.position
    assert seen(service, number) is DenialReason.NOT_AVAILABLE
    again = office.erase_subject(number, request_id="e2e-erase-1")
    assert (again.receipt, again.replayed) == (done.receipt, True)
    found = office.get_erasure_evidence(done.receipt_id)
    assert [event["state"] for event in found.document["events"]] == ["withdrawn"]
    assert found.kept_until is not None
    event = service.home / "outside" / ORIGIN / "events" / f"{done.position:020d}.json"
    eventually(event.exists, "the tombstone is outside")
    assert json.loads(event.read_bytes())["kind"] == "tombstone"


def test_the_asyncio_twin_does_the_same(service: RunningService) -> None:
    """Retention and erasure by the asynchronous client."""
    number = add(service)

    async def work() -> tuple[Any, Any]:
        async with service.async_client(OFFICE) as office:
            ended = await office.set_retention(number, relationship_ended_on="2001-01-31")
            return ended, await office.erase_subject(number)

    ended, done = asyncio.run(work())
    assert str(ended.relationship_ended_on) == "2001-01-31"
    assert done.whole
    assert seen(service, number) is DenialReason.NOT_AVAILABLE


def test_a_change_of_retention_is_one_of_two(service: RunningService) -> None:
    """Both or neither is refused before anything is sent; a hold is shown as it is."""
    number, office = add(service), service.client(OFFICE)
    for both in (None, ""):
        with pytest.raises(InvalidArgument):
            office.set_retention(number, relationship_ended_on=both, legal_hold=both)
    assert office.set_retention(number, legal_hold="Case 7").legal_hold == "Case 7"
    assert office.set_retention(number, legal_hold="").legal_hold == ""
    with pytest.raises(NotFound):
        office.set_retention("never", legal_hold="Case 7")


def test_the_command_erases_scrubs_and_writes_a_receipt_that_a_command_verifies(
    service: RunningService, tmp_path: Path
) -> None:
    """Without --yes nothing is destroyed; with it the canary is in no file any more, a receipt is written
    once, and it verifies by the bank's key alone."""
    number = add(service, email=f"{CANARY}@b.example", **{"given-name": "Ana"})
    service.client(OFFICE).withdraw_consent(
        number, purpose="marketing", channel="letter", evidence=f"DMS {CANARY}"
    )
    assert [name for name, content in files(service.home).items() if CANARY.encode() in content]
    receipt = tmp_path / "receipt.json"
    refused = run(service, "subject", "erase", number)
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert seen(service, number) == f"{CANARY}@b.example"
    plan = run(service, "subject", "erase", number, "--dry-run", "--output", "json")
    assert json.loads(plan.stdout)["erased"] == ["contact"]

    done = run(service, "subject", "erase", number, "--yes", "--scrub", "--receipt", str(receipt))

    assert done.returncode == 0, done.stderr
    assert "contact" in done.stdout
    assert "AML law" in done.stdout
    assert seen(service, number) is DenialReason.NOT_AVAILABLE
    assert not [name for name, content in files(service.home).items() if CANARY.encode() in content]
    saved = json.loads(receipt.read_text())
    key = base64.b64encode(service.key_provider().public_key("datavault-receipt").raw).decode()
    good = run(service, "subject", "verify-receipt", str(receipt), "--public-key", key)
    assert good.returncode == 0, good.stderr
    receipt.write_text(json.dumps({**saved, "receipt": saved["receipt"].replace('"whole":0', '"whole":1')}))
    assert run(service, "subject", "verify-receipt", str(receipt), "--public-key", key).returncode == 5
    twice = run(service, "subject", "erase", number, "--yes", "--receipt", str(receipt))
    assert (twice.returncode, "is there already" in twice.stderr) == (2, True)
    shown = run(service, "subject", "evidence", json.loads(saved["receipt"])["receipt"])
    assert "withdrawn" in shown.stdout


def test_the_command_sets_retention(service: RunningService) -> None:
    """The day, a hold, and both taken back; two at once are refused."""
    number = add(service)
    ended = run(service, "subject", "retention", number, "--ended", "2026-06-30", "--output", "json")
    assert json.loads(ended.stdout)["relationship_ended_on"] == "2026-06-30"
    held = run(service, "subject", "retention", number, "--hold", "Case 7")
    assert "Case 7" in held.stdout
    assert "(none)" in run(service, "subject", "retention", number, "--release-hold").stdout
    assert run(service, "subject", "retention", number, "--open", "--release-hold").returncode == 2


def test_a_kill_during_the_commit_erases_wholly_or_not_at_all(tmp_path: Path) -> None:
    """Killed while COMMIT hangs nothing was erased; the same request then erases, and after another kill the
    customer stays erased and the request answers the same receipt."""
    switch = FaultySwitch(tmp_path / "hang")
    environment = {
        "DATAVAULT_TEST_HANG": str(switch.path),
    }
    rule = f"p, rights-erase, {OFFICE}, administration, none, subject.erase, operation, allow\n"
    policies = write_policies(tmp_path / "with-erasure", {"policy.csv": rule + FILES["policy.csv"]})
    with start_service(tmp_path, policies=policies, environment=environment) as service:
        number = add(service, email="ana@b.example")
        before = len(service.records())
        office = service.client(OFFICE)
        with switch.hung():
            call = Call(lambda: office.erase_subject(number, request_id="kill-1"))
            eventually(lambda: _writing(service), "the erasure holds the write lock")
            service.kill()
        call.join()
        service.launch()
        assert seen(service, number) == "ana@b.example"
        assert "subject.erase" not in {one["action"] for one in service.records()[before:]}
        done = service.client(OFFICE).erase_subject(number, request_id="kill-1")
        assert (done.replayed, done.erased, done.whole) == (False, ("contact",), True)
        service.kill()
        service.launch()
        assert seen(service, number) is DenialReason.NOT_AVAILABLE
        again = service.client(OFFICE).erase_subject(number, request_id="kill-1")
        assert (again.replayed, again.receipt) == (True, done.receipt)
        assert service.verify().problems == []


def _writing(service: RunningService) -> bool:
    """Whether some transaction of the service holds the write lock of the database."""
    connection = sqlite3.connect(service.database_path, timeout=0, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False
