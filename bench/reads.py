"""ReadAttributes against a bare echo of the same message sizes: SQLite and PostgreSQL, one process, and two
processes on PostgreSQL against one. A B A B, so that a slow minute of the machine hits both; medians.

The log is counted afterwards: as many records as answers, or the run fails.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import grpc
import psycopg

from bench.customers import ATTRIBUTES, PURPOSE, customer_number
from bench.figures import Figure, rates
from bench.load import METHOD, Load, run_load
from bench.processes import Server, process
from tests.support.postgres import PostgresServer
from vault.v1 import data_service_pb2 as pb

CUSTOMERS: Final = 1_000
GOALS: Final = {8: 0.40, 32: 0.60}
CLIENTS_OF_WORKERS: Final = 32
_READS: Final = '"action":"read"'

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Volume:
    """How much is measured: requests of a round by clients; `by` is the load generator, '' the best."""

    rounds: int = 15
    requests: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({8: 2_500, 32: 4_000}))
    by: str = ""


@dataclass
class Target:
    """A server under load, and how many calls it answered."""

    server: Server
    request: bytes
    by: str = ""
    answered: int = 0

    def load(self, clients: int, requests: int) -> Load:
        """Send the load, see bench/load.py."""
        self.answered += requests
        return run_load(self.server.port, self.request, clients, requests, by=self.by)


def sqlite_reads(folder: Path, volume: Volume, say: Say) -> list[Figure]:
    """`read-sqlite-8` and `read-sqlite-32`."""
    home = folder / "home"
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(service(home, "--customers", str(CUSTOMERS)))
        target, echo = opened.enter_context(against_echo(server, volume.by))
        figures = [
            _measure(f"read-sqlite-{clients}", echo, target, clients, volume, say)
            for clients in sorted(volume.requests)
        ]
    compare_log(target.answered, reads_in_sqlite(home))
    return figures


def postgres_reads(folder: Path, database: PostgresServer, volume: Volume, say: Say) -> list[Figure]:
    """`read-postgres-8`, `-32`, and `read-postgres-workers-2`: two processes against the one before."""
    home, url = folder / "home", database.create()
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(service(home, "--url", url, "--customers", str(CUSTOMERS)))
        one, echo = opened.enter_context(against_echo(server, volume.by))
        figures = [
            _measure(f"read-postgres-{clients}", echo, one, clients, volume, say)
            for clients in sorted(volume.requests)
        ]
        first = opened.enter_context(service(home, "--url", url))
        opened.enter_context(service(home, "--url", url, "--port", str(first.port)))
        two = Target(first, one.request, volume.by)
        name = "read-postgres-workers-2"
        figures.append(_measure(name, one, two, CLIENTS_OF_WORKERS, volume, say, compare=True))
        with psycopg.connect(url) as connection:
            query = "SELECT count(*) FROM log_entry WHERE convert_from(entry, 'UTF8') LIKE %s"
            ((found,),) = connection.execute(query, (f"%{_READS}%",)).fetchall()
        compare_log(one.answered + two.answered, found)
    return figures


def _measure(
    name: str,
    baseline: Target,
    target: Target,
    clients: int,
    volume: Volume,
    say: Say,
    *,
    compare: bool = False,
) -> Figure:
    count = volume.requests[clients]
    for each in (baseline, target):
        each.load(clients, count // 4)
    pairs = []
    for number in range(volume.rounds):
        say(f"{name}, round {number + 1} of {volume.rounds}")
        pairs.append((baseline.load(clients, count), target.load(clients, count)))
    return rates(name, pairs, None if compare else GOALS[clients])


@contextlib.contextmanager
def against_echo(server: Server, by: str = "") -> Iterator[tuple[Target, Target]]:
    """The service, and an echo that gives the service's own answer to the same request."""
    request = pb.ReadAttributesRequest(
        customer_number=customer_number(7), purpose=PURPOSE, attributes=ATTRIBUTES
    ).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        answer: bytes = channel.unary_unary(METHOD)(request, timeout=60)
    shown = pb.ReadAttributesResponse.FromString(answer)
    if len(shown.attributes) != len(ATTRIBUTES) or any(one.denial.reason for one in shown.attributes):
        raise SystemExit("the benchmark's own read was not answered in full")
    with process("bench.echo_server", stdin=answer) as echo:
        yield Target(server, request, by, answered=1), Target(echo, request, by)


def reads_in_sqlite(home: Path) -> int:
    """How many reads the log holds."""
    with contextlib.closing(sqlite3.connect(f"file:{home / 'datavault.db'}?mode=ro", uri=True)) as connection:
        query = "SELECT count(*) FROM log_entry WHERE CAST(entry AS TEXT) LIKE ?"
        ((found,),) = connection.execute(query, (f"%{_READS}%",)).fetchall()
        return int(found)


def compare_log(answered: int, found: int) -> None:
    """End the run unless every answer is on record."""
    if found != answered:
        raise SystemExit(f"{answered} reads were answered and {found} are in the log")


def service(home: Path, *arguments: str) -> contextlib.AbstractContextManager[Server]:
    """The service in a process of its own (bench/vault_server.py)."""
    return process("bench.vault_server", str(home), *arguments)
