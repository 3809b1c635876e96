"""Measure datavault: `python -m bench [ROWS...]`, all rows unless some are named.

sqlite     reads on SQLite against a bare gRPC echo                                      1 minute
postgres   the same on PostgreSQL, and two processes against one                         1 minute
growth     a read with a hundred thousand customers against ten thousand                 1 minute
transit    data keys fetched from Transit against bare Transit calls                     half a minute

`growth --customers 1000000` is the figure of performance.md; it takes ten minutes and 8 GB of disk.
PostgreSQL is the one that the tests use, from a wheel, with fsync on; it shares the processors.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.figures import Figure, keep, show
from bench.growth import growth
from bench.load import generator
from bench.reads import ROUNDS, postgres_reads, sqlite_reads
from bench.transit_keys import transit_rates
from tests.support.postgres import postgres_at
from vault import logs

ROWS: Final = ("sqlite", "postgres", "growth", "transit")
CUSTOMERS: Final = 100_000
TRANSIT_GOAL: Final = 0.50


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROWS", help=", ".join(ROWS))
    parser.add_argument("--customers", type=int, default=CUSTOMERS, help="of the row growth")
    given = parser.parse_args()
    if unknown := set(given.rows) - set(ROWS):
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}")
    console = Console(width=132)
    logs.configure(level="ERROR")
    with tempfile.TemporaryDirectory(prefix="datavault-bench-") as folder:
        # PostgreSQL runs as another user where this is root
        Path(folder).chmod(0o755)
        figures = measure(Path(folder), given.rows or ROWS, given.customers, console)
    show(console, figures)
    console.print(f"written to {keep(figures)}")


def measure(
    folder: Path, rows: list[str] | tuple[str, ...], customers: int, console: Console
) -> list[Figure]:
    """The figures of these rows."""
    figures: list[Figure] = []
    if "sqlite" in rows or "postgres" in rows:
        console.print(f"load from {generator()}; {ROUNDS} rounds each, in turn with what it is compared to")
    if "sqlite" in rows:
        figures += sqlite_reads(folder / "sqlite")
    if "postgres" in rows:
        with postgres_at(folder / "reads") as server:
            figures += postgres_reads(folder / "postgres", server)
    if "growth" in rows:
        with postgres_at(folder / "grown") as server:
            figures += growth(folder, server, customers, console.print)
    if "transit" in rows:
        figures += transit_figures(folder / "kms")
    return figures


def transit_figures(folder: Path) -> list[Figure]:
    """The rows `transit-keys` and `transit-keys-at-most`."""
    rates = transit_rates(folder)
    rows = (("transit-keys", rates.calls, TRANSIT_GOAL), ("transit-keys-at-most", rates.at_most, None))
    return [
        Figure(
            name, "keys/s", round(rates.keyring), round(baseline), round(rates.keyring / baseline, 3), goal,
            None if goal is None else rates.keyring / baseline >= goal,
        )
        for name, baseline, goal in rows
    ]  # fmt: skip


if __name__ == "__main__":
    main()
