"""A relay before Postgres that loses every notification, and nothing else.

Owns the connections through it. It reads the frames of the protocol on their way to the client (a type byte, then a
length of four bytes that counts itself) and leaves out those of type `A`. So the connection is alive, queries are
answered, and LISTEN is granted: the network failure that nothing but time can discover. Without TLS only.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

from tallygate.devservers.ports import LOOPBACK

_NOTIFICATION = b"A"
_HEADER_BYTES, _LENGTH_BYTES = 5, 4


class Relay:
    """Stands before one Postgres."""

    def __init__(self, dsn: str) -> None:
        """Stand before the server of `dsn`."""
        self._parts = urlsplit(dsn)
        self._port = 0
        self._pumps: set[asyncio.Task[None]] = set()
        self.swallowed = 0
        """Notifications that did not arrive."""

    @property
    def dsn(self) -> str:
        """Return the DSN that leads through here."""
        login = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{login}@{LOOPBACK}:{self._port}"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Accept connections while the block runs."""
        server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        for pump in (_copy(reader, there_writer), self._sift(there_reader, writer)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _sift(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    header = await source.readexactly(_HEADER_BYTES)
                    body = await source.readexactly(int.from_bytes(header[1:], "big") - _LENGTH_BYTES)
                    if header[:1] == _NOTIFICATION:
                        self.swallowed += 1
                        continue
                    target.write(header + body)
                    await target.drain()
        finally:
            target.transport.abort()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while chunk := await source.read(65_536):
                target.write(chunk)
                await target.drain()
    finally:
        target.transport.abort()


@asynccontextmanager
async def losing_notifications(dsn: str) -> AsyncIterator[Relay]:
    """Run a relay before the Postgres of `dsn`."""
    relay = Relay(dsn)
    async with relay.running():
        yield relay
