"""What `datavault audit query` and `audit verify` say where they cannot show or vouch for all."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import MemoryVault, run
from tests.support.pipelines import open_house
from tests.support.service import ORIGIN, POLICIES, REPOSITORY
from vault.audit.checkpoint import sign, vkey
from vault.client import results
from vault.crypto.names import LOG
from vault.crypto.signer import KeySigner
from vault.domain.actions import ACTIONS
from vault.domain.protocols import Signer

FOLLOW = "more records follow: --limit 0 shows all"


def records(count: int) -> Iterator[results.LogRecord]:
    return (results.LogRecord(number, b'{"id":"r"}') for number in range(count))


@pytest.mark.parametrize(
    ("held", "limit", "told"), [(3, 2, True), (2, 2, False), (3, 0, False), (3, 4, False)]
)
@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_a_cut_answer_says_so(held: int, limit: int, told: bool, output: str) -> None:
    """Records beyond the limit are announced on stderr, and only where there are some."""
    vault = MemoryVault()
    vault.answers = {"query_records": records(held)}
    result = run("audit", "query", "--limit", str(limit), "--output", output, vault=vault)
    assert (FOLLOW in result.stderr) is told
    assert FOLLOW not in result.stdout


def test_a_span_that_ends_before_it_begins_is_refused() -> None:
    """An auditor must not take a mistake for an empty log."""
    vault = MemoryVault()
    result = run("audit", "query", "--from", "2026-02-01", "--to", "2026-01-01", vault=vault)
    assert (result.exit_code, vault.calls) == (2, [])
    assert "--from is later than --to" in result.stderr


def test_an_unknown_action_is_refused_with_the_list() -> None:
    """A misspelt action would match nothing."""
    vault = MemoryVault()
    result = run("audit", "query", "--action", "reed", vault=vault)
    assert (result.exit_code, vault.calls) == (2, [])
    assert all(action in result.stderr for action in ACTIONS)


def test_the_auditors_guide_lists_the_actions() -> None:
    """The table of actions in the guide is the one of the code."""
    guide = (REPOSITORY / "docs/auditors/guide.md").read_text("utf-8")
    table = guide.partition("| action | call |\n")[2].partition("\n\n")[0]
    cells = " ".join(line.split("|")[1] for line in table.splitlines()[1:])
    assert tuple(re.findall(r"`([a-z.-]+)`", cells)) == ACTIONS


# --- verify -------------------------------------------------------------------------------------------------


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signer:
    """The log key of a home that the commands look into, whose log was opened by an adopted restore."""
    with open_house(tmp_path) as house:
        signer = KeySigner(house.rooms.provider, LOG)
        with house.rooms.database.write() as connection:
            connection.exec_driver_sql("UPDATE log SET origin = ?", (f"{ORIGIN}/r2",))
    for name, value in (("HOME", tmp_path / "home"), ("POLICIES", POLICIES), ("ORIGIN", ORIGIN)):
        monkeypatch.setenv(f"DATAVAULT_{name}", str(value))
    return signer


def kept(folder: Path, note: str) -> Path:
    path = folder / "kept.checkpoint"
    path.write_text(note, encoding="utf-8")
    return path


def test_a_checkpoint_of_the_log_before_a_restore_is_named_as_such(tmp_path: Path, signer: Signer) -> None:
    """It does not say that the log is forged: it says which log the checkpoint is of."""
    result = run("audit", "verify", "--from-checkpoint", kept(tmp_path, sign(ORIGIN, 0, bytes(32), signer)))
    assert result.exit_code == 5
    assert (
        f"this checkpoint is of {ORIGIN}; the log in service is {ORIGIN}/r2, opened by an adopted restore"
        in " ".join(result.stderr.split())
    )


def test_a_verifier_key_of_the_log_before_a_restore_is_named_as_such(signer: Signer) -> None:
    """A pinned key of the old origin."""
    result = run("audit", "verify", "--vkey", vkey(ORIGIN, signer.public_key()))
    assert result.exit_code == 5
    assert f"this verifier key is of {ORIGIN}; the log in service is {ORIGIN}/r2" in result.stderr


def test_old_and_new_verifier_key_together_verify(signer: Signer) -> None:
    """Who pins both keys gives both."""
    keys = (vkey(f"{ORIGIN}{end}", signer.public_key()) for end in ("", "/r2"))
    assert run("audit", "verify", *(word for key in keys for word in ("--vkey", key))).exit_code == 0


@pytest.mark.parametrize("damage", ["signature", "text", "encoding"])
def test_a_damaged_checkpoint_fails_the_verification(tmp_path: Path, signer: Signer, damage: str) -> None:
    """A kept checkpoint that its key did not sign ends with exit code 5, as a log that does not verify."""
    note = sign(f"{ORIGIN}/r2", 0, bytes(32), signer)
    path = kept(tmp_path, note.replace("\n0\n", "\n1\n") if damage == "signature" else "no checkpoint")
    if damage == "encoding":
        path.write_bytes(b"\xff\xfe" + note.encode())
    assert run("audit", "verify", "--from-checkpoint", path).exit_code == 5


# --- serve --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "expected"), [(None, "NONE"), ("DEBUG", "DEBUG")])
def test_grpc_is_silent_unless_asked_to_speak(given: str | None, expected: str) -> None:
    """`serve` tells gRPC so before it is imported, and leaves a user's own choice."""
    program = (
        "import os, sys, builtins\n"
        "real = builtins.__import__\n"
        "def seen(name, *rest):\n"
        "    if name == 'grpc':\n"
        "        print(os.environ.get('GRPC_VERBOSITY')); sys.stdout.flush(); os._exit(0)\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = seen\n"
        "from vault.cli import main\n"
        "main(['serve'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    if given:
        environment["GRPC_VERBOSITY"] = given
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert done.stdout.strip() == expected
