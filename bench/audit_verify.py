"""What a long log costs: verifying it against SHA-256 of its bytes; appends, receipts and queries beside.

`audit-verify` is wall time of what `datavault audit verify` does (every record, hash, tile, root and
signature, read by one process per processor) against wall time of `hashlib.sha256(entry).digest()` over the
same entries in one process, the bytes already in memory: the strictest baseline, since reading them costs as
much again.
`audit-verify-cpu` is CPU time of verification in one process against CPU time of the same baseline, and
`audit-verify-read` that against SHA-256 of entries read from the database in the same way.

A B A B in one run, medians. What takes seconds runs in a process of its own, whose peak memory is taken.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.audit_log import BulkLog, Say, records
from bench.figures import RESULTS, Figure
from tests.support.audit import ORIGIN, TENANT, vkey_of
from vault.audit.append import Appender
from vault.audit.logbook import LogPlace
from vault.audit.query import AuditQuery, query
from vault.audit.receipt import receipt
from vault.audit.stretch import reading
from vault.audit.verify import verify
from vault.config import load_settings
from vault.database_settings import database_of
from vault.verifying import reading_processes

GOAL: Final = 5.0
ROUNDS: Final = 3
GROWTH: Final = RESULTS.with_name("log-growth.json")
_LOG: Final = 1
_GROUP: Final = 8
_SAMPLES: Final = 300
_READ: Final = 'SELECT entry FROM log_entry WHERE log = 1 AND "index" >= ? AND "index" < ? ORDER BY "index"'
_PART: Final = 512


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one measurement, the CPU time of all its processes too; peak memory of the largest one."""

    wall: float
    cpu: float
    peak_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class LogRow:
    """What a log of so many records costs; latencies are medians."""

    records: int
    verify_seconds: float
    verify_cpu_seconds: float
    verify_one_process_cpu_seconds: float
    sha256_seconds: float
    sha256_cpu_seconds: float
    sha256_and_read_cpu_seconds: float
    peak_mb: float
    append_8_ms: float
    receipt_ms: float
    query_subject_ms: float
    query_last_100_ms: float
    bytes_per_record: float


