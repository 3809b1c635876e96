"""Measure datavault against baselines: `python -m bench [ROWS...]`, all rows unless some are named.

{rows}

Everything is a ratio of two things measured in turn on this machine. Results are printed as a table and kept
as bench/results/latest.json (quick.json with --quick); where rows are named the others keep what was there.
What is measured is the build that this runs in, which every result names: python here, compiled in the tree
of `make compiled`. `make bench BUILD=python` and `BUILD=compiled` say which.
`growth --customers 1000000` is the figure of performance.md; it takes ten minutes and 8 GB of disk.
PostgreSQL and OpenBao are those that the tests use, from wheels; they share the processors.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from rich.console import Console

from bench import compare, figures, results
from bench.guard import GUARDED, WAIT_FOR_DISK, guard
from bench.load import generator
from bench.progress import Steps
from bench.rows import CUSTOMERS, NOT_MEASURED, ROWS, Measure, Run, named
from tests.support.memory import temporary_root
from vault import logs
from vault.build import BUILD

_WIDTH = 150


def main() -> int:
    """Run and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=(__doc__ or "").format(rows="\n".join(f"{row.name:15}{row.told}" for row in ROWS)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROWS", help="which rows, by name")
    parser.add_argument("--customers", type=int, default=CUSTOMERS, help="of the row growth")
    does = parser.add_mutually_exclusive_group()
    does.add_argument("--quick", action="store_true", help="small sizes, a minute; long rows are left out")
    does.add_argument("--compare", action="store_true", help="the last run against the kept one of its build")
    does.add_argument("--keep", action="store_true", help="keep the last run as that of this release")
    does.add_argument("--guard", action="store_true", help="fail if a ratio is far off the kept one (CI)")
    given = parser.parse_args()
    console = Console(width=_WIDTH) if not sys.stdout.isatty() else Console()
    logs.configure(level="ERROR")
    if given.compare:
        return compare.show(console)
    if given.keep:
        console.print(f"kept as {results.shown(results.keep())}")
        return 0
    # a guard must not depend on the disk of the day; every other figure does
    place = temporary_root() if given.guard else None
    guarded = [name for name in GUARDED if place or name not in WAIT_FOR_DISK]
    try:
        measures, left_out = named(guarded if given.guard else given.rows, quick=given.quick or given.guard)
    except KeyError as error:
        parser.error(f"unknown row: {error.args[0]}")
    if given.guard and not place:
        console.print(f"not guarded without memory for files: {', '.join(sorted(WAIT_FOR_DISK))}")
    with running(console, len(measures), given.customers, place) as (run, steps):
        once = {name: partial(measured, name, measure, run, steps) for name, measure in measures.items()}
        if given.guard:
            return guard(console, once, results.kept(BUILD))
        found, failed = all_of(once)
    show(console, found, measures, left_out)
    written = results.write(results.QUICK if given.quick else results.LATEST, found, some=bool(given.rows))
    console.print(f"written to {results.shown(written)}", highlight=False)
    for name, why in failed.items():
        console.print(f"{name} was not measured: {why}", highlight=False)
    return int(bool(failed))


@contextlib.contextmanager
def running(
    console: Console, rows: int, customers: int, place: Path | None = None
) -> Iterator[tuple[Run, Steps]]:
    """A folder, in `place` where one is given, and servers for one run."""
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="datavault-bench-", dir=place)))
        # PostgreSQL runs as another user where this is root
        folder.chmod(0o755)
        steps = opened.enter_context(Steps(console, rows))
        yield Run(folder, customers, opened, steps.say), steps


def measured(name: str, measure: Measure, run: Run, steps: Steps) -> list[figures.Figure]:
    """The figures of one row."""
    steps.begin(name)
    found = measure(run)
    steps.end()
    return found


def all_of(
    rows: Mapping[str, Callable[[], list[figures.Figure]]],
) -> tuple[list[figures.Figure], dict[str, str]]:
    """The figures of all rows, and why there are none of some: the others are measured all the same."""
    found: list[figures.Figure] = []
    failed: dict[str, str] = {}
    for name, measure in rows.items():
        try:
            found += measure()
        except NOT_MEASURED as error:
            failed[name] = f"{type(error).__name__}: {error}"
    return found, failed


def show(
    console: Console, found: list[figures.Figure], measures: dict[str, Measure], left_out: list[str]
) -> None:
    """Print the table, and what its rows are."""
    console.print(figures.table(found))
    for row in ROWS:
        if row.name in measures:
            console.print(f"{row.name}: {row.told}", highlight=False)
    console.print(f"load from {generator()}; medians of rounds, in turn with what is compared")
    if left_out:
        console.print(f"left out, too long for a quick run: {', '.join(left_out)}")


if __name__ == "__main__":
    sys.exit(main())
