"""Some minutes of mixed load with an eye on memory: `python -m bench.soak [--seconds 240]`.

Reads from 32 callers over mTLS, and beside them writes, batch reads and withdrawals by real clients, one
after the other each. Memory of the service is sampled every second; after the first third, in which caches
fill, a line through the samples has the slope that is reported. Kept in bench/results/soak.json.
"""

import argparse
import datetime
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from bench.customers import ATTRIBUTES, CALLER, PURPOSE, customer_number
from bench.measuring import MEBIBYTE, keep, rss_bytes
from bench.service import Seen, bench_service, drive, percentile, target_of
from tests.support.service import RunningService
from vault import logs

CUSTOMERS: Final = 1_000
CLIENTS: Final = 32
SECONDS: Final = 240.0
_BATCH: Final = 200
_PAUSE_SECONDS: Final = 0.05
_WARM: Final = 1 / 3


class Mix:
    """Writes, batches and withdrawals until told to end, a thread each."""

    def __init__(self, service: RunningService) -> None:
        self._service = service
        self._over = threading.Event()
        self.done = {"writes": 0, "batches": 0, "withdrawals": 0}
        self.errors: list[str] = []
        acts = {"writes": self._write, "batches": self._batch, "withdrawals": self._withdraw}
        self._threads = [threading.Thread(target=self._repeat, args=each) for each in acts.items()]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Raises SystemExit: a call failed."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise SystemExit(f"{len(self.errors)} calls failed, the first with: {self.errors[0]}")

    def _repeat(self, kind: str, act: Callable[[int], None]) -> None:
        for number in itertools.count():
            if self._over.wait(_PAUSE_SECONDS):
                return
            try:
                act(number)
            except Exception as error:
                self.errors.append(f"{kind}: {error}")
                return
            self.done[kind] += 1

    def _write(self, number: int) -> None:
        customer = customer_number(number % CUSTOMERS)
        self._service.client("importer").write_attributes(
            customer, {"email": f"again{number}@example.org"}, jurisdictions=["EU"], timeout=60
        )

    def _batch(self, number: int) -> None:
        numbers = [customer_number((number + each) % CUSTOMERS) for each in range(_BATCH)]
        client = self._service.client(CALLER)
        failed = [
            one.error
            for one in client.read_many(numbers, purpose=PURPOSE, attributes=ATTRIBUTES, timeout=120)
            if one.error is not None
        ]
        if failed:
            raise failed[0]

    def _withdraw(self, number: int) -> None:
        """Withdraw, and give again, so that the state of consents stays as it is."""
        client, customer = self._service.client("customer-portal"), customer_number(number % CUSTOMERS)
        client.withdraw_consent(customer, purpose=PURPOSE, channel="bench", timeout=60)
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=300)
        client.record_consent(
            customer, purpose=PURPOSE, state="given", channel="bench", notice="offers", notice_version=2,
            language="en", jurisdiction="EU", expires_at=expires, timeout=60,
        )  # fmt: skip


def soak(service: RunningService, seconds: float) -> dict[str, Any]:
    """The figures. Memory in MiB, every second."""
    mix, seen, samples = Mix(service), list[Seen](), list[float]()
    target = target_of(service, range(CUSTOMERS))
    reading = threading.Thread(target=lambda: seen.append(drive(target, seconds=seconds, clients=CLIENTS)))
    reading.start()
    mix.start()
    while reading.is_alive():
        samples.append(round(rss_bytes(service.process.pid) / MEBIBYTE, 1))
        time.sleep(1.0)
    mix.stop()
    reads = seen[0]
    return {
        "seconds": seconds,
        "reads_per_second": round(reads.per_second),
        "reads": reads.reads,
        "p50_ms": round(percentile(reads.answered, 0.5), 1),
        "p99_ms": round(percentile(reads.answered, 0.99), 1),
        "refused_share": round(reads.share(reads.refused_per_second + reads.dropped_per_second), 4),
        **mix.done,
        "mebibytes_per_hour": round(slope(samples[int(len(samples) * _WARM) :]) * 3_600, 1),
        "mebibytes": samples,
    }


def slope(samples: Sequence[float]) -> float:
    """Of a line through samples that were taken at equal times, per sample."""
    return statistics.linear_regression(range(len(samples)), samples).slope


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=SECONDS)
    given = parser.parse_args()
    logs.configure(level="ERROR")
    say = Console(width=150).print
    with (
        tempfile.TemporaryDirectory(prefix="datavault-bench-") as folder,
        bench_service(Path(folder), CUSTOMERS) as service,
    ):
        found = soak(service, given.seconds)
        if problems := service.verify().problems:
            raise SystemExit(f"the log does not verify: {problems[0]}")
    say({name: value for name, value in found.items() if name != "mebibytes"})
    say(f"written to {keep('soak', found)}")


if __name__ == "__main__":
    main()
