"""The log of a service: JSON alone, and a clean stop is no error."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.service import POLICIES, REPOSITORY, RunningService
from vault.build import BUILD

ELSEWHERE = "192.0.2.7:8443"
"""An address for documentation (RFC 5737), which no machine has."""


def test_a_clean_stop_is_no_error(tmp_path: Path) -> None:
    """Health says that it stops, at level info: nobody is to be woken by a restart."""
    with RunningService.start(tmp_path) as service:
        service.stop()
        lines = [json.loads(line) for line in service.log_path.read_text("utf-8").splitlines()]
    assert [line for line in lines if line["level"] == "error"] == []
    assert [line["level"] for line in lines if line["event"] == "not_serving"] == ["info"]


def test_the_start_names_the_build(tmp_path: Path) -> None:
    """A service that tests start is of their own build, wherever it stands."""
    with RunningService.start(tmp_path) as service:
        lines = [json.loads(line) for line in service.log_path.read_text("utf-8").splitlines()]
    assert [line["build"] for line in lines if line["event"] == "started"] == [BUILD]


def test_a_port_that_cannot_be_bound_is_said_once_and_not_by_grpc(tmp_path: Path) -> None:
    """All lines are JSON but the command's own last one."""
    own = ("DATAVAULT_", "VAULT_", "GRPC_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment |= {
        "DATAVAULT_HOME": str(tmp_path / "home"),
        "DATAVAULT_POLICIES": str(POLICIES),
        "DATAVAULT_LISTEN": ELSEWHERE,
        "DATAVAULT_LISTEN_HEALTH": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "vault.cli", "serve"],
        env=environment,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    *lines, last = done.stdout.splitlines()
    assert last.startswith(f"datavault: error: cannot listen on {ELSEWHERE}")
    assert [line for line in lines if not line.startswith("{")] == []
