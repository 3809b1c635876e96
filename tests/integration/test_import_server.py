"""The import through the real client over mTLS: what is on the wire, and each row once after any end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import HEADER, MAP, policies, rows, write
from tests.support.cli_server import Served, serving

ROWS = 1_500


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as running:
        yield running


def start(folder: Path, served: Served, import_map: str = MAP) -> "subprocess.Popen[str]":
    """`datavault subject import` as a process of its own."""
    file = folder / "customers.csv"
    if not file.exists():
        write(folder, "customers.csv", HEADER + rows(ROWS))
        write(folder, "map.yaml", import_map)
        policies(folder)
    command = [sys.executable, "-m", "vault.cli", "subject", "import", str(file)]
    return subprocess.Popen(
        [*command, "--map", str(folder / "map.yaml"), "--policies", str(folder / "policies")],
        env={**os.environ, **served.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, errors = process.communicate(timeout=60)
    return process.returncode, output + errors


def customers(served: Served) -> list[str]:
    return [item.customer_number for item in served.writes.written]


EVERYONE = [f"C{number}" for number in range(1, ROWS + 1)]


def test_rows_arrive_in_order_with_their_wire_types(tmp_path: Path, served: Served) -> None:
    """Strings, dates and decimals each in their own field of the oneof."""
    code, output = finish(start(tmp_path, served))
    assert code == 0, output
    assert customers(served) == EVERYONE
    first = served.writes.written[0]
    kinds = {change.attribute: change.value.WhichOneof("kind") for change in first.writes}
    assert kinds == {"given-name": "string_value", "birth-date": "date_value", "balance": "decimal_value"}
    assert list(first.jurisdictions) == ["EU"]
    assert len({item.request_id for item in served.writes.written}) == ROWS


def test_a_server_that_goes_away_stops_it_and_the_same_command_goes_on(
    tmp_path: Path, served: Served
) -> None:
    """The client's own attempts are used up first; nothing is written twice."""
    served.writes.abort_after = 450
    code, output = finish(start(tmp_path, served))
    assert code == 1
    assert "goes on where it stopped" in output
    assert len(customers(served)) == 450
    served.writes.abort_after = None
    code, output = finish(start(tmp_path, served))
    assert code == 0, output
    assert customers(served) == EVERYONE


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_killed_import_goes_on_and_writes_each_row_once(
    tmp_path: Path, served: Served, sign: signal.Signals, code: int
) -> None:
    """Also rows that were written and whose answer never arrived."""
    served.writes.pause_after = 730
    process = start(tmp_path, served)
    assert served.writes.paused.wait(60)
    process.send_signal(sign)
    assert finish(process)[0] == code
    served.writes.pause_after = None
    served.writes.go_on.set()
    ended, output = finish(start(tmp_path, served))
    assert ended == 0, output
    assert sorted(customers(served)) == sorted(EVERYONE)
    assert len(customers(served)) == ROWS
    assert "already imported, nothing to do" in finish(start(tmp_path, served))[1]


def test_a_certificate_of_another_authority_is_told_as_such(tmp_path: Path, served: Served) -> None:
    """With what to check, without a traceback, and nothing is sent."""
    with serving(tmp_path / "other") as other:
        mixed = Served(
            served.writes, {**other.environment, "DATAVAULT_ADDR": served.environment["DATAVAULT_ADDR"]}
        )
        code, output = finish(start(tmp_path, mixed))
    assert code == 1
    assert "TLS_FAILED" in output
    assert "Traceback" not in output
    assert customers(served) == []
