"""kill -9 of a real process: what was acknowledged is there, and the log is whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.audit import Log, encoded, make_record, vkey_of
from tests.support.audit_crash import GROUP
from vault.audit.verify import verify

ROOT = Path(__file__).parents[2]


def crash(folder: Path, *arguments: object, acknowledgements: int | None = None) -> list[int]:
    """Run the appending process until it is dead; returns the indices it was told are durable."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.support.audit_crash",
            str(folder),
            *map(str, arguments),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    with process:
        for line in process.stdout:
            lines.append(line)
            if len(lines) == acknowledgements:
                process.kill()
    assert process.returncode == -9
    return [int(index) for line in lines if line.endswith("\n") for index in line.split()]


def assert_survived(log: Log, acknowledged: list[int]) -> None:
    stored = {row[0]: row[1] for row in log.sql('SELECT "index", entry FROM log_entry')}
    assert len(stored) % GROUP == 0
    for index in acknowledged:
        assert stored[index] == encoded(make_record(index)).entry
    log.grow(1)
    with log.database.read() as connection:
        report = verify(connection, log.id, vkey_of())
    assert report.problems == []
    assert report.size == len(stored) + 1


@pytest.mark.parametrize("statement", range(10))
def test_process_killed_before_any_statement_loses_no_acknowledged_record(
    tmp_path: Path, statement: int
) -> None:
    """Killed before BEGIN, each statement of the append, COMMIT, or right after it: nothing acknowledged is
    lost, and no group is there in part."""
    log = Log(tmp_path)
    acknowledged = crash(tmp_path, statement)
    assert acknowledged[:GROUP] == list(range(GROUP))
    assert_survived(log, acknowledged)


@pytest.mark.parametrize("acknowledgements", [3, 20, 57])
def test_process_killed_from_outside_loses_no_acknowledged_record(
    tmp_path: Path, acknowledgements: int
) -> None:
    """Killed while it appends on, wherever it then is: nothing acknowledged is lost."""
    log = Log(tmp_path)
    acknowledged = crash(tmp_path, acknowledgements=acknowledgements)
    assert len(acknowledged) >= acknowledgements * GROUP
    assert_survived(log, acknowledged)