def audit_verify(folder: Path, records: int, say: Say = print) -> list[Figure]:
    """The rows `audit-verify`, `-cpu` and `-read` over a new log of so many records."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"log-{records}.db"
    if not file.exists():
        log = BulkLog(file, say)
        log.grow(records)
        log.close()
    row = measure(file, ROUNDS)
    say(f"log of {records:,} records: {row}")
    cpu = row.verify_one_process_cpu_seconds
    return [
        _figure("audit-verify", row.verify_seconds, row.sha256_seconds, GOAL),
        _figure("audit-verify-cpu", cpu, row.sha256_cpu_seconds, None),
        _figure("audit-verify-read", cpu, row.sha256_and_read_cpu_seconds, None),
    ]


def measure(file: Path, rounds: int = ROUNDS) -> LogRow:
    """Everything about the log in a SQLite file; appends some records to it at the end."""
    several, one, bare, read = [], [], [], []
    for _ in range(rounds):
        bare.append(_alone(_sha256, file, False))
        several.append(_alone(_verify, file, None))
        read.append(_alone(_sha256, file, True))
        one.append(_alone(_verify, file, 1))
    database = database_of(load_settings(home=file.parent, database_url=f"sqlite:///{file}"))
    with database.read() as connection:
        ((size,),) = connection.exec_driver_sql("SELECT integrated FROM log WHERE log = 1").fetchall()
        subjects = connection.exec_driver_sql(
            'SELECT subject FROM audit_index WHERE log = 1 AND "index" % ? = 7 LIMIT ?',
            (size // 300, _SAMPLES),
        ).fetchall()
    draw, book = random.Random(7), [LogPlace(_LOG, ORIGIN)]  # noqa: S311  no secret
    wanted = iter([subject for (subject,) in subjects])

    def ask(**filter: str) -> None:
        with database.read() as connection:
            query(connection, book, AuditQuery(TENANT, **filter))  # type: ignore[arg-type]

    def prove() -> None:
        with database.read() as connection:
            receipt(connection, _LOG, draw.randrange(size))

    receipts = _median_ms(prove)
    of_subject = _median_ms(lambda: ask(subject=next(wanted)), len(subjects))
    last = _median_ms(ask)
    unused = time.time_ns() >> 20
    groups = [list(records(unused + at * _GROUP, _GROUP, 1_000)) for at in range(_SAMPLES)]

    def append() -> None:
        with database.write() as connection:
            Appender(_LOG).append(connection, groups.pop())

    appends = _median_ms(append)
    database.close()
    # queries read what is not integrated record by record: the next measurement is not to find these
    log = BulkLog(file)
    log.integrator.run_once()
    log.close()
    seconds = (_wall(several), _cpu(several), _cpu(one), _wall(bare), _cpu(bare), _cpu(read))
    return LogRow(
        size,
        *(round(number, 2) for number in seconds),
        round(max(took.peak_mb for took in several), 1),
        *(round(number, 3) for number in (appends, receipts, of_subject, last)),
        round(file.stat().st_size / size, 1),
    )


def _median_ms(do: Callable[[], None], times: int = _SAMPLES) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        do()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1_000


def _wall(times: Sequence[Took]) -> float:
    return statistics.median(took.wall for took in times)


def _cpu(times: Sequence[Took]) -> float:
    return statistics.median(took.cpu for took in times)


def _figure(name: str, value: float, baseline: float, goal: float | None) -> Figure:
    ratio = value / baseline
    return Figure(name, "s", value, baseline, round(ratio, 2), goal, None if goal is None else ratio <= goal)


# --- in a process of its own ------------------------------------------------------------------------------


def _alone(do: Callable[[Path, int | bool | None], Took], file: Path, argument: int | bool | None) -> Took:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(do, file, argument).result()


def _verify(file: Path, processes: int | None) -> Took:
    settings = load_settings(home=file.parent, database_url=f"sqlite:///{file}")
    database = database_of(settings)
    with database.read() as connection:
        wall, cpu = time.perf_counter(), _cpu_seconds()
        readers = reading_processes(settings, reading(connection), processes)
        report = verify(connection, _LOG, vkey_of(), readers=readers)
        took = time.perf_counter() - wall, _cpu_seconds() - cpu
    database.close()
    if not report.ok:
        raise SystemExit(f"the benchmark's own log does not verify: {report.problems}")
    usages = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return Took(*took, max(resource.getrusage(who).ru_maxrss for who in usages) / 1024)


def _sha256(file: Path, and_read: bool | None) -> Took:
    database = database_of(load_settings(home=file.parent, database_url=f"sqlite:///{file}"))
    wall = cpu = 0.0
    with database.read() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        ((size,),) = driver.execute("SELECT size FROM log WHERE log = 1").fetchall()
        for start in range(0, size, _PART):
            reading = time.perf_counter(), _cpu_seconds()
            entries = [entry for (entry,) in driver.execute(_READ, (start, start + _PART)).fetchall()]
            hashing = reading if and_read else (time.perf_counter(), _cpu_seconds())
            for entry in entries:
                hashlib.sha256(entry).digest()
            wall, cpu = wall + time.perf_counter() - hashing[0], cpu + _cpu_seconds() - hashing[1]
    database.close()
    return Took(wall, cpu)


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """`python -m bench.audit_verify FILES..`: the growth of a log, of files that `bench.audit_log` made."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit_verify", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    rows = [asdict(measure(file, given.rounds)) for file in given.files]
    GROWTH.parent.mkdir(exist_ok=True)
    GROWTH.write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    print(GROWTH.read_text())


if __name__ == "__main__":
    main()
