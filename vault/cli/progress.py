"""How an import shows that it goes on: a bar on a terminal, elsewhere a line now and then."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import click

from vault.cli.output import console

if TYPE_CHECKING:
    from vault.cli.importing.outcome import Rejected, Totals

_SHOWN: Final = 20
_LINE_EVERY_ROWS: Final = 10_000
_BAR_EVERY_ROWS: Final = 100


class Progress:
    """Watches one transfer; its `watch` is called for each row. A context manager. Writes to stderr only.

    `report` is the file that lists every rejected row, '' where none is written.
    """

    def __init__(
        self, name: str, fraction: Callable[[], float], *, quiet: bool = False, report: str = ""
    ) -> None:
        self._name = name
        self._fraction = fraction
        self._quiet = quiet
        self._report = report
        self._shown = 0
        self._last = (0, 0)
        self._bar: Any = None
        self._task: Any = None

    def watch(self, rejected: "Rejected | None", totals: "Totals") -> None:
        """One row is settled."""
        if rejected is not None:
            self._show(rejected)
        settled = totals.sent + totals.earlier + totals.rejected or totals.read
        self._last = (settled, totals.rejected)
        if self._bar is not None:
            if settled % _BAR_EVERY_ROWS == 0:
                self._update()
        elif not self._quiet and settled % _LINE_EVERY_ROWS == 0:
            click.echo(f"{self._name}: {settled} rows, {totals.rejected} rejected", err=True)

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet:
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn(
                    "{task.fields[rows]} rows  {task.fields[rate]}/s  {task.fields[rejected]} rejected"
                ),
                TimeRemainingColumn(),
                console=console(stderr=True),
            )
            self._task = self._bar.add_task(self._name, total=1.0, rows=0, rate=0, rejected=0)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._update()
            self._bar.stop()

    def _update(self) -> None:
        settled, rejected = self._last
        elapsed = self._bar.tasks[0].elapsed or 0.0
        rate = round(settled / elapsed) if elapsed else 0
        self._bar.update(self._task, completed=self._fraction(), rows=settled, rate=rate, rejected=rejected)

    def _show(self, rejected: "Rejected") -> None:
        self._shown += 1
        if self._shown > _SHOWN:
            return
        for fault in rejected.faults:
            self._print(f"{self._name}:{rejected.row.line}: row {rejected.row.number} rejected: {fault}")
        if self._shown == _SHOWN:
            listed = f" and listed in {self._report}" if self._report else ""
            self._print(f"further rejected rows are counted below{listed}")

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            click.echo(line, err=True)
