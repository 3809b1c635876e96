"""The process of one worker, as its supervisor holds it."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from vault.crypto.dev_server import ending_with_parent
from vault.workers.link import Link
from vault.workers.messages import FromWorker, GarbledError, Start, ToWorker

_MODULE: Final = "vault.cli.worker"
_REAP_SECONDS: Final = 5.0


class WorkerProcess:
    """A fresh interpreter: nothing of the supervisor is in it but one end of a socket pair.

    On Linux it is killed when the supervisor ends, however that ends; elsewhere it notices by the socket. It
    has a process group of its own: Ctrl-C is for the supervisor, which then ends its workers in order.
    """

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  this Python, and arguments of our own
                ending_with_parent([*_python(), str(theirs.fileno())], signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self._link: Link | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: ToWorker) -> None:
        """Send a message; one that comes too late is lost."""
        if self._link is not None:
            self._link.send(message)

    def signal(self, number: int) -> None:
        """Send a signal, if the process is still there."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    async def follow(self, start: Start, hear: Callable[[FromWorker], Any]) -> int:
        """Tell it to start, and hear what it says until it has ended.

        Returns:
            Its exit code, or minus the signal that killed it.
        """
        self._link = await Link.open(self._ours)
        self._link.send(start)
        try:
            async for message in self._link.messages():
                hear(message)
        except GarbledError:
            self.signal(signal.SIGKILL)
        finally:
            self._link.close()
        return await asyncio.to_thread(self._reap)

    def _reap(self) -> int:
        try:
            return self._process.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            # it talks no more: what it does now nobody could stop
            self._process.kill()
            return self._process.wait()


def _python() -> list[str]:
    """This Python with this import path: `-m` alone would put the working folder before it."""
    here = str(Path.cwd())
    return [sys.executable, *([] if here in sys.path or "" in sys.path else ["-P"]), "-m", _MODULE]
