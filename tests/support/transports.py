"""What the suite of the transport serves and calls with, on either adapter."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tallygate.transport.adapters import Adapter, adapter
from tallygate.transport.listening import Listen
from tallygate.transport.status import CallError, Status
from tallygate.transport.tls import TlsFiles
from tallygate.transport.transport import Handlers, Transport

ECHO = "/tallygate.test.Things/Echo"
STUCK = "/tallygate.test.Things/Stuck"
BROKEN = "/tallygate.test.Things/Broken"
REFUSED = "/tallygate.test.Things/Refused"
CHECK_HEALTH = "/grpc.health.v1.Health/Check"
WATCH_HEALTH = "/grpc.health.v1.Health/Watch"
ANYWHERE = "127.0.0.1:0"
GRACE_S = 20.0
DEADLINE_S = 20.0
SECRET = "tg_live_something_secret"
REFUSAL = "50 % of «it» is\nnot allowed"


ADAPTERS: Mapping[str, Adapter] = {"h2corn": adapter("h2corn"), "grpcio": adapter("grpcio")}


def grpcio_cannot(reason: str) -> pytest.MarkDecorator:
    """Mark a promise that grpcio itself is known to break: the day it keeps it, the test says so."""
    known = pytest.mark.xfail(strict=True, reason=reason)
    return pytest.mark.parametrize("adapter", ["h2corn", pytest.param("grpcio", marks=known)], indirect=True)


class Things:
    """Handlers whose progress a test can wait for."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.reached = 0
        self._reached_another = asyncio.Event()

    async def until_reached(self, times: int) -> None:
        """Wait until so many calls have reached a handler."""
        async with asyncio.timeout(4 * DEADLINE_S):
            while self.reached < times:
                self._reached_another.clear()
                await self._reached_another.wait()

    async def echo(self, request: bytes) -> bytes:
        """Answer the request itself."""
        self._reach()
        return request

    async def stuck(self, request: bytes) -> bytes:
        """Answer when released; note a cancellation."""
        self._reach()
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request

    async def broken(self, request: bytes) -> bytes:
        """Fail, with words that are nobody's business."""
        raise RuntimeError(SECRET, request)

    async def refused(self, _request: bytes) -> bytes:
        """End the call with a status, and words that the wire cannot carry as they are."""
        raise CallError(Status.PERMISSION_DENIED, REFUSAL)

    def _reach(self) -> None:
        self.reached += 1
        self._reached_another.set()

    @property
    def handlers(self) -> Handlers:
        """Return all of them by path."""
        return {ECHO: self.echo, STUCK: self.stuck, BROKEN: self.broken, REFUSED: self.refused}


@dataclass(frozen=True, slots=True)
class Serve:
    """Starts transports of the adapter under test, serving the test's handlers."""

    make: Adapter
    things: Things

    @asynccontextmanager
    async def __call__(self, listen: Listen = ANYWHERE, tls: TlsFiles | None = None) -> AsyncIterator[Transport]:
        """Serve for as long as the context lasts."""
        transport = self.make(listen, self.things.handlers, tls)
        await transport.start()
        try:
            yield transport
        finally:
            await transport.stop(0)


def call(
    channel: grpc.aio.Channel,
    path: str,
    request: bytes = b"",
    timeout_s: float = DEADLINE_S,
    compression: grpc.Compression | None = None,
) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
    """Begin a unary call of raw bytes."""
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    return method(request, timeout=timeout_s, compression=compression)


async def health(channel: grpc.aio.Channel, service: str = "") -> "HealthCheckResponse":
    """Ask `grpc.health.v1.Health/Check`."""
    answer = await call(channel, CHECK_HEALTH, HealthCheckRequest(service=service).SerializeToString())
    return HealthCheckResponse.FromString(answer)


def watch(channel: grpc.aio.Channel, service: str = "") -> grpc.aio.UnaryStreamCall[bytes, bytes]:
    """Begin to watch health, of the whole server or a service."""
    method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(WATCH_HEALTH)
    return method(HealthCheckRequest(service=service).SerializeToString(), timeout=DEADLINE_S)


async def next_status(watching: grpc.aio.UnaryStreamCall[bytes, bytes]) -> "HealthCheckResponse":
    """Return the next status a watch tells."""
    answer = await watching.read()
    assert isinstance(answer, bytes), "the watch ended"
    return HealthCheckResponse.FromString(answer)
