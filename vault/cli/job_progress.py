"""How a job of the server shows that it goes on: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from types import TracebackType
from typing import Any, Final, Self

import click

from vault.cli.output import console

_LINE_SECONDS: Final = 10.0
_WAITING: Final = "waiting"
_SAID: Final = {
    "rewrapping": "rewrapping",
    _WAITING: "waiting until no call is left that read an old key",
    "checking": "looking once more",
    "done": "done",
}


class JobProgress:
    """A context manager. Writes to stderr only."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._phase = ""
        self._told_at = 0.0
        self._bar: Any = None
        self._task: Any = None

    def show(self, phase: str, done: int, total: int) -> None:
        """The phase, and how many of how many are done."""
        said = f"{self._name}: {_SAID.get(phase, phase)}"
        if self._bar is not None:
            self._bar.update(self._task, description=said, completed=done, total=total or 1)
        elif phase != self._phase or time.monotonic() >= self._told_at + _LINE_SECONDS:
            click.echo(f"{said}: {done} of {total}", err=True)
            self._told_at = time.monotonic()
        self._phase = phase

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console(stderr=True),
            )
            self._task = self._bar.add_task(self._name, total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
