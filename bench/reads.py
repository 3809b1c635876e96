"""ReadAttributes against a bare echo of the same message sizes: SQLite and PostgreSQL, one process, and two
processes on PostgreSQL against one. A B A B, so that a slow minute of the machine hits both; medians.

The log is counted afterwards: as many records as answers, or the run fails.
"""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import psycopg

from bench.customers import ATTRIBUTES, PURPOSE, customer_number
from bench.figures import Figure, rates
from bench.load import METHOD, Load, run_load
from tests.support.postgres import PostgresServer
from vault.v1 import data_service_pb2 as pb

CUSTOMERS: Final = 1_000
ROUNDS: Final = 5
REQUESTS: Final = {8: 5_000, 32: 8_000}
GOALS: Final = {8: 0.40, 32: 0.60}
CLIENTS_OF_WORKERS: Final = 32
_READS: Final = '"action":"read"'


@dataclass
class Target:
    """A server under load, and how many calls it answered."""

    port: int
    request: bytes
    answered: int = 0

    def load(self, clients: int, requests: int) -> Load:
        """Send the load, see bench/load.py."""
        self.answered += requests
        return run_load(self.port, self.request, clients, requests)


def sqlite_reads(folder: Path) -> list[Figure]:
    """`read-sqlite-8` and `read-sqlite-32`."""
    home = folder / "home"
    with _server(home, "--customers", str(CUSTOMERS)) as port, _against_echo(port) as (target, echo):
        figures = [_measure(f"read-sqlite-{clients}", echo, target, clients) for clients in sorted(REQUESTS)]
    with contextlib.closing(sqlite3.connect(f"file:{home / 'datavault.db'}?mode=ro", uri=True)) as connection:
        query = "SELECT count(*) FROM log_entry WHERE CAST(entry AS TEXT) LIKE ?"
        ((found,),) = connection.execute(query, (f"%{_READS}%",)).fetchall()
    _compare_log(target.answered, found)
    return figures


def postgres_reads(folder: Path, server: PostgresServer) -> list[Figure]:
    """`read-postgres-8`, `-32`, and `read-postgres-workers-2`: two processes against the one before."""
    home, url = folder / "home", server.create()
    with contextlib.ExitStack() as opened:
        port = opened.enter_context(_server(home, "--url", url, "--customers", str(CUSTOMERS)))
        one, echo = opened.enter_context(_against_echo(port))
        figures = [_measure(f"read-postgres-{clients}", echo, one, clients) for clients in sorted(REQUESTS)]
        shared = opened.enter_context(_server(home, "--url", url))
        opened.enter_context(_server(home, "--url", url, "--port", str(shared)))
        two = Target(shared, one.request)
        figures.append(_measure("read-postgres-workers-2", one, two, CLIENTS_OF_WORKERS, compare=True))
        with psycopg.connect(url) as connection:
            query = "SELECT count(*) FROM log_entry WHERE convert_from(entry, 'UTF8') LIKE %s"
            ((found,),) = connection.execute(query, (f"%{_READS}%",)).fetchall()
        _compare_log(one.answered + two.answered, found)
    return figures


def _measure(name: str, baseline: Target, target: Target, clients: int, *, compare: bool = False) -> Figure:
    count = REQUESTS[clients]
    for each in (baseline, target):
        each.load(clients, count // 4)
    pairs = [(baseline.load(clients, count), target.load(clients, count)) for _ in range(ROUNDS)]
    return rates(name, pairs, None if compare else GOALS[clients])


@contextlib.contextmanager
def _against_echo(port: int) -> Iterator[tuple[Target, Target]]:
    """The service, and an echo that gives the service's own answer to the same request."""
    request = pb.ReadAttributesRequest(
        customer_number=customer_number(7), purpose=PURPOSE, attributes=ATTRIBUTES
    ).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer: bytes = channel.unary_unary(METHOD)(request, timeout=60)
    shown = pb.ReadAttributesResponse.FromString(answer)
    if len(shown.attributes) != len(ATTRIBUTES) or any(one.denial.reason for one in shown.attributes):
        raise SystemExit("the benchmark's own read was not answered in full")
    with _process("bench.echo_server", stdin=answer) as echo:
        yield Target(port, request, answered=1), Target(echo, request)


def _compare_log(answered: int, found: int) -> None:
    if found != answered:
        raise SystemExit(f"{answered} reads were answered and {found} are in the log")


def _server(home: Path, *arguments: str) -> contextlib.AbstractContextManager[int]:
    return _process("bench.vault_server", str(home), *arguments)


@contextlib.contextmanager
def _process(module: str, *arguments: str, stdin: bytes = b"") -> Iterator[int]:
    """A server in a process of its own; gives its port."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(stdin)
        child.stdin.close()
        yield int(child.stdout.readline())
    finally:
        child.terminate()
        child.wait(30)
