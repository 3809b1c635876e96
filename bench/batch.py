"""Batch reads of five attributes each, data keys cached, against a bare loop (bench/bare_loop.py).

`batch-loop-*` is the disclosure pipeline in process: groups as the disclosure worker takes them, each with
its records committed, the log integrated beside it by its thread. `batch-grpc` is BatchReadAttributes through
the service, 1,000 customers a stream, against the same bare loop in the same rounds. `*-core` is what one
processor gives: attributes per CPU-second of the process, all its threads, against the goal of 100,000.
`*-answered` is against a bare loop that builds the answers too, `*-cpu` against the bare loop by CPU-seconds.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.bare_loop import BareLoop, postgres_loop, sqlite_loop
from bench.customers import ATTRIBUTES, CALLER, PURPOSE, customer_number
from bench.figures import Figure, figure
from bench.growth import House, house
from bench.load import BATCH_METHOD, run_load
from bench.population import TENANT
from bench.reads import compare_log, reads_in_sqlite, service
from tests.support.postgres import PostgresServer
from vault.assembly import Pipelines
from vault.domain.limits import LIMITS
from vault.domain.types import Caller
from vault.reads import Attempt, MissingKeys, Read, Released
from vault.v1 import data_service_pb2 as pb

GOAL: Final = 0.50
PER_CORE: Final = 100_000
STREAMS: Final = 4
_SMALLEST, _FIRST, _MOST = 8, 64, 1_000
_PASSES: Final = 5
"""Of the bare loop in a round: one of them is over too soon to be measured."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """Attributes a second, by the clock and by this process's CPU."""

    per_second: float
    per_cpu_second: float


def batch_sqlite(folder: Path, customers: int, rounds: int, say: Say) -> list[Figure]:
    """`batch-loop-sqlite`, `-answered`, `-cpu` and `-core`."""
    with (
        house(folder / "home", customers, say=say) as made,
        sqlite_loop(folder / "bare.db", customers) as bare,
    ):
        return _in_process("sqlite", made, bare, rounds, say)


def batch_postgres(
    folder: Path, server: PostgresServer, customers: int, rounds: int, say: Say
) -> list[Figure]:
    """`batch-loop-postgres`, `-answered`, `-cpu` and `-core`."""
    url = server.create()
    with house(folder / "home", customers, say=say):
        pass
    with (
        house(folder / "home", customers, url, say=say) as made,
        postgres_loop(url, customers) as bare,
    ):
        return _in_process("postgres", made, bare, rounds, say)


def batch_grpc(folder: Path, customers: int, rounds: int, streams: int, say: Say) -> list[Figure]:
    """`batch-grpc` and `batch-grpc-core`: `streams` calls in each round, 1,000 customers each."""
    numbers = [customer_number(index) for index in range(customers)]
    request = pb.BatchReadAttributesRequest(
        customer_numbers=numbers[:_MOST], purpose=PURPOSE, attributes=ATTRIBUTES
    )
    asked, answered = request.SerializeToString(), 0
    values, cores, bares = [], [], []
    with contextlib.ExitStack() as opened:
        say(f"{customers:,} customers")
        server = opened.enter_context(service(folder / "home", "--customers", str(customers)))
        bare = opened.enter_context(sqlite_loop(folder / "bare.db", customers))
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}" if number else "data keys")
            bares.append(paced(numbers * _PASSES, bare.read).per_second)
            before = server.cpu_seconds()
            load = run_load(server.port, asked, STREAMS, streams, method=BATCH_METHOD)
            attributes = streams * len(request.customer_numbers) * len(ATTRIBUTES)
            values.append(load.per_second * attributes / streams)
            cores.append(attributes / (server.cpu_seconds() - before))
            answered += streams * len(request.customer_numbers)
    compare_log(answered, reads_in_sqlite(folder / "home"))
    # the first round fetched the data keys
    return [
        figure("batch-grpc", "attributes/s", values[1:], bares[1:], GOAL),
        figure("batch-grpc-core", "attributes/CPU-s", cores[1:], [PER_CORE], 1.0),
    ]


