"""How throughput and p99 go with the number of callers: the service beside an echo, 1 to 64 of them.

Both without TLS, as in the read rows of `make bench`, in turn. The echo gives the service's own answer.
"""

import contextlib
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import grpc

from bench.http2 import METHOD
from bench.processes import process
from bench.service import Seen, Target, drive, percentile

SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
CUSTOMERS: Final = 500
ROUNDS: Final = 3
SECONDS: Final = 2.0


def scale_clients(folder: Path, say: Callable[[str], None]) -> list[dict[str, float]]:
    """A row for each number of callers."""
    with contextlib.ExitStack() as opened:
        arguments = (str(folder / "clients"), "--customers", str(CUSTOMERS))
        service = Target(opened.enter_context(process("bench.vault_server", *arguments)).port)
        with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            answer: bytes = channel.unary_unary(METHOD)(service.requests[0], timeout=60)
        echo = Target(opened.enter_context(process("bench.echo_server", stdin=answer)).port)
        for target in (service, echo):
            drive(target, seconds=SECONDS, clients=SIZES[-1])
        rows = []
        for clients in SIZES:
            pairs = [
                [drive(target, seconds=SECONDS, clients=clients) for target in (echo, service)]
                for _ in range(ROUNDS)
            ]
            rows.append(
                {"clients": clients, **_row([pair[0] for pair in pairs], [pair[1] for pair in pairs])}
            )
            say(f"{clients} callers: {rows[-1]}")
        return rows


def _row(echo: Sequence[Seen], service: Sequence[Seen]) -> dict[str, float]:
    middle = statistics.median
    ratios = [mine.per_second / bare.per_second for bare, mine in zip(echo, service, strict=True)]
    return {
        "service_per_second": round(middle(one.per_second for one in service)),
        "echo_per_second": round(middle(one.per_second for one in echo)),
        "ratio": round(middle(ratios), 3),
        "service_p50_ms": round(middle(percentile(one.answered, 0.5) for one in service), 2),
        "service_p99_ms": round(middle(percentile(one.answered, 0.99) for one in service), 2),
        "echo_p50_ms": round(middle(percentile(one.answered, 0.5) for one in echo), 2),
        "echo_p99_ms": round(middle(percentile(one.answered, 0.99) for one in echo), 2),
        "client_cores": round(middle(one.client_cores for one in echo), 2),
    }
