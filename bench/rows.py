"""The rows of performance.md that run here, in the order in which they run."""

import contextlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from bench.audit_append import postgres_appends, sqlite_appends
from bench.audit_verify import audit_verify
from bench.batch import batch_grpc, batch_postgres, batch_sqlite
from bench.decide import decide
from bench.echo_load import echo_load
from bench.figures import Figure
from bench.growth import growth
from bench.load import GRPC_AIO, generator
from bench.mtls import mtls
from bench.reads import Volume, postgres_reads, sqlite_reads
from bench.transit_batch import batch_transit
from bench.transit_keys import transit_keys
from tests.support.postgres import PostgresServer, postgres_at
from vault.domain.errors import DatavaultError

CUSTOMERS: Final = 100_000
NOT_MEASURED: Final = (SystemExit, RuntimeError, OSError, subprocess.SubprocessError, DatavaultError)
"""What a row ends with that could not be measured."""
_QUICK: Final = Volume(rounds=3, requests={32: 2_000})


@dataclass
class Run:
    """What the rows of one run share; `customers` is what growth grows to."""

    folder: Path
    customers: int
    opened: contextlib.ExitStack
    say: Callable[[str], None] = field(default=print)
    _made: int = 0

    @cached_property
    def postgres(self) -> PostgresServer:
        """Started for the first row that needs it, on this machine: it shares the processors."""
        return self.opened.enter_context(postgres_at(self.folder / "postgres"))

    def place(self) -> Path:
        """A folder that nobody had before."""
        self._made += 1
        made = self.folder / str(self._made)
        made.mkdir()
        return made


Measure = Callable[[Run], list[Figure]]


@dataclass(frozen=True, slots=True)
class Row:
    """One benchmark: its name, what it measures against what, and how. `quick` is the same with small sizes,
    None where it needs minutes."""

    name: str
    told: str
    full: Measure
    quick: Measure | None = None


ROWS: Final = (
    Row(
        "echo",
        "cores that the load generator keeps busy, against those of the echo",
        lambda run: echo_load(run.place(), 5, 20_000, run.say),
        lambda run: echo_load(run.place(), 3, 3_000, run.say),
    ),
    Row(
        "decide",
        "policy decision at 10,000 rules, against Casbin `enforce`; first: nothing remembered",
        lambda run: decide(20, 5, run.say),
        lambda run: decide(5, 3, run.say),
    ),
    Row(
        "audit-append",
        "durable appends in groups of 16 and 256, against INSERT and COMMIT per record",
        lambda run: _appends(run, 0.25, 21),
        lambda run: _appends(run, 0.2, 3),
    ),
    Row(
        "audit-verify",
        "verifying 1,000,000 records, against SHA-256 of their bytes; cpu: one process; read: read too",
        lambda run: audit_verify(run.place(), 1_000_000, run.say),
    ),
    Row(
        "sqlite",
        "ReadAttributes, 5 attributes, durable audit, against a bare grpc.aio echo",
        lambda run: sqlite_reads(run.place(), Volume(), run.say),
        lambda run: sqlite_reads(run.place(), _QUICK, run.say),
    ),
    Row(
        "sqlite-aio",
        "the same with grpc.aio clients, for machines without h2load",
        lambda run: sqlite_reads(run.place(), Volume(requests={32: 4_000}, by=GRPC_AIO), run.say),
    ),
    Row(
        "postgres",
        "the same on PostgreSQL; workers-2: two processes against one, sharing the processors",
        lambda run: postgres_reads(run.place(), run.postgres, Volume(), run.say),
        lambda run: postgres_reads(run.place(), run.postgres, _QUICK, run.say),
    ),
    Row(
        "batch-loop",
        "batch disclosure in process, against a bare loop (bench/bare_loop.py); core: per CPU-second",
        lambda run: batch_sqlite(run.place(), 2_000, 21, run.say),
        lambda run: batch_sqlite(run.place(), 2_000, 3, run.say),
    ),
    Row(
        "batch-postgres",
        "the same on PostgreSQL",
        lambda run: batch_postgres(run.place(), run.postgres, 2_000, 31, run.say),
    ),
    Row(
        "batch-grpc",
        "BatchReadAttributes through the service, against the same bare loop",
        lambda run: batch_grpc(run.place(), 2_000, 15, 8, run.say),
    ),
    Row(
        "batch-transit",
        "batch disclosure, against having Transit decrypt the values; cold: no data key cached",
        lambda run: batch_transit(run.place(), 2_000, 11, run.say),
        lambda run: batch_transit(run.place(), 1_000, 3, run.say),
    ),
    Row(
        "transit",
        "data keys fetched from Transit, against batch calls one after the other; at-most: three at a time",
        lambda run: transit_keys(run.place()),
    ),
    Row(
        "growth",
        "a read and its load with cold data keys, in process, against 10,000 customers",
        lambda run: growth(run.place(), run.postgres, run.customers, run.say),
    ),
    Row(
        "mtls",
        "reads over mTLS, against the same in plain text",
        lambda run: mtls(run.place(), 5, 5_000, run.say),
    ),
)


def named(names: list[str], *, quick: bool) -> tuple[dict[str, Measure], list[str]]:
    """What to measure by name, all rows where none is named; and the names that are left out.

    Raises:
        KeyError: there is no such row.
    """
    known = {row.name: row for row in ROWS}
    chosen = [known[name] for name in names] or [row for row in ROWS if _adds(row)]
    measures = {row.name: row.quick if quick else row.full for row in chosen}
    return (
        {name: measure for name, measure in measures.items() if measure is not None},
        [name for name, measure in measures.items() if measure is None],
    )


def _adds(row: Row) -> bool:
    """Without h2load the reads have grpc.aio clients anyway."""
    return row.name != "sqlite-aio" or generator() != GRPC_AIO


def _appends(run: Run, seconds: float, rounds: int) -> list[Figure]:
    return [
        *sqlite_appends(run.place(), seconds, rounds, run.say),
        *postgres_appends(run.place(), run.postgres, seconds, rounds, run.say),
    ]
