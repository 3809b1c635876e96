"""`datavault keys` and `subject rekey`: what they send, what they print, and how they exit."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.cli import MemoryVault, failure, run
from vault.client import (
    KeysStatus,
    KeyStatus,
    LookupProgress,
    Phase,
    RekeyReceipt,
    RewrapProgress,
    RotatedKey,
)

CONTACT = KeyStatus("datavault-contact", "aes256-gcm96", 3, 2, {2: 4, 3: 5}, 4, "")
LOG = KeyStatus("datavault-log", "ed25519", 1, 1, {}, 0, "")
FORBIDDEN = KeyStatus("datavault-special", "", 0, 0, {1: 7}, 0, "not this replica's")
STATUS = KeysStatus("transit", True, "it answers", 12_000, (CONTACT, LOG, FORBIDDEN), "r1", 7)
DONE = RewrapProgress(Phase.DONE, 9, 4, 0, 9, 0, 3, "r2", 8)
WAITING = RewrapProgress(Phase.WAITING, 9, 4, 0, 9, 0, 0, "", 0)
INDEXED = LookupProgress(Phase.DONE, 9, 9, 0, 2, "r3", 9)


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


def test_status_is_a_table_with_every_key(vault: MemoryVault) -> None:
    """Versions with what they wrap, stragglers, and the problem of a key that cannot be used."""
    vault.answers = {"key_status": STATUS}
    result = run("keys", "status", vault=vault)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "datavault-contact aes256-gcm96 3 2 v2: 4, v3: 5 4" in lines
    assert "datavault-log ed25519 1 1 0" in lines
    assert "datavault-special v1: 7 not this replica's" in lines
    assert "token lifetime left: 3 h 20 min" in lines
    assert "healthy: yes" in lines


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "no end, or not known"), (0, "0 s"), (59, "59 s"), (3_605, "1 h 0 min"), (200_000, "2 d 7 h")],
)
def test_status_says_how_long_the_token_lives(vault: MemoryVault, seconds: int | None, said: str) -> None:
    """In the two largest units."""
    vault.answers = {"key_status": replace(STATUS, token_seconds_left=seconds)}
    assert said in run("keys", "status", vault=vault).stdout


@pytest.mark.parametrize("output", ["table", "json"])
def test_status_fails_while_the_provider_is_not_healthy(vault: MemoryVault, output: str) -> None:
    """What watches it by its exit code is told; what is known is printed all the same."""
    vault.answers = {"key_status": replace(STATUS, healthy=False, detail="it does not answer")}
    result = run("keys", "status", "--output", output, vault=vault)
    assert result.exit_code == 1
    assert "it does not answer" in result.stdout


def test_status_is_json_for_programs(vault: MemoryVault) -> None:
    """Numbers stay numbers."""
    vault.answers = {"key_status": STATUS}
    document = json.loads(run("keys", "status", "--output", "json", vault=vault).stdout)
    assert document["token_seconds_left"] == 12_000
    assert document["keys"][0]["versions"] == {"2": 4, "3": 5}


def test_status_without_a_service_says_what_looks_without_one(vault: MemoryVault) -> None:
    """The operator who looks at keys while the service is down is not left alone."""
    vault.answers = {"key_status": failure()}
    result = run("keys", "status", vault=vault)
    assert result.exit_code == 1
    assert "UNREACHABLE" in result.stderr
    assert "datavault doctor" in result.stderr


def test_rotate_tells_the_new_version_and_what_comes_next(vault: MemoryVault) -> None:
    """For the log key, its verifier key instead."""
    vault.answers = {"rotate_key": RotatedKey("datavault-contact", 4, "", "r1", 7)}
    result = run("keys", "rotate", "contact", vault=vault)
    assert vault.calls == [("rotate_key", "contact", {})]
    assert "4" in result.stdout
    assert "datavault keys rewrap contact" in result.stderr
    vault.answers = {"rotate_key": RotatedKey("datavault-log", 2, "the-verifier-key", "r1", 7)}
    result = run("keys", "rotate", "log", vault=vault)
    assert "the-verifier-key" in result.stdout
    assert "rewrap" not in result.stderr


def test_rewrap_sends_what_was_wished_and_shows_the_result(vault: MemoryVault) -> None:
    """Progress goes to stderr, the result to stdout."""
    vault.answers = {"rewrap_keys": [WAITING, DONE]}
    result = run(
        *("keys", "rewrap", "contact", "--keys-per-second", "5", "--keep-old-versions", "--output", "json"),
        vault=vault,
    )
    assert vault.calls == [
        ("rewrap_keys", "contact", {"dry_run": False, "keys_per_second": 5, "keep_old_versions": True})
    ]
    assert result.exit_code == 0
    assert json.loads(result.stdout)["keys"] == [
        {
            "key": "contact",
            "total": 9,
            "rewrapped": 4,
            "failed": 0,
            "stragglers": 0,
            "min_decryption_version": 3,
            "record_id": "r2",
            "position": 8,
        }
    ]
    assert "contact: waiting until no call is left that read an old key: 9 of 9" in result.stderr


@pytest.mark.parametrize(
    ("done", "arguments", "code"),
    [
        (replace(DONE, stragglers=1), [], 1),
        (replace(DONE, failed=1), [], 1),
        (replace(DONE, stragglers=3), ["--dry-run"], 0),
    ],
)
def test_rewrap_fails_while_something_is_left(
    vault: MemoryVault, done: RewrapProgress, arguments: list[str], code: int
) -> None:
    """Scripts see it; a dry run only looks."""
    vault.answers = {"rewrap_keys": [done]}
    assert run("keys", "rewrap", "contact", *arguments, vault=vault).exit_code == code


def test_rewrap_all_takes_every_key_that_wraps_and_names_those_it_cannot(vault: MemoryVault) -> None:
    """Keys that sign are left out; a key this replica may not use makes it fail."""
    vault.answers = {"key_status": STATUS, "rewrap_keys": [DONE]}
    result = run("keys", "rewrap", "--all", vault=vault)
    assert [first for name, first, _ in vault.calls if name == "rewrap_keys"] == ["contact"]
    assert result.exit_code == 1
    assert "special: skipped: not this replica's" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["contact", "--all"]])
def test_rewrap_wants_a_key_or_all(vault: MemoryVault, arguments: list[str]) -> None:
    """And nothing is sent otherwise."""
    assert run("keys", "rewrap", *arguments, vault=vault).exit_code == 2
    assert vault.calls == []


class Broken:
    """Progress that ends in an error."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __iter__(self) -> Iterator[Any]:
        yield WAITING
        raise self._error


