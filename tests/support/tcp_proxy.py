"""A TCP relay that can break in the ways networks do: refuse, cut, or go silent without a word."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class TcpProxy:
    """Stands before one server; begins closed until `open`."""

    def __init__(self, dsn: str, tls: ssl.SSLContext | None = None) -> None:
        """Stand before the server of `dsn`; with `tls`, speak TLS to whoever connects."""
        self._tls = tls
        self._parts = urlsplit(dsn)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._relays: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.accepted = 0
        self.changed = asyncio.Condition()

    @property
    def dsn(self) -> str:
        """Return the DSN that leads through here."""
        login = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{login}@127.0.0.1:{self._port}"))

    async def open(self) -> None:
        """Accept connections, at the same port each time."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse new connections and cut those that stand."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def silence(self) -> None:
        """Swallow everything: connections stay open and nobody answers."""
        self._flows.clear()

    def speak(self) -> None:
        """Let bytes flow again."""
        self._flows.set()

    async def wait_for_connections(self, number: int) -> None:
        """Return once `number` connections have been accepted in all."""
        async with self.changed, asyncio.timeout(20):
            await self.changed.wait_for(lambda: self.accepted >= number)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        async with self.changed:
            self.accepted += 1
            self.changed.notify_all()
        there_reader, there_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._writers.add(there_writer)
        for source, target in ((reader, there_writer), (there_reader, writer)):
            relay = asyncio.create_task(self._relay(source, target))
            self._relays.add(relay)
            relay.add_done_callback(self._relays.discard)

    async def _relay(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(65_536):
                await self._flows.wait()
                target.write(chunk)
                await target.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(target)
            target.transport.abort()


@asynccontextmanager
async def tcp_proxy(dsn: str, *, is_open: bool = True, tls: ssl.SSLContext | None = None) -> AsyncIterator[TcpProxy]:
    """Run a relay before `dsn`; when it is not to be open yet, its port is known and refuses."""
    proxy = TcpProxy(dsn, tls)
    await proxy.open()
    if not is_open:
        await proxy.close()
    try:
        yield proxy
    finally:
        proxy.speak()
        await proxy.close()
