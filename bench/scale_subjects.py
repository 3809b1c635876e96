"""What subjects cost: cold reads, reads under load, start, memory and disk at 10,000 and more of them.

Cold reads are the pipeline's, in process (bench/growth.py). Reads under load come from 32 callers over mTLS,
in turn to the services of all sizes: two thousand customers of each, over and over, so that most keys are
cached.
"""

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.growth import house
from bench.measuring import MEBIBYTE, rss_bytes
from bench.service import Seen, bench_service, drive, percentile, target_of
from tests.support.service import RunningService

SIZES: Final = (10_000, 100_000)
LARGEST: Final = 1_000_000
READ_COLD: Final = 2_000
READ_UNDER_LOAD: Final = 2_000
CLIENTS: Final = 32
ROUNDS: Final = 3
SECONDS: Final = 4.0

Say = Callable[[str], None]


def scale_subjects(folder: Path, sizes: Sequence[int], say: Say) -> list[dict[str, float]]:
    """A row for each size."""
    rows = _cold(folder, sizes, say)
    with contextlib.ExitStack() as opened:
        services = []
        for row, size in zip(rows, sizes, strict=True):
            began = time.monotonic()
            services.append(opened.enter_context(bench_service(folder / str(size), size)))
            row["start_seconds"] = round(time.monotonic() - began, 2)
            row["service_mebibytes"] = round(rss_bytes(services[-1].process.pid) / MEBIBYTE, 1)
        for row, seen in zip(rows, _loaded(services, sizes), strict=True):
            row["reads_per_second"] = round(statistics.median(one.per_second for one in seen))
            row["loaded_p50_ms"] = _middle(seen, 0.5)
            row["loaded_p99_ms"] = _middle(seen, 0.99)
    return rows


def _cold(folder: Path, sizes: Sequence[int], say: Say) -> list[dict[str, float]]:
    """Customers at random, none twice, in turn from all sizes."""
    draw = random.Random(7)  # noqa: S311  no secret
    took: dict[int, list[float]] = {size: [] for size in sizes}
    with contextlib.ExitStack() as opened:
        houses = []
        for size in sizes:
            (folder / str(size)).mkdir(parents=True)
            houses.append(opened.enter_context(house(folder / str(size) / "home", size, say=say)))
        chosen = [draw.sample(range(1, size), READ_COLD) for size in sizes]
        for turn in zip(*chosen, strict=True):
            for made, index in zip(houses, turn, strict=True):
                took[made.customers].append(made.read(index))
    return [_cold_row(folder / str(size), size, took[size]) for size in sizes]


def _cold_row(folder: Path, size: int, took: Sequence[float]) -> dict[str, float]:
    # the first of them warm up what all share
    milliseconds = sorted(took[READ_COLD // 10 :])
    return {
        "subjects": size,
        "cold_p50_ms": round(statistics.median(milliseconds), 3),
        "cold_p99_ms": round(percentile(milliseconds, 0.99), 3),
        "bytes_on_disk_per_subject": round((folder / "home" / "datavault.db").stat().st_size / size),
    }


def _loaded(services: Sequence[RunningService], sizes: Sequence[int]) -> list[list[Seen]]:
    draw = random.Random(8)  # noqa: S311  no secret
    targets = [
        target_of(service, draw.sample(range(1, size), READ_UNDER_LOAD))
        for service, size in zip(services, sizes, strict=True)
    ]
    for target in targets:
        drive(target, seconds=SECONDS, clients=CLIENTS)
    rounds = [[drive(target, seconds=SECONDS, clients=CLIENTS) for target in targets] for _ in range(ROUNDS)]
    return [list(seen) for seen in zip(*rounds, strict=True)]


def _middle(seen: Sequence[Seen], share: float) -> float:
    return round(statistics.median(percentile(one.answered, share) for one in seen), 2)
