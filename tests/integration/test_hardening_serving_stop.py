"""Stopping: from the moment the service says it is ready, in order, and not held up by idle streams."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support import wire
from tests.support.faults import FRAUD, add_customer, faulty_service, gauge, start_service, unstarted
from tests.support.faults_policies import write_policies
from tests.support.service import RunningService
from vault.v1 import data_service_pb2 as data

_AT_ONCE = """\
import os, signal
from pathlib import Path
from vault import serving
from vault.config import load_settings

write = serving.write_ready_file

def write_and_signal(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGNAL)

serving.write_ready_file = write_and_signal
serving.serve(load_settings(), Path("ready.json"))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_just_after_the_ready_file_is_a_clean_stop(tmp_path: Path, name: str) -> None:
    """The handlers are there before anybody is told that it serves: exit code 0, not death by the signal."""
    home = unstarted(tmp_path / "service", write_policies(tmp_path / "policies"))
    ended = subprocess.run(
        [sys.executable, "-c", _AT_ONCE.replace("SIGNAL", name)],
        env=home.environment(),
        cwd=home.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2_000:]
    assert "stopped" in ended.stdout


class Stream:
    """A batch read that sends one chunk and then nothing, without ending."""

    def __init__(self, service: RunningService, numbers: list[str]) -> None:
        self._chunk = data.BatchReadAttributesRequest(
            customer_numbers=numbers, purpose=FRAUD, attributes=["email"]
        )
        self._end = threading.Event()
        self.call: Any = wire.data_stub(service.channel(FRAUD)).BatchReadAttributes(
            self._requests(), timeout=60
        )

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()

    def _requests(self) -> Iterator[Any]:
        yield self._chunk
        self._end.wait()


def test_an_idle_stream_ends_at_once_when_the_service_stops(tmp_path: Path) -> None:
    """A stream whose answers have all gone out is told SHUTTING_DOWN, instead of being cut off after the
    drain time; the service then ends."""
    with start_service(tmp_path) as service, Stream(service, [add_customer(service)]) as stream:
        assert next(stream.call).results[0].answer.attributes
        service.signal(signal.SIGTERM)
        failure = wire.refused(lambda: next(stream.call))
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        service.wait_stopped()


def test_a_stream_with_answers_outstanding_gets_them_and_then_ends(tmp_path: Path) -> None:
    """The chunk that was accepted is answered after the stop has begun; then the stream is told to end."""
    service, switch = faulty_service(tmp_path)
    with service:
        numbers = [add_customer(service) for _ in range(3)]
        with switch.hung():
            stream = Stream(service, numbers)
            service.wait_until(lambda: gauge(service, "queued_reads") == len(numbers), "take the chunk")
            service.signal(signal.SIGTERM)
            service.wait_until(
                lambda: any('"stopping"' in line for line in service.log_lines()), "begin to stop"
            )
        with stream:
            results = list(next(stream.call).results)
            failure = wire.refused(lambda: next(stream.call))
        assert [len(result.answer.attributes) for result in results] == [1, 1, 1]
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        service.wait_stopped()
