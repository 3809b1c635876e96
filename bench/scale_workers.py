"""One worker process and two, on both stores: reads of 32 callers over mTLS, start and memory.

SQLite has one writer at a time however many processes there are. Load, workers and PostgreSQL share the
machine.
"""

import contextlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.measuring import MEBIBYTE, rss_bytes
from bench.service import bench_service, drive, make_home, percentile, target_of
from tests.support.postgres import postgres_at

SIZES: Final = (1, 2)
CUSTOMERS: Final = 500
CLIENTS: Final = 32
ROUNDS: Final = 3
SECONDS: Final = 3.0


def scale_workers(folder: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each store and number of workers."""
    with postgres_at(folder / "workers-postgres") as server:
        return [
            *_store(folder, "SQLite", lambda: "", say),
            *_store(folder, "PostgreSQL", server.create, say),
        ]


def _store(
    folder: Path, store: str, create: Callable[[], str], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    rows, targets = [], []
    with contextlib.ExitStack() as opened:
        for workers in SIZES:
            own, url = folder / f"workers-{store}-{workers}", create()
            own.mkdir()
            make_home(own / "home", CUSTOMERS, url)
            began = time.monotonic()
            service = opened.enter_context(bench_service(own, CUSTOMERS, url=url, workers=workers))
            rows.append(
                {
                    "store": store,
                    "workers": workers,
                    "start_seconds": round(time.monotonic() - began, 2),
                    "service_mebibytes": round(rss_bytes(service.process.pid) / MEBIBYTE, 1),
                }
            )
            targets.append(target_of(service))
            drive(targets[-1], seconds=SECONDS, clients=CLIENTS)
        rounds = [
            [drive(target, seconds=SECONDS, clients=CLIENTS) for target in targets] for _ in range(ROUNDS)
        ]
    for row, seen in zip(rows, zip(*rounds, strict=True), strict=True):
        row["reads_per_second"] = round(statistics.median(one.per_second for one in seen))
        row["p99_ms"] = round(statistics.median(percentile(one.answered, 0.99) for one in seen), 2)
        say(str(row))
    return rows
