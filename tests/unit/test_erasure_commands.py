"""`datavault subject erase|retention|evidence`: what they send, ask and print."""

import base64
import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import MemoryVault, failure, run
from vault.cli import subject_erase
from vault.client import results

KEPT = results.RetainedClass(
    "identity", "AML law", False, datetime.datetime(2031, 6, 30, tzinfo=datetime.UTC), ("aml",)
)
HELD = results.RetainedClass("contact", "Case 7", True, None, ("collections",))


def answer(**changes: Any) -> results.ErasureReceipt:
    fields: dict[str, Any] = {
        "receipt_id": "01971c4e-7d7a-7a51-9df3-0a1f6ad3c0f2",
        "receipt": b'{"v":1}',
        "signature": b"s" * 64,
        "public_key": b"k" * 32,
        "erased": ("behaviour",),
        "retained": (KEPT, HELD),
        "whole": False,
        "scrubbed": False,
        "scrub_problem": "",
        "replayed": False,
        "request_id": "q1",
        "record_id": "r1",
        "position": 7,
    }
    return results.ErasureReceipt(**(fields | changes))


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits there."""
    monkeypatch.setattr(subject_erase, "_asked_at_a_terminal", lambda: True)


def test_without_a_terminal_it_needs_yes(vault: MemoryVault) -> None:
    """Nothing is sent, and the message says what to give."""
    done = run("subject", "erase", "4711", vault=vault)
    assert (done.exit_code, vault.calls) == (2, [])
    assert "--yes" in done.stderr


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("typed", "calls", "code"), [("n\n", 1, 130), ("y\n", 2, 0)])
def test_on_a_terminal_it_shows_what_will_go_and_asks(
    vault: MemoryVault, typed: str, calls: int, code: int
) -> None:
    """A no sends the dry run alone; a yes the erasure after it."""
    vault.answers = {"erase_subject": answer()}
    done = run("subject", "erase", "4711", vault=vault, typed=typed)
    assert done.exit_code == code
    sent = [more for _, _, more in vault.calls]
    assert [more.get("dry_run", False) for more in sent] == [True, False][:calls]
    assert "AML law" in done.stdout
    assert "2031-06-30" in done.stdout
    assert "legal hold: Case 7" in done.stdout


def test_yes_sends_one_erasure_with_a_request_id(vault: MemoryVault) -> None:
    """The id is the given one, or a new one; the deadline is long enough for a scrub."""
    vault.answers = {"erase_subject": answer(scrubbed=True)}
    assert (
        run("subject", "erase", "4711", "--yes", "--scrub", "--request-id", "q1", vault=vault).exit_code == 0
    )
    (_, customer, sent) = vault.calls[0]
    assert customer == "4711"
    assert (sent["scrub"], sent["request_id"], sent["timeout"]) == (True, "q1", 60.0)


def test_a_failure_tells_how_to_repeat_the_same_erasure(vault: MemoryVault) -> None:
    """It may have happened: the request id is what gets the receipt."""
    vault.answers = {"erase_subject": failure("KEYS_UNAVAILABLE", "the customer is erased")}
    done = run("subject", "erase", "4711", "--yes", "--request-id", "q-77", vault=vault)
    assert done.exit_code == 1
    assert "--request-id q-77" in done.stderr


def test_a_scrub_that_was_not_done_is_a_failure_that_says_so(vault: MemoryVault) -> None:
    """The erasure is printed, the problem is told, and the exit code is not 0."""
    vault.answers = {"erase_subject": answer(scrub_problem="a reader kept it")}
    done = run("subject", "erase", "4711", "--yes", "--scrub", "--request-id", "q1", vault=vault)
    assert done.exit_code == 1
    assert "behaviour" in done.stdout
    assert "a reader kept it" in done.stderr


def test_a_receipt_file_is_new_and_has_the_exact_bytes(vault: MemoryVault, tmp_path: Path) -> None:
    """A file that is there is refused before anything is sent."""
    vault.answers = {"erase_subject": answer()}
    file = tmp_path / "receipt.json"
    assert run("subject", "erase", "4711", "--yes", "--receipt", str(file), vault=vault).exit_code == 0
    saved = json.loads(file.read_text())
    assert saved["receipt"] == '{"v":1}'
    assert base64.b64decode(saved["signature"]) == b"s" * 64
    again = run("subject", "erase", "4711", "--yes", "--receipt", str(file), vault=vault)
    nowhere = run("subject", "erase", "4711", "--yes", "--receipt", str(tmp_path / "no" / "r"), vault=vault)
    assert (again.exit_code, nowhere.exit_code, len(vault.calls)) == (2, 2, 1)


def test_json_says_all_of_it(vault: MemoryVault) -> None:
    """Signature and key as base64, the receipt as it is, moments as ISO 8601."""
    vault.answers = {"erase_subject": answer()}
    done = run("subject", "erase", "4711", "--yes", "--output", "json", vault=vault)
    document = json.loads(done.stdout)
    assert document["receipt"] == '{"v":1}'
    assert document["signature"] == base64.b64encode(b"s" * 64).decode()
    assert document["retained"][0]["ends_at"] == "2031-06-30T00:00:00Z"
    vault.answers = {"erase_subject": answer(receipt_id="", receipt=b"")}
    preview = json.loads(run("subject", "erase", "4711", "--dry-run", "--output", "json", vault=vault).stdout)
    assert "receipt" not in preview


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (["--ended", "2026-06-30"], {"relationship_ended_on": "2026-06-30"}),
        (["--open"], {"relationship_ended_on": ""}),
        (["--hold", "Case 7"], {"legal_hold": "Case 7"}),
        (["--release-hold"], {"legal_hold": ""}),
    ],
)
def test_retention_sends_one_change(vault: MemoryVault, options: list[str], sent: dict[str, str]) -> None:
    """Each option its own field and no other."""
    vault.answers = {"set_retention": results.Retention(None, "", False, "q1", "r1", 7)}
    assert run("subject", "retention", "4711", *options, vault=vault).exit_code == 0
    (_, customer, given) = vault.calls[0]
    assert customer == "4711"
    assert {name: given[name] for name in ("relationship_ended_on", "legal_hold") if name in given} == sent


@pytest.mark.parametrize("options", [[], ["--open", "--release-hold"], ["--ended", ""], ["--hold", ""]])
def test_retention_needs_exactly_one_change(vault: MemoryVault, options: list[str]) -> None:
    """None, two, or an empty one is wrong usage, and nothing is sent."""
    done = run("subject", "retention", "4711", *options, vault=vault)
    assert (done.exit_code, vault.calls) == (2, [])


def test_evidence_is_shown_as_a_ledger(vault: MemoryVault) -> None:
    """A row per event, its moment readable."""
    document = {
        "events": [{"seq": 1, "state": "given", "purpose": "marketing", "recorded_at": 1_795_496_400_094_380}]
    }
    found = results.ErasureEvidence(json.dumps(document).encode(), None, "r1", 7)
    vault.answers = {"get_erasure_evidence": found}
    done = run("subject", "evidence", "01971c4e-7d7a-7a51-9df3-0a1f6ad3c0f2", vault=vault)
    assert done.exit_code == 0
    assert "marketing" in done.stdout
    assert "2026-11-24" in done.stdout


@pytest.mark.parametrize("content", ["", "[]", '{"receipt": 1}', '{"receipt": "x", "signature": "%%"}'])
def test_what_is_no_receipt_does_not_verify(tmp_path: Path, content: str) -> None:
    """Any file that is none, or not signed by the key, ends with the code of a failed verification."""
    file = tmp_path / "receipt.json"
    file.write_text(content)
    key = base64.b64encode(b"k" * 32).decode()
    assert run("subject", "verify-receipt", str(file), "--public-key", key).exit_code == 5
    assert run("subject", "verify-receipt", str(file), "--public-key", "no key").exit_code == 5
