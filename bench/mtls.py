"""What mTLS costs on connections that live long: the same service process, over mTLS and in plain text.

Over mTLS the caller is looked up by its certificate in every call, as in the product. h2load has no client
certificates, so ghz sends both (`make ghz` builds it with Go), else grpc.aio clients. They take a good part
of the processors for themselves and do their side of TLS there.
"""

import json
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench.customers import ATTRIBUTES, PURPOSE, customer_number
from bench.figures import Figure, rates
from bench.load import GRPC_AIO, METHOD, Load, python_load
from bench.reads import Say, compare_log, reads_in_sqlite, service
from bench.vault_server import CERTIFICATES
from vault.v1 import data_service_pb2 as pb

CLIENTS: Final = 32
_ROOT: Final = Path(__file__).parent.parent
GHZ: Final = _ROOT / "build" / "ghz" / "bin" / "ghz"


def mtls(folder: Path, rounds: int, requests: int, say: Say) -> list[Figure]:
    """`mtls`: reads over mTLS against reads in plain text."""
    home = folder / "home"
    request = pb.ReadAttributesRequest(
        customer_number=customer_number(7), purpose=PURPOSE, attributes=ATTRIBUTES
    ).SerializeToString()
    send = _ghz if GHZ.exists() else _python
    pairs: list[tuple[Load, Load]] = []
    with service(home, "--customers", "100", "--tls") as server:
        plain, mutual = server.ports
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}" if number else "connections")
            pairs.append(
                (send(plain, request, requests), send(mutual, request, requests, home / CERTIFICATES))
            )
    compare_log(2 * requests * len(pairs), reads_in_sqlite(home))
    return [rates("mtls", pairs[1:], None)]


def _ghz(port: int, request: bytes, requests: int, certificates: Path | None = None) -> Load:
    tls = ["--insecure"]
    if certificates is not None:
        files = {"cacert": "ca.pem", "cert": "client.pem", "key": "client.key"}
        tls = ["--cname=localhost", *(f"--{name}={certificates / file}" for name, file in files.items())]
    with tempfile.NamedTemporaryFile() as body:
        body.write(request)
        body.flush()
        done = subprocess.run(
            [
                GHZ, *tls, f"--import-paths={_ROOT / 'proto'}", "--proto=vault/v1/data_service.proto",
                f"--call={METHOD[1:].replace('/', '.')}", f"--binary-file={body.name}", "--format=json",
                f"--concurrency={CLIENTS}", f"--connections={CLIENTS}", f"--total={requests}",
                f"127.0.0.1:{port}",
            ],
            capture_output=True, check=True, timeout=300,
        )  # fmt: skip
    return ghz_load(json.loads(done.stdout), requests)


def ghz_load(document: dict[str, Any], requests: int) -> Load:
    """What ghz's JSON says.

    Raises:
        RuntimeError: a call failed.
    """
    if document["statusCodeDistribution"] != {"OK": requests}:
        raise RuntimeError(f"not all of {requests} calls succeeded")
    latencies = {one["percentage"]: one["latency"] / 1e6 for one in document["latencyDistribution"]}
    return Load(requests, document["rps"], latencies[50], latencies[99], by="ghz")


def _python(port: int, request: bytes, requests: int, certificates: Path | None = None) -> Load:
    load = python_load(f"127.0.0.1:{port}", request, CLIENTS, requests, METHOD, certificates)
    return replace(load, by=GRPC_AIO)