def test_an_interrupted_job_says_how_to_go_on(vault: MemoryVault) -> None:
    """With the exit code of an interruption."""
    vault.answers = {"rewrap_keys": Broken(KeyboardInterrupt())}
    result = run("keys", "rewrap", "contact", vault=vault)
    assert result.exit_code == 130
    assert "the same command goes on where this one stopped" in result.stderr


def test_a_job_that_fails_says_why_and_how_to_go_on(vault: MemoryVault) -> None:
    """The server's reason, and that nothing is lost."""
    vault.answers = {"rewrap_keys": Broken(failure("KEYS_UNAVAILABLE", "the KMS is sealed"))}
    result = run("keys", "rewrap", "contact", vault=vault)
    assert result.exit_code == 1
    assert "KEYS_UNAVAILABLE: the KMS is sealed" in result.stderr
    assert "the same command goes on where this one stopped" in result.stderr


def test_rotate_lookup_sends_what_was_wished_and_fails_where_customers_are_left(vault: MemoryVault) -> None:
    """As a rewrap."""
    vault.answers = {"rotate_lookup_key": [INDEXED]}
    result = run("keys", "rotate-lookup", "--resume-only", "--customers-per-second", "9", vault=vault)
    assert vault.calls == [
        ("rotate_lookup_key", "", {"dry_run": False, "subjects_per_second": 9, "resume_only": True})
    ]
    assert result.exit_code == 0
    vault.answers = {"rotate_lookup_key": [replace(INDEXED, failed=1)]}
    assert run("keys", "rotate-lookup", vault=vault).exit_code == 1
    assert run("keys", "rotate-lookup", "--dry-run", vault=vault).exit_code == 0


def test_rekey_tells_what_was_done(vault: MemoryVault) -> None:
    """How many values, of which classes, in which request and record."""
    vault.answers = {"rekey_subject": RekeyReceipt(3, ("contact",), None, False, "q1", "r1", 7)}
    result = run("subject", "rekey", "4711", "--request-id", "q1", vault=vault)
    assert vault.calls == [("rekey_subject", "4711", {"request_id": "q1"})]
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert {"values: 3", "key classes: contact", "request id: q1", "record: r1"} <= set(lines)


def test_the_words_for_keys_are_completed(vault: MemoryVault) -> None:
    """By the shell, from what every installation has."""
    from vault.cli.keys_rotation import _words

    assert _words(None, None, "l") == ["lookup", "log"]  # type: ignore[arg-type]
