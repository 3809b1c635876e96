"""How a read's latency grows from ten thousand customers to a million, on both stores.

Customers are read at random, each once, so that no data key is cached, in turn from the small and the large
database. A read is the pipeline's: policy, consent, unwrapping, decryption and the durable record included,
gRPC left out, which would hide a difference. Beside it the load alone: the one statement that finds a
customer's rows, and the only part of a read that meets all the others.
"""

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.customers import ATTRIBUTES, CALLER, PURPOSE, customer_number
from bench.figures import Figure
from bench.population import TENANT, copy, populate
from tests.support.postgres import PostgresServer
from vault.assembly import Pipelines, Rooms, Use, build_pipelines, log_signers, open_logs, open_rooms
from vault.config import load_settings
from vault.domain.types import Caller
from vault.reads import Attempt, MissingKeys, Read, Released
from vault.server.interpreter import settle
from vault.store.database import Database
from vault.store.reader import SubjectReader

SMALL: Final = 10_000
LARGE: Final = 1_000_000
READS: Final = 4_000
GOAL: Final = 1.2

Say = Callable[[str], None]


@dataclass(frozen=True)
class House:
    """Pipelines over one database with so many customers."""

    rooms: Rooms
    pipelines: Pipelines
    customers: int

    @property
    def database(self) -> Database:
        return self.rooms.database

    def read(self, index: int) -> float:
        """Milliseconds of one read whose data keys are not cached."""
        caller = Caller(CALLER, TENANT, "bench")
        read = Read(caller, customer_number(index), PURPOSE, ATTRIBUTES, None, False, "")
        began = time.perf_counter()
        (missing,) = self.pipelines.disclosure.disclose([Attempt(read)])
        if not isinstance(missing, MissingKeys):
            raise SystemExit("a data key was in the cache, or the customer is not there")
        fetched = self.pipelines.keyring.unwrap(missing.requests)
        keys = {wrapped: key for (_, wrapped), key in zip(missing.requests, fetched, strict=True)}
        (answer,) = self.pipelines.disclosure.disclose([Attempt(read, keys)])
        took = (time.perf_counter() - began) * 1_000
        if not isinstance(answer, Released) or answer.outcome != "authorised":
            raise SystemExit("the benchmark's own read was not answered in full")
        return took

    def load(self, index: int) -> float:
        """Milliseconds of the statement that finds a customer's rows."""
        mac = self.pipelines.tenant_keys.lookup(TENANT).mac(customer_number(index))
        reader = SubjectReader()
        began = time.perf_counter()
        with self.database.read_once() as connection:
            found = reader.load(connection, TENANT, [mac], ATTRIBUTES)
        took = (time.perf_counter() - began) * 1_000
        if mac not in found:
            raise SystemExit("a customer is not there")
        return took


@contextlib.contextmanager
def house(home: Path, customers: int, url: str = "", say: Say = print, **settings: Any) -> Iterator[House]:
    """Populate and serve: a SQLite file; with `url` an empty PostgreSQL database, by a copy of the home's
    SQLite file, whose keys it shares. `settings` besides are those of vault/config.py."""
    began = time.monotonic()
    with open_rooms(load_settings(home=home, database_url=url, **settings), Use.SERVE) as rooms:
        if url:
            copy(home / "datavault.db", url)
        signers = log_signers(rooms)
        pipelines = build_pipelines(rooms, open_logs(rooms, signers), signers)
        if not url:
            populate(home / "datavault.db", rooms, pipelines, customers)
        say(f"{rooms.database.name}: {customers:,} customers in {time.monotonic() - began:.0f} s")
        settle()
        yield House(rooms, pipelines, customers)


def growth(folder: Path, server: PostgresServer, large: int, say: Say) -> list[Figure]:
    """Both stores, from `SMALL` to `large` customers."""
    figures: list[Figure] = []
    homes = {folder / str(size): size for size in (SMALL, large)}
    for store in ("sqlite", "postgres"):
        with contextlib.ExitStack() as opened:
            small, big = (
                opened.enter_context(house(home, size, server.create() if store == "postgres" else "", say))
                for home, size in homes.items()
            )
            figures += [
                compare(f"growth-read-{store}", House.read, small, big),
                compare(f"growth-load-{store}", House.load, small, big),
            ]
    return figures


def compare(name: str, do: Callable[[House, int], float], small: House, large: House) -> Figure:
    """In turn with both, customers at random, none twice: the median at `large` against that at `small`."""
    draw = random.Random(7)  # noqa: S311  no secret
    chosen = [draw.sample(range(1, one.customers), READS) for one in (small, large)]
    times: list[list[float]] = [[], []]
    for pair in zip(*chosen, strict=True):
        for one, index, took in zip((small, large), pair, times, strict=True):
            took.append(do(one, index))
    # the first of them warm up what both share
    base, value = (sorted(took[READS // 10 :]) for took in times)
    base_p50, value_p50 = statistics.median(base), statistics.median(value)
    base_p99, value_p99 = base[len(base) * 99 // 100], value[len(value) * 99 // 100]
    ratio = value_p50 / base_p50
    return Figure(
        name, f"ms, {large.customers:,}", round(value_p50, 4), round(base_p50, 4), round(ratio, 3), GOAL,
        ratio <= GOAL, round(value_p50, 3), round(value_p99, 3), round(base_p50, 3), round(base_p99, 3),
    )  # fmt: skip
