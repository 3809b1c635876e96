"""The dev server: a real program, started, secured and ended."""

import os
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.transit_server import provider_on
from vault.crypto.dev_server import find_program, start_dev_transit
from vault.domain.errors import ConfigurationError, KeysUnavailableError

PARENT = """
import sys
from pathlib import Path
from vault.crypto.dev_server import start_dev_transit
server = start_dev_transit(Path(sys.argv[1]))
print(server.process.pid, flush=True)
sys.stdin.read()
"""


def test_a_server_answers_over_tls_until_it_is_stopped(tmp_path: Path) -> None:
    """Keys can be made on it; its token is readable by the owner alone; afterwards nobody listens."""
    server = start_dev_transit(tmp_path / "kms")
    try:
        assert server.address.startswith("https://127.0.0.1:")
        assert stat.S_IMODE(server.token_file.stat().st_mode) == 0o600
        provider = provider_on(server)
        provider.ensure_keys(["contact"])
        assert provider.info("datavault-contact").latest_version == 1
    finally:
        server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])), 5)


def test_two_servers_run_side_by_side(tmp_path: Path) -> None:
    """Each has a port of its own."""
    servers = [start_dev_transit(tmp_path / name) for name in ("one", "two")]
    for server in servers:
        server.stop()
    assert servers[0].address != servers[1].address


if sys.platform == "linux":  # elsewhere nothing ends a child with its parent

    def test_a_server_ends_with_its_parent(tmp_path: Path) -> None:
        """Killed without a chance to clean up, the parent still takes the server with it."""
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(tmp_path / "kms")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # opened while the server lives, so that it is this process and no later one with its number
        handle = os.pidfd_open(pid)
        try:
            parent.send_signal(signal.SIGKILL)
            parent.wait(30)
            assert select.select([handle], [], [], 30)[0], "the server outlived its parent"
        finally:
            os.close(handle)
            parent.communicate()


def test_a_program_that_ends_at_once_is_an_error(tmp_path: Path) -> None:
    """The wait does not last its whole time when there is nothing to wait for."""
    with pytest.raises(KeysUnavailableError, match=r"server\.log"):
        start_dev_transit(tmp_path / "kms", program="/bin/false")


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(ConfigurationError, match="no-such-program"):
        start_dev_transit(tmp_path / "kms", program="no-such-program")


def test_the_wheels_program_is_found_without_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A virtual environment that is not activated has it beside its Python."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_program()
    assert found is not None
    assert Path(found).parent == Path(sys.executable).parent
