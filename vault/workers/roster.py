"""Who serves, in a file of the home: for `datavault doctor`, which runs beside the service."""

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from vault.workers.member import Member, State

FILE: Final = "workers.json"
LOCK_FILE: Final = "workers.lock"
"""Held by the supervisor that writes the roster."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker: its process, the hash of the bundle it serves, how often it was replaced, what is wrong."""

    number: int
    pid: int
    state: str
    bundle: str
    restarts: int
    problem: str


@dataclass(frozen=True, slots=True)
class Roster:
    """The supervisor's process, the hash of the bundle in force, and the workers."""

    pid: int
    bundle: str
    workers: tuple[WorkerRow, ...]


def roster_of(bundle: str, members: Sequence[Member]) -> Roster:
    """The roster of the calling process, a supervisor."""
    rows = (
        WorkerRow(each.number, each.pid, each.state.value, each.bundle, each.restarts, each.problem)
        if each.state is not State.WAITING
        else WorkerRow(each.number, 0, each.state.value, "", each.restarts, each.problem)
        for each in members
    )
    return Roster(os.getpid(), bundle, tuple(rows))


def write_roster(home: Path, roster: Roster) -> None:
    """Replace the file, whole or not at all. A full disk is no reason to stop serving: the old one stays."""
    with contextlib.suppress(OSError):
        handle, temporary = tempfile.mkstemp(dir=home, prefix=FILE)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(roster), file)
        Path(temporary).replace(home / FILE)


def remove_roster(home: Path) -> None:
    """The service of this process has ended; another one's file stays."""
    roster = read_roster(home)
    if roster is not None and roster.pid == os.getpid():
        with contextlib.suppress(OSError):
            (home / FILE).unlink(missing_ok=True)


def read_roster(home: Path) -> Roster | None:
    """The roster of the service that runs; None when none does, or it has no workers of its own."""
    try:
        document = json.loads((home / FILE).read_text("utf-8"))
        rows = tuple(WorkerRow(**row) for row in document["workers"])
        roster = Roster(document["pid"], document["bundle"], rows)
        return roster if _runs(roster.pid) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _runs(pid: int) -> bool:
    """The file of a supervisor that was killed is still there."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
