"""Ports that several gRPC servers share, in one process or in several (SO_REUSEPORT, Linux and the BSDs).

Whoever leads them binds each address and never listens: the number stays taken while workers come and go, and
connections go to the servers alone, each new one to any of them.
"""

import errno
import socket
from typing import Any, Final

from vault.domain.errors import ConfigurationError
from vault.server.listening import cannot_listen

_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""`localhost` may name an IPv6 address on a machine that has none."""


def require_sharing() -> None:
    """
    Raises:
        ConfigurationError: this system has no shared ports.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError("DATAVAULT_WORKERS: this system cannot share a port: it can only be 1 here")


class ReservedPort:
    """HOST:PORT, taken for the servers of this service; `address` has the number that port 0 became, and is
    '' for an address that is off.

    Raises:
        StartRefusedError: another program has it, or the host does not exist.
    """

    def __init__(self, address: str) -> None:
        self._sockets: list[socket.socket] = []
        self.address = self._reserve(address) if address else ""

    def close(self) -> None:
        """Give it back."""
        for each in self._sockets:
            each.close()

    def _reserve(self, address: str) -> str:
        host, _, port = address.rpartition(":")
        number = int(port)
        try:
            number = self._take_all(host.strip("[]"), number)
            if not self._sockets and host == "[::]":
                # without IPv6 gRPC takes all addresses of IPv4 for it
                number = self._take_all("0.0.0.0", number)  # noqa: S104  as the operator said
        except OSError:
            self.close()
            raise cannot_listen(address) from None
        if not self._sockets:
            raise cannot_listen(address)
        return f"{host}:{number}"

    def _take_all(self, host: str, number: int) -> int:
        for family, at in _places(host):
            number = self._take(family, (at[0], number, *at[2:])) or number
        return number

    def _take(self, family: int, at: tuple[Any, ...]) -> int:
        """Bind; returns the port, 0 when this machine has no such address."""
        try:
            taken = _bound(family, at)
        except OSError as error:
            if error.errno in _NOT_HERE:
                return 0
            raise
        self._sockets.append(taken)
        return int(taken.getsockname()[1])


def _bound(family: int, at: tuple[Any, ...]) -> socket.socket:
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        # alone at first, so that a program which shares its ports too is noticed; connections that an
        # earlier server left behind do not count
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(at)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        taken.close()
        raise
    return taken


def _places(host: str) -> list[tuple[int, tuple[Any, ...]]]:
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((int(family), at) for family, _, _, _, at in found))
