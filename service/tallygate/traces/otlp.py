"""Handing spans on by OTLP over HTTP, beside the requests and never in their way.

Spans wait in a bounded queue; one that finds it full is dropped. A thread of its own sends them, a batch at a time and
with a deadline; a batch that is refused or late is lost. Both are counted. At the end what waits is sent, for as long
as `_LAST_S` allows. For one event loop, but for the sending.

The exporter's own settings hold (`OTEL_EXPORTER_OTLP_HEADERS`, `…_CERTIFICATE`, `…_COMPRESSION`, `OTEL_SERVICE_NAME`,
`OTEL_RESOURCE_ATTRIBUTES`); where to send is ours. Failure: importing this without OpenTelemetry is an InputError.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import structlog

from tallygate.core.errors import InputError

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    from opentelemetry.trace import Tracer
except ImportError:
    raise InputError(
        "TALLYGATE_TRACES_ENDPOINT", "traces need OpenTelemetry", "pip install 'tallygate[traces]'"
    ) from None

_MOST_WAITING, _BATCH = 2048, 128
"""A batch is small, for making it keeps the event loop waiting."""
_SEND_S, _LAST_S = 5.0, 3.0
_PATH = "/v1/traces"
_log = structlog.get_logger("tallygate.traces")


class SpanQueue(SpanProcessor):
    """Spans that have ended and are to be sent; `tell` counts them by what became of them: sent, failed, dropped."""

    def __init__(self, exporter: SpanExporter, tell: Callable[[str, int], None], last_s: float = _LAST_S) -> None:
        """Send through `exporter`; at the end, for `last_s` seconds at most."""
        self._exporter = exporter
        self._tell = tell
        self._last_s = last_s
        self._waiting: deque[ReadableSpan] = deque()
        self._sending: asyncio.Task[bool] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="traces")
        self._is_well = True

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(span)
        else:
            self._tell("dropped", 1)

    async def hand_on(self) -> None:
        """Send all that waits, until a batch cannot be sent."""
        while self._sending is not None or self._waiting:
            if self._sending is None:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                self._sending = asyncio.create_task(self._send(batch), name="traces")
            is_sent = await asyncio.shield(self._sending)  # who is cancelled here finds it again at the end
            self._sending = None
            if not is_sent:
                return

    async def close(self) -> None:
        """Send what waits, as far as there is time; the rest is dropped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._last_s):
                await self.hand_on()
        self._exporter.shutdown()
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})
        if self._waiting:
            self._tell("dropped", len(self._waiting))
            self._waiting.clear()

    async def _send(self, batch: Sequence[ReadableSpan]) -> bool:
        is_sent = False
        try:
            async with asyncio.timeout(_SEND_S + 1):  # the exporter has its deadline: this one is for a bad exporter
                answer = await asyncio.get_running_loop().run_in_executor(self._thread, self._exporter.export, batch)
            is_sent = answer is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - whatever an exporter raises costs this batch, never the next
            _log.debug("spans were not sent", problem=type(error).__name__)
        finally:
            self._tell("sent" if is_sent else "failed", len(batch))
            self._note(is_well=is_sent)
        return is_sent

    def _note(self, *, is_well: bool) -> None:
        if is_well != self._is_well:
            self._is_well = is_well
            if is_well:
                _log.info("traces are sent again")
            else:
                _log.warning("traces cannot be sent, and are lost meanwhile")


def span_queue(endpoint: str, tell: Callable[[str, int], None]) -> SpanQueue:
    """Return a queue to the OTLP receiver at `endpoint`: a base URL such as `http://collector:4318`, or a whole one."""
    # It tells of every batch that fails, and the queue of the first.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    whole = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _PATH
    return SpanQueue(OTLPSpanExporter(endpoint=whole, timeout=_SEND_S), tell)


def tracer(queue: SpanQueue, version: str) -> Tracer:
    """Return what makes spans that end in `queue`. Who is recorded is decided before (`checks`)."""
    ours = Resource({"service.name": "tallygate", "service.version": version})
    provider = TracerProvider(
        sampler=ALWAYS_ON, resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    provider.add_span_processor(queue)
    return provider.get_tracer("tallygate", version)
