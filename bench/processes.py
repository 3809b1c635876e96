"""Servers under measurement, each in a process of its own, and what their processors have done."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens: its plain port first."""

    ports: tuple[int, ...]
    pid: int

    @property
    def port(self) -> int:
        return self.ports[0]

    def cpu_seconds(self) -> float:
        """User and system time since it began."""
        return cpu_seconds(self.pid)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process of this machine (proc(5), stat: utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextlib.contextmanager
def process(module: str, *arguments: str, stdin: bytes = b"") -> Iterator[Server]:
    """`python -m module`, which prints its ports in one line; ended at the end of the block."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(stdin)
        child.stdin.close()
        yield Server(tuple(map(int, child.stdout.readline().split())), child.pid)
    finally:
        child.terminate()
        child.wait(30)
