"""A receiver of traces, as an OpenTelemetry collector is one: HTTP, and OTLP read by OpenTelemetry's own messages."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

OK, UNAUTHORIZED = 200, 401


class Receiver:
    """Takes spans; `status` is what it answers, None for nothing at all."""

    def __init__(self) -> None:
        """Begin with none taken."""
        self.status: int | None = OK
        self.url = ""
        self.paths: set[str] = set()
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}
        self.bodies: list[bytes] = []
        self.came = asyncio.Condition()
        self._open: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Receiver"]:
        """Serve while the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await server.wait_closed()

    async def until(self, is_enough: Callable[["Receiver"], bool], deadline_s: float = 30) -> None:
        """Wait until what came is enough."""
        async with asyncio.timeout(deadline_s), self.came:
            await self.came.wait_for(lambda: is_enough(self))

    def named(self, name: str) -> list[Span]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        assert headers["content-type"] == "application/x-protobuf"
        body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        async with self.came:
            self.paths.add(head[0].split()[1])
            self.bodies.append(body)
            if self.status == OK:
                self._take(ExportTraceServiceRequest.FromString(body))
            self.came.notify_all()
        if self.status is None:
            await reader.read(1)  # until the other side hangs up
        else:
            writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: 0\r\n\r\n".encode())

    def _take(self, told: ExportTraceServiceRequest) -> None:
        for source in told.resource_spans:
            self.resource = {pair.key: pair.value.string_value for pair in source.resource.attributes}
            for scope in source.scope_spans:
                self.spans += scope.spans


def attributes(span: Span) -> dict[str, object]:
    """Return the attributes of a span."""
    return {pair.key: _plain(pair.value) for pair in span.attributes}


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    return getattr(value, str(kind))
