"""The load, always from a process of its own: h2load where it is installed, else a grpc.aio client."""

import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

METHOD: Final = "/vault.v1.DataService/ReadAttributes"


@dataclass(frozen=True, slots=True)
class Load:
    """What one run showed."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float


def generator() -> str:
    """`h2load` or `grpc.aio`."""
    return "h2load" if shutil.which("h2load") else "grpc.aio"


def run_load(port: int, request: bytes, clients: int, requests: int) -> Load:
    """Send `requests` calls from `clients` connections, one at a time each.

    Raises:
        RuntimeError: a call failed.
    """
    run = _h2load if generator() == "h2load" else _python
    return run(port, request, clients, requests)


def _h2load(port: int, request: bytes, clients: int, requests: int) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(struct.pack(">BI", 0, len(request)) + request)
        done = subprocess.run(
            [
                "h2load", f"-n{requests}", f"-c{clients}", "-m1", f"-d{body}", f"--log-file={log}",
                "-Hcontent-type: application/grpc", "-Hte: trailers", f"http://127.0.0.1:{port}{METHOD}",
            ],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        per_second = float(_match(r"finished in [^,]+, ([0-9.]+) req/s", done.stdout))
        succeeded = int(_match(r"(\d+) succeeded", done.stdout))
        if succeeded != requests:
            raise RuntimeError(f"{requests - succeeded} of {requests} calls failed")
        return _summary(per_second, sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines()))


def _python(port: int, request: bytes, clients: int, requests: int) -> Load:
    done = subprocess.run(
        [sys.executable, "-m", "bench.client", str(port), str(clients), str(requests)],
        input=request, capture_output=True, check=True, timeout=300,
    )  # fmt: skip
    seconds, latencies = json.loads(done.stdout)
    return _summary(requests / seconds, sorted(latencies))


def _summary(per_second: float, microseconds: list[int]) -> Load:
    return Load(
        len(microseconds),
        per_second,
        microseconds[len(microseconds) // 2] / 1_000,
        microseconds[len(microseconds) * 99 // 100] / 1_000,
    )


def _match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError("h2load printed nothing that could be read")
    return found[1]
