"""HTTP over a unix socket, for an Agent or Proxy on this machine (docs/adr/0012)."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from vault.crypto.transit_bounds import BoundedResponse, begin_connecting


class SocketAdapter(HTTPAdapter):
    """For `requests.Session.mount`: every request goes to one socket, whatever host its URL names. Bounded in
    time as by `BoundedAdapter`."""

    def __init__(self, path: Path) -> None:
        self._pool = _SocketPool(path)
        super().__init__()

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: Any = None,
    ) -> HTTPConnectionPool:
        """The socket's pool; TLS and proxies are for networks."""
        return self._pool

    def close(self) -> None:
        """Close the connections; as with every adapter, the next request opens one again."""
        self._pool.close()
        self._pool = _SocketPool(self._pool.path)
        super().close()


class _SocketPool(HTTPConnectionPool):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", maxsize=1)
        self.path = path

    def _new_conn(self) -> "_SocketConnection":
        return _SocketConnection(self.path)


class _SocketConnection(HTTPConnection):
    response_class = BoundedResponse

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        begin_connecting(self)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(self.timeout)
            opened.connect(str(self._path))
        except OSError:
            opened.close()
            raise
        self.sock = opened
