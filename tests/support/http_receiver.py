"""What receivers of the tests share: an HTTP server that reads one call after the other, and hangs up at the end.

Owns the socket and the connections. Does not own what is answered, nor when: a receiver may misbehave as it likes.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, Self

from tallygate.devservers.ports import LOOPBACK


class Call(NamedTuple):
    """A call as it came: its first line, its headers by their names in lower case, its body."""

    asked: str
    headers: dict[str, str]
    body: bytes


class HttpReceiver(ABC):
    """Serves at `url`."""

    def __init__(self) -> None:
        """Serve nowhere yet."""
        self.url = ""
        self._open: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve while the block runs."""
        server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await server.wait_closed()

    @abstractmethod
    async def answer(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a call, or not; say whether the connection is to be kept."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self.answer(await _call(reader), reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort()


async def _call(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    return Call(head[0], headers, await reader.readexactly(int(headers.get("content-length", "0"))))
