"""The private line between a worker and its supervisor: a pair of connected sockets that nobody else can reach.

The supervisor asks with one byte; the worker answers with a report, and sends a last one when it ends. A report is a
length of four bytes, a line of JSON (what the worker still waits for) and its metrics in OpenMetrics.
Failure: a worker that does not answer in time gives no new report; one that sends more than `MAX_REPORT_BYTES`, or
nonsense, is hung up on.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

MAX_REPORT_BYTES = 16 * 2**20
_ASK = b"?"
_LENGTH_BYTES = 4
_SEND_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker told last: what it waits for (nothing when ready), and its metrics."""

    waiting_for: tuple[str, ...]
    exposition: bytes


class WorkerLine:
    """The worker's end; it stands where a process of its own has its probes."""

    def __init__(
        self,
        sock: socket.socket,
        exposition: Callable[[], bytes],
        not_ready: Callable[[], list[str]],
        on_hang_up: Callable[[], None],
    ) -> None:
        """Take the socket, what to report, and what to do when the supervisor is gone."""
        self._socket = sock
        self._exposition = exposition
        self._not_ready = not_ready
        self._on_hang_up = on_hang_up
        self._writer: asyncio.StreamWriter | None = None
        self._answering: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        self._answering = asyncio.create_task(self._answer(reader, self._writer), name="line")

    async def stop(self) -> None:
        """Report for the last time, and hang up."""
        if self._writer is None or self._answering is None:
            return
        self._answering.cancel()
        await asyncio.wait({self._answering})
        with suppress(OSError, TimeoutError):
            await self._report(self._writer)
        self._writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError):
            while await reader.read(1):
                await self._report(writer)
        self._on_hang_up()

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        body = json.dumps(self._not_ready()).encode() + b"\n" + self._exposition()
        writer.write(len(body).to_bytes(_LENGTH_BYTES) + body)
        async with asyncio.timeout(_SEND_DEADLINE_S):
            await writer.drain()


class SupervisorLine:
    """The supervisor's end; `report` is the newest, None until there is one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the connected streams; made by `open`."""
        self._writer = writer
        self._told = asyncio.Event()
        self._reading = asyncio.create_task(self._read(reader), name="line")
        self.report: Report | None = None

    @classmethod
    async def open(cls, sock: socket.socket) -> "SupervisorLine":
        """Begin to read; the socket is the line's from here on."""
        return cls(*await asyncio.open_unix_connection(sock=sock))

    async def ask(self, deadline_s: float) -> bool:
        """Ask for a report; say whether one came within `deadline_s` seconds, before the worker hung up."""
        known, told = self.report, self._told
        if self._writer.is_closing():
            return False
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(deadline_s):
                self._writer.write(_ASK)
                await told.wait()
        return self.report is not known

    async def until_closed(self, deadline_s: float) -> None:
        """Read what a worker that has ended had still sent, then hang up."""
        await asyncio.wait({self._reading}, timeout=deadline_s)
        self._reading.cancel()
        self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, EOFError, ValueError):
            while (size_bytes := int.from_bytes(await reader.readexactly(_LENGTH_BYTES))) <= MAX_REPORT_BYTES:
                head, _, exposition = (await reader.readexactly(size_bytes)).partition(b"\n")
                self.report = Report(tuple(json.loads(head)), exposition)
                self._told.set()
                self._told = asyncio.Event()
        self._writer.close()
        self._told.set()
