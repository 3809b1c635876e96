"""The demo's own home folder: new each time, so that two demos never meet, and gone afterwards."""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from vault.cli.exits import CommandError, ExitCode

_PREFIX: Final = "demo-"
_ENDING: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP


@contextlib.contextmanager
def fresh_home(parent: Path, *, keep: bool) -> Iterator[Path]:
    """A new folder below `parent`, for its owner alone; removed at the end unless `keep`.

    Raises:
        CommandError: it cannot be made.
    """
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)).resolve()
    except OSError as error:
        raise CommandError(
            f"{parent}: no folder can be made there: {error.strerror}",
            "name another with --home or DATAVAULT_HOME",
            ExitCode.USAGE,
        ) from None
    try:
        yield home
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def ended_in_order() -> Iterator[contextlib.ExitStack]:
    """A stack of what must be ended: also when the demo is interrupted or told to end, and only once.

    SIGTERM and SIGHUP become KeyboardInterrupt, as SIGINT is. While the stack ends, further signals wait for
    nobody: an impatient second Ctrl-C must not leave a server behind.
    """
    before = {number: signal.signal(number, _interrupt) for number in _ENDING}
    interrupt = signal.getsignal(signal.SIGINT)
    stack = contextlib.ExitStack()
    try:
        yield stack
    finally:
        for number in (signal.SIGINT, *_ENDING):
            signal.signal(number, signal.SIG_IGN)
        try:
            stack.close()
        finally:
            signal.signal(signal.SIGINT, interrupt)
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupt(_: int, __: FrameType | None) -> Any:
    raise KeyboardInterrupt