def _in_process(store: str, made: House, bare: BareLoop, rounds: int, say: Say) -> list[Figure]:
    numbers = [customer_number(index) for index in range(made.customers)]
    answered = partial(bare.read, answer=True)
    often = numbers * _PASSES
    found: list[tuple[Pace, Pace, Pace]] = []
    with integrating(made.pipelines):
        say(f"{store}, data keys")
        disclose_all(made.pipelines, numbers)
        for number in range(rounds):
            say(f"{store}, round {number + 1} of {rounds}")
            found.append((cached(made.pipelines, numbers), paced(often, bare.read), paced(often, answered)))
    ours, bares, answering = ([pace.per_second for pace in paces] for paces in zip(*found, strict=True))
    core, bare_core, _ = ([pace.per_cpu_second for pace in paces] for paces in zip(*found, strict=True))
    return [
        figure(f"batch-loop-{store}", "attributes/s", ours, bares, GOAL),
        figure(f"batch-loop-{store}-answered", "attributes/s", ours, answering, GOAL),
        figure(f"batch-loop-{store}-cpu", "attributes/CPU-s", core, bare_core),
        figure(f"batch-loop-{store}-core", "attributes/CPU-s", core, [PER_CORE], 1.0),
    ]


@contextlib.contextmanager
def integrating(pipelines: Pipelines) -> Iterator[None]:
    """The log is integrated meanwhile, as in the service."""
    pipelines.integrator.start()
    try:
        yield
    finally:
        pipelines.integrator.stop()


def paced(numbers: Sequence[str], read: Callable[[Sequence[str]], Any]) -> Pace:
    """Read all customers, in parts that last about `group_milliseconds`, as the disclosure worker has it."""
    done, size = 0, _FIRST
    cpu, began = time.process_time(), time.perf_counter()
    while done < len(numbers):
        part = numbers[done : done + size]
        at = time.perf_counter()
        read(part)
        fitting = int(len(part) * LIMITS.group_milliseconds / 1_000 / (time.perf_counter() - at))
        done += len(part)
        size = max(_SMALLEST, min(fitting, _MOST, 2 * size))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    attributes = len(numbers) * len(ATTRIBUTES)
    return Pace(attributes / seconds, attributes / cpu_seconds)


def disclose_all(pipelines: Pipelines, numbers: Sequence[str]) -> tuple[Pace, int]:
    """Disclose them as the worker does; how fast, and how many data keys had to be fetched for it."""
    fetched = 0

    def read(part: Sequence[str]) -> None:
        nonlocal fetched
        fetched += disclose(pipelines, part)

    return paced(numbers, read), fetched


def cached(pipelines: Pipelines, numbers: Sequence[str]) -> Pace:
    """The same with every data key in the cache: once more where one had gone out of it."""
    while True:
        pace, fetched = disclose_all(pipelines, numbers)
        if not fetched:
            return pace


def disclose(pipelines: Pipelines, part: Sequence[str]) -> int:
    """Disclose one group, durably recorded; returns how many data keys had to be fetched for it.

    Raises:
        SystemExit: a read was not answered in full.
    """
    caller, fetched = Caller(CALLER, TENANT, "bench"), 0
    attempts: list[Attempt] = [Attempt(Read(caller, number, PURPOSE, ATTRIBUTES)) for number in part]
    while attempts:
        results = list(zip(attempts, pipelines.disclosure.disclose(attempts), strict=True))
        lacking = [(attempt.read, one) for attempt, one in results if isinstance(one, MissingKeys)]
        _require_answers([one for _, one in results if not isinstance(one, MissingKeys)])
        requests = [request for _, one in lacking for request in one.requests]
        keys = dict(zip((row for _, row in requests), pipelines.keyring.unwrap(requests), strict=True))
        # another key of a read may have left the cache meanwhile: then it comes here again
        attempts = [Attempt(read, {row: keys[row] for _, row in one.requests}) for read, one in lacking]
        fetched += len(requests)
    return fetched


def _require_answers(results: Sequence[Any]) -> None:
    for one in results:
        if not isinstance(one, Released) or one.outcome != "authorised":
            told = f"{type(one).__name__} {getattr(one, 'outcome', one)}"
            raise SystemExit(f"one of the benchmark's own reads was not answered in full: {told}")
