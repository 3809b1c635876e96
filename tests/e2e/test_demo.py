"""`datavault demo` from start to end: what it shows is checked, and it leaves nothing behind."""

import os
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.demo import (
    RUN_SECONDS,
    command,
    environment,
    play,
    policies_without_consent_for_income,
    processes_of,
)

pytestmark = pytest.mark.xdist_group("demo")
STEPS = 8


def headings(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"^(\d+)\. ", output, re.MULTILINE)]


def until(stream: int, text: bytes) -> bytes:
    """What was read from a file descriptor until `text` came."""
    seen, end = b"", time.monotonic() + RUN_SECONDS
    while text not in seen:
        assert time.monotonic() < end, seen.decode(errors="replace")
        if select.select([stream], [], [], 1.0)[0]:
            read = os.read(stream, 65_536)
            assert read, seen.decode(errors="replace")
            seen += read
    return seen


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        pytest.param("transit", "Transit: OpenBao", id="transit"),
        pytest.param("local", "local keyring", id="local"),
    ],
)
def test_demo_plays_every_step_and_leaves_nothing(tmp_path: Path, keys: str, said: str) -> None:
    """With either kind of keys all steps turn out as expected, and neither process nor file remains."""
    played = play(tmp_path, "--keys", keys)

    assert played.returncode == 0, played.stdout + played.stderr
    assert headings(played.stdout) == list(range(1, STEPS + 1))
    assert played.stdout.count("✓") > STEPS
    assert "✗" not in played.stdout
    assert said in played.stdout
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_demo_takes_real_keys_where_a_program_is_installed(tmp_path: Path) -> None:
    """Without --keys the demo finds `bao` and says so; kept homes hold no value in clear."""
    played = play(tmp_path, "--keep")

    assert played.returncode == 0, played.stdout + played.stderr
    assert "Transit: OpenBao" in played.stdout
    (home,) = tmp_path.iterdir()
    address = re.search(r"[a-z.]+\d\d@example\.(?:com|net|org)", played.stdout)
    assert address is not None
    assert [
        path.name for path in home.rglob("*") if path.is_file() and address[0].encode() in path.read_bytes()
    ] == []


def test_step_that_turns_out_otherwise_fails_the_demo(tmp_path: Path) -> None:
    """With policies that give the engine the income on another basis, checks fail and the exit code is 1."""
    changed = policies_without_consent_for_income(tmp_path / "changed")
    home = tmp_path / "home"
    home.mkdir()

    played = play(home, "--keys", "local", "--policies", str(changed))

    assert played.returncode == 1, played.stdout + played.stderr
    assert "✗ income came as a band" in played.stdout
    assert headings(played.stdout) == list(range(1, STEPS + 1))
    assert processes_of(home) == []


def test_missing_policies_are_told_before_anything_starts(tmp_path: Path) -> None:
    """A folder that is not there is a usage error that names it."""
    played = play(tmp_path, "--policies", str(tmp_path / "none"))

    assert played.returncode == 2
    assert f"{tmp_path / 'none'}: no such folder" in played.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """A signal in the middle ends both servers and removes the home."""
    with subprocess.Popen(
        command(tmp_path),
        env={**environment(), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as demo:
        assert demo.stdout is not None
        until(demo.stdout.fileno(), b"   service ")
        running = processes_of(tmp_path)
        demo.send_signal(number)
        rest = demo.stdout.read()

    assert len(running) == 2
    assert demo.returncode == 130, rest.decode()
    assert b"interrupted" in rest
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_on_a_terminal_it_stays_up_with_commands_that_work(tmp_path: Path) -> None:
    """On a terminal the service stays; the first command printed reads through it; Ctrl-C ends all with 0."""
    leader, terminal = os.openpty()
    with subprocess.Popen(
        command(tmp_path, "--keys", "local"),
        env={**environment(), "COLUMNS": "120"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as demo:
        os.close(terminal)
        try:
            shown = until(leader, b"ReadAttributes\r\n").decode()
            script = shown.split("# you are the personalization engine")[1].split("# C-")[0].replace("\r", "")
            tried = subprocess.run(
                ["sh", "-c", script], env=environment(), capture_output=True, text=True, check=False
            )
            demo.send_signal(signal.SIGINT)
            until(leader, b"ending the service")
            demo.wait(RUN_SECONDS)
        finally:
            # Popen's own end waits for ever: for one that was started with SIGINT ignored, say (nohup, `&`)
            demo.kill()
    os.close(leader)

    assert tried.returncode == 0, tried.stderr
    assert "consent-missing" in tried.stdout
    assert demo.returncode == 0
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
