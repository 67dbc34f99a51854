"""A receiver of traces, as an OpenTelemetry collector is one: HTTP, and OTLP read by OpenTelemetry's own messages."""

import asyncio
import gzip
from collections.abc import Callable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from support.http_receiver import Call, HttpReceiver

OK, UNAUTHORIZED = 200, 401


class Receiver(HttpReceiver):
    """Takes spans; `status` is what it answers, None for nothing at all."""

    def __init__(self) -> None:
        """Begin with none taken."""
        super().__init__()
        self.status: int | None = OK
        self.paths: set[str] = set()
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}
        self.bodies: list[bytes] = []
        self.came = asyncio.Condition()

    async def until(self, is_enough: Callable[["Receiver"], bool], deadline_s: float = 30) -> None:
        """Wait until what came is enough."""
        async with asyncio.timeout(deadline_s), self.came:
            await self.came.wait_for(lambda: is_enough(self))

    def named(self, name: str) -> list[Span]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]

    async def answer(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take spans, or answer as `status` says."""
        assert call.headers["content-type"] == "application/x-protobuf"
        body = gzip.decompress(call.body) if call.headers.get("content-encoding") == "gzip" else call.body
        async with self.came:
            self.paths.add(call.asked.split()[1])
            self.bodies.append(body)
            if self.status == OK:
                self._take(ExportTraceServiceRequest.FromString(body))
            self.came.notify_all()
        if self.status is None:
            await reader.read(1)  # until the other side hangs up
            return False
        writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: 0\r\n\r\n".encode())
        return True

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
