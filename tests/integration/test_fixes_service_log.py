"""The log of a service: JSON alone, and a clean stop is no error."""

import contextlib
import json
import socket
import ssl
from pathlib import Path

from tests.support.service import RunningService


def test_a_clean_stop_leaves_json_alone_and_no_error(tmp_path: Path) -> None:
    """Neither strangers at the TLS port nor the stop put a line into the log that is no JSON, or an error."""
    with RunningService.start(tmp_path) as service:
        host, _, port = service.addresses["main"].rpartition(":")
        context = ssl.create_default_context(cafile=service.home / "ca" / "ca.pem")
        for _ in range(3):
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 10) as stranger:
                # a handshake that fails for want of a client certificate
                with context.wrap_socket(stranger, server_hostname="localhost") as secured:
                    secured.recv(1)
        service.stop()
        lines = [json.loads(line) for line in service.log_path.read_text("utf-8").splitlines()]
    assert [line for line in lines if line["level"] == "error"] == []
    assert [line["level"] for line in lines if line["event"] == "not_serving"] == ["info"]
