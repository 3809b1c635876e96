"""deploy/compose.yaml: its parts come up in their order, with its own files, settings and logins."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compose_run import ComposeHere

pytestmark = pytest.mark.xdist_group("compose")


@pytest.fixture(scope="module")
def parts() -> Iterator[ComposeHere]:
    """All that the servers depend on has run."""
    with tempfile.TemporaryDirectory(prefix="compose-") as name, pytest.MonkeyPatch.context() as patch:
        os.chmod(name, 0o755)  # noqa: S103  PostgreSQL runs as another user
        here = ComposeHere(Path(name))
        try:
            here.prepare(patch)
            with here.postgres():
                here.openbao()
                for service in ("schema", "grants", "keys"):
                    here.datavault(service)
                yield here
        finally:
            here.stop()


def test_a_caller_of_the_compose_file_reads_what_another_wrote(parts: ComposeHere) -> None:
    """Through two servers of two workers each, over mTLS with the certificates that `prepare` made; then both
    stop when they are told to."""
    servers = [parts.serve("datavault-1"), parts.serve("datavault-2")]
    parts.datavault(
        "client",
        *("subject", "write", "4711", "--jurisdiction", "EU", "email=ana@mail.example"),
        CALLER="importer",
    )
    question = ("subject", "read", "4711", "--purpose", "fraud-detection", "email")
    assert "ana@mail.example" in parts.datavault("client", *question, CALLER="fraud-detection")
    parts.addresses["datavault-1:8443"] = parts.addresses["datavault-2:8443"]
    assert "ana@mail.example" in parts.datavault("client", *question, CALLER="fraud-detection")
    for server in servers:
        server.send_signal(signal.SIGTERM)
    assert [server.wait(40) for server in servers] == [0, 0]


def test_the_servers_may_not_set_keys_up(parts: ComposeHere) -> None:
    """Their login is not that of `keys`, and opens neither mount nor policies."""
    with pytest.raises(AssertionError, match="the token may not"):
        parts.datavault("datavault-1", "keys", "init", "--apply")


def test_it_comes_up_a_second_time(parts: ComposeHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare` leaves the secrets that are there, and the three that ended before end well again."""
    before = {path: path.read_bytes() for path in parts.folder.glob("secrets/*/*-password")}
    parts.prepare(monkeypatch)
    assert {path: path.read_bytes() for path in before} == before
    for service in ("schema", "grants", "keys"):
        parts.datavault(service)
