"""A TCP proxy between a client and the service that loses answers and cuts connections on command.

It sees TLS records only, so what was forwarded is told by what the service did with it: hold the answers
back, wait for the change in the database, cut.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Final

_CHUNK: Final = 65_536


class Proxy:
    """Forwards to one port of this machine, each direction of a connection on a thread."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._losing = False
        self._refusing = False
        self.connections = 0
        self._start(self._accept)

    def lose_answers(self) -> None:
        """From now on what the service says does not reach the client; requests go through."""
        self._losing = True

    def refuse(self) -> None:
        """Close every connection, and new ones as soon as they come."""
        self.cut()
        self._refusing = True

    def cut(self) -> None:
        """Close every connection; new ones are forwarded both ways again."""
        with self._guard:
            self._losing = self._refusing = False
            opened, self._open = self._open, set()
        for each in opened:
            _shut(each)

    def close(self) -> None:
        """End everything."""
        _shut(self._listener)
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                _shut(client)
                continue
            service = socket.create_connection(self._target)
            with self._guard:
                self._open |= {client, service}
                self.connections += 1
            self._start(self._forward, client, service)
            self._start(self._forward, service, client, True)

    def _forward(self, source: socket.socket, target: socket.socket, answers: bool = False) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if not (answers and self._losing):
                    target.sendall(chunk)
        _shut(source)
        _shut(target)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


def _shut(each: socket.socket) -> None:
    # close alone would not wake a thread that waits in recv or accept
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextlib.contextmanager
def proxy_to(address: str) -> Iterator[Proxy]:
    """A proxy to `host:port`, gone at the end of the block."""
    proxy = Proxy(int(address.rpartition(":")[2]))
    try:
        yield proxy
    finally:
        proxy.close()
