"""One end of the socket pair between a supervisor and a worker, on the event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, Final, Self

from vault.workers.messages import LINE_BYTES, FromWorker, ToWorker, decode, encode

_UNREAD_BYTES: Final = LINE_BYTES


class Link:
    """Sends and receives messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        """Take over one end of the pair."""
        return cls(*await asyncio.open_connection(sock=end, limit=LINE_BYTES))

    def send(self, message: ToWorker | FromWorker) -> None:
        """Queue a message; one for an end that is gone, or has not read for very long, is lost."""
        transport = self._writer.transport
        if not transport.is_closing() and transport.get_write_buffer_size() < _UNREAD_BYTES:
            self._writer.write(encode(message))

    async def messages(self) -> AsyncIterator[Any]:
        """What the other end says, until it is gone.

        Raises:
            GarbledError: a line is no message.
        """
        while True:
            try:
                line = await self._reader.readline()
            except (ConnectionError, ValueError):
                return
            if not line.endswith(b"\n"):
                return
            yield decode(line)

    def close(self) -> None:
        self._writer.close()
