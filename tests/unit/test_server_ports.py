"""Ports that the servers of a service share."""

import errno
import socket
from typing import Any

import pytest

from vault.domain.errors import StartRefusedError
from vault.server.ports import ReservedPort


class OldSocket(socket.socket):
    """One of a machine without IPv6."""

    def __init__(self, family: int = socket.AF_INET, *more: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *more)


@pytest.fixture
def without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", OldSocket)


@pytest.mark.usefixtures("without_ipv6")
def test_all_addresses_are_those_of_ipv4_where_there_are_no_others() -> None:
    """As gRPC takes them; the number is reserved all the same."""
    first = ReservedPort("[::]:0")
    try:
        port = int(first.address.rpartition(":")[2])
        assert first.address == f"[::]:{port}"
        assert port > 0
        with pytest.raises(StartRefusedError):
            ReservedPort(f"0.0.0.0:{port}")
    finally:
        first.close()


@pytest.mark.usefixtures("without_ipv6")
def test_one_address_of_ipv6_is_not_taken_for_another() -> None:
    """Only the name of all addresses stands for more than itself."""
    with pytest.raises(StartRefusedError):
        ReservedPort("[::1]:0")
