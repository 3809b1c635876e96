"""The load, always from a process of its own: h2load where it is installed, else a grpc.aio client."""

import json
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

_DEADLINE_SECONDS: Final = 10
METHOD: Final = "/vault.v1.DataService/ReadAttributes"
BATCH_METHOD: Final = "/vault.v1.DataService/BatchReadAttributes"
H2LOAD: Final = "h2load"
GRPC_AIO: Final = "grpc.aio"


@dataclass(frozen=True, slots=True)
class Load:
    """What one run showed; `cpu_seconds` is what the load process itself used, `by` which one it was."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float = 0.0
    by: str = ""


def generator() -> str:
    """The best one that is here."""
    return H2LOAD if shutil.which(H2LOAD) else GRPC_AIO


def run_load(
    port: int, request: bytes, clients: int, requests: int, *, by: str = "", method: str = METHOD
) -> Load:
    """Send `requests` calls from `clients` connections, one at a time each. `by` is the generator, the best
    one by default. Of a method with streams each call is one message, and its answers are read to the end.

    Raises:
        RuntimeError: a call failed.
    """
    chosen = by or generator()
    run = {H2LOAD: _h2load, GRPC_AIO: _python}[chosen]
    before = _children_seconds()
    found = run(port, request, clients, requests, method)
    return replace(found, cpu_seconds=_children_seconds() - before, by=chosen)


def _h2load(port: int, request: bytes, clients: int, requests: int, method: str) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(struct.pack(">BI", 0, len(request)) + request)
        done = subprocess.run(
            [
                "h2load", f"-n{requests}", f"-c{clients}", "-m1", f"-d{body}", f"--log-file={log}",
                "-Hcontent-type: application/grpc", "-Hte: trailers",
                # as any client of the service: without one the server has to keep the time itself
                f"-Hgrpc-timeout: {_DEADLINE_SECONDS}S", f"http://127.0.0.1:{port}{method}",
            ],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        per_second = float(_match(r"finished in [^,]+, ([0-9.]+) req/s", done.stdout))
        succeeded = int(_match(r"(\d+) succeeded", done.stdout))
        if succeeded != requests:
            raise RuntimeError(f"{requests - succeeded} of {requests} calls failed")
        return summary(per_second, sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines()))


def _python(port: int, request: bytes, clients: int, requests: int, method: str) -> Load:
    return python_load(f"127.0.0.1:{port}", request, clients, requests, method)


def python_load(
    address: str, request: bytes, clients: int, requests: int, method: str, certificates: Path | None = None
) -> Load:
    """The same from grpc.aio, over mTLS with the certificates of a folder (see bench/client.py)."""
    arguments = [address, str(clients), str(requests), method, *([str(certificates)] if certificates else [])]
    done = subprocess.run(
        [sys.executable, "-m", "bench.client", *arguments],
        input=request, capture_output=True, check=True, timeout=300,
    )  # fmt: skip
    seconds, latencies = json.loads(done.stdout)
    return summary(requests / seconds, sorted(latencies))


def summary(per_second: float, microseconds: list[int]) -> Load:
    """A run of these latencies, sorted."""
    return Load(
        len(microseconds),
        per_second,
        microseconds[len(microseconds) // 2] / 1_000,
        microseconds[len(microseconds) * 99 // 100] / 1_000,
    )


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError("h2load printed nothing that could be read")
    return found[1]
