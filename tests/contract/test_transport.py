"""The promises of `transport.transport`, held against every adapter. A new adapter joins `TRANSPORTS`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tallygate.core.errors import InputError
from tallygate.transport.grpcio import GrpcioTransport
from tallygate.transport.transport import MAX_REQUEST_BYTES, Handlers, ListenAddress, Transport

TRANSPORTS: list[Callable[[str, Handlers], Transport]] = [GrpcioTransport]

ECHO = "/tallygate.test.Things/Echo"
STUCK = "/tallygate.test.Things/Stuck"
BROKEN = "/tallygate.test.Things/Broken"
ANYWHERE = "127.0.0.1:0"
GRACE_S = 20.0
DEADLINE_S = 20.0


class Things:
    """Handlers whose progress a test can wait for."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.echoed = 0

    async def echo(self, request: bytes) -> bytes:
        """Answer the request itself."""
        self.echoed += 1
        return request

    async def stuck(self, request: bytes) -> bytes:
        """Answer when released; note a cancellation."""
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request

    async def broken(self, request: bytes) -> bytes:
        """Fail."""
        raise RuntimeError(request)

    @property
    def handlers(self) -> Handlers:
        """Return all of them by path."""
        return {ECHO: self.echo, STUCK: self.stuck, BROKEN: self.broken}


class Serve(Protocol):
    """Starts a transport of the adapter under test."""

    def __call__(self, listen: str = ANYWHERE) -> AbstractAsyncContextManager[Transport]:
        """Serve the test's handlers at `listen` for as long as the context lasts."""
        ...


@pytest.fixture
def things() -> Things:
    """Fresh handlers."""
    return Things()


@pytest.fixture(params=TRANSPORTS)
def make(request: pytest.FixtureRequest) -> Callable[[str, Handlers], Transport]:
    """Return each adapter in turn."""
    adapter: Callable[[str, Handlers], Transport] = request.param
    return adapter


@pytest.fixture
def serve(make: Callable[[str, Handlers], Transport], things: Things) -> Serve:
    """Return how to start the adapter with the test's handlers."""

    @asynccontextmanager
    async def started(listen: str = ANYWHERE) -> AsyncIterator[Transport]:
        transport = make(listen, things.handlers)
        await transport.start()
        try:
            yield transport
        finally:
            await transport.stop(0)

    return started


def call(
    channel: grpc.aio.Channel, path: str, request: bytes = b"", timeout_s: float = DEADLINE_S
) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
    """Begin a unary call of raw bytes."""
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    return method(request, timeout=timeout_s)


async def code_of(made: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> grpc.StatusCode:
    """Return the status a call ends with."""
    return await made.code()


async def health(channel: grpc.aio.Channel, service: str = "") -> "HealthCheckResponse":
    """Ask `grpc.health.v1.Health/Check`."""
    answer = await call(
        channel, "/grpc.health.v1.Health/Check", HealthCheckRequest(service=service).SerializeToString()
    )
    return HealthCheckResponse.FromString(answer)


def watch(channel: grpc.aio.Channel) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
    """Begin to watch the health of the whole server."""
    method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/grpc.health.v1.Health/Watch")
    return method(HealthCheckRequest().SerializeToString(), timeout=DEADLINE_S)


async def next_status(watching: grpc.aio.UnaryStreamCall[bytes, bytes]) -> "HealthCheckResponse":
    """Return the next status a watch tells."""
    answer = await watching.read()
    assert isinstance(answer, bytes), "the watch ended"
    return HealthCheckResponse.FromString(answer)


async def test_a_unary_call_reaches_its_handler(serve: Serve) -> None:
    """The bytes of a call arrive unchanged, empty ones too, and so does the answer."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        assert await call(channel, ECHO, b"\x00\xff any bytes") == b"\x00\xff any bytes"
        assert await call(channel, ECHO, b"") == b""


async def test_an_unknown_method_is_unimplemented(serve: Serve) -> None:
    """A path that nobody serves is answered, as gRPC has it, by UNIMPLEMENTED."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        assert await code_of(call(channel, "/tallygate.test.Things/Nothing")) is grpc.StatusCode.UNIMPLEMENTED


async def test_a_failing_handler_harms_only_its_own_call(serve: Serve) -> None:
    """A handler that raises is an error to its caller, and the next call on the connection works."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        assert await code_of(call(channel, BROKEN)) not in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
        assert await call(channel, ECHO, b"still here") == b"still here"


async def test_health_follows_set_serving(serve: Serve) -> None:
    """A server takes no traffic until told to, and gives it up when told to; unknown services are NOT_FOUND."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        assert (await health(channel)).status == HealthCheckResponse.NOT_SERVING
        transport.set_serving(True)
        assert (await health(channel)).status == HealthCheckResponse.SERVING
        assert (await health(channel, "tallygate.test.Things")).status == HealthCheckResponse.SERVING
        transport.set_serving(False)
        assert (await health(channel)).status == HealthCheckResponse.NOT_SERVING
        unknown = HealthCheckRequest(service="nobody").SerializeToString()
        assert await code_of(call(channel, "/grpc.health.v1.Health/Check", unknown)) is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_is_told_of_every_change(serve: Serve) -> None:
    """Who watches health learns of a change without asking again."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        watching = watch(channel)
        assert (await next_status(watching)).status == HealthCheckResponse.NOT_SERVING
        transport.set_serving(True)
        assert (await next_status(watching)).status == HealthCheckResponse.SERVING
        transport.set_serving(False)
        assert (await next_status(watching)).status == HealthCheckResponse.NOT_SERVING
        watching.cancel()


async def test_a_passed_deadline_cancels_the_handler(serve: Serve, things: Things) -> None:
    """No work goes on for a caller whose deadline has passed."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        late = call(channel, STUCK, timeout_s=1.0)
        assert await code_of(late) is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(things.cancelled.wait(), DEADLINE_S)


async def test_a_caller_that_goes_away_cancels_the_handler(serve: Serve, things: Things) -> None:
    """No work goes on for a caller who has left."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        leaving = call(channel, STUCK)
        await asyncio.wait_for(things.started.wait(), DEADLINE_S)
        leaving.cancel()
        await asyncio.wait_for(things.cancelled.wait(), DEADLINE_S)


async def test_a_request_that_is_too_big_never_reaches_the_handler(serve: Serve, things: Things) -> None:
    """Memory is bounded: one byte too many is RESOURCE_EXHAUSTED, the largest allowed request passes."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        too_big = call(channel, ECHO, bytes(MAX_REQUEST_BYTES + 1))
        assert await code_of(too_big) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert things.echoed == 0
        assert len(await call(channel, ECHO, bytes(MAX_REQUEST_BYTES))) == MAX_REQUEST_BYTES


async def test_port_zero_is_a_free_port_that_is_told(serve: Serve) -> None:
    """Whoever asks for any port learns which one it is."""
    async with serve() as one, serve() as other:
        assert one.port != other.port
        assert one.address == f"127.0.0.1:{one.port}"


async def test_a_unix_socket_serves_like_a_port(serve: Serve, tmp_path: Path) -> None:
    """`unix:/path` works, again after a stop, and has no port."""
    listen = f"unix:{tmp_path / 'check.sock'}"
    for _ in range(2):
        async with serve(listen) as transport, grpc.aio.insecure_channel(transport.address) as channel:
            assert (transport.address, transport.port) == (listen, 0)
            assert await call(channel, ECHO, b"through a file") == b"through a file"


@pytest.mark.parametrize("on", ["port", "socket"])
async def test_an_address_in_use_stops_the_start(serve: Serve, tmp_path: Path, on: str) -> None:
    """Two servers never share an address in silence; the error names the setting, and the first serves on."""
    listen = ANYWHERE if on == "port" else f"unix:{tmp_path / 'check.sock'}"
    async with serve(listen) as first:
        with pytest.raises(InputError, match=r"TALLYGATE_LISTEN.*cannot listen"):
            async with serve(first.address):
                pass
        async with grpc.aio.insecure_channel(first.address) as channel:
            assert await call(channel, ECHO, b"unharmed") == b"unharmed"


@pytest.mark.parametrize(
    "listen", ["", "50051", "localhost", ":50051", "localhost:65536", "unix:relative", "http://a:1"]
)
async def test_what_is_no_address_is_refused(make: Callable[[str, Handlers], Transport], listen: str) -> None:
    """A typing error in the setting is told by its name, before anything starts."""
    with pytest.raises(InputError, match="TALLYGATE_LISTEN"):
        make(listen, {})


async def test_stop_lets_calls_under_way_finish(serve: Serve, things: Things) -> None:
    """A drain loses no call that had begun, and takes no new one; an idle watcher does not hold it up."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        watching = watch(channel)
        await next_status(watching)
        under_way = call(channel, STUCK, b"begun")
        await asyncio.wait_for(things.started.wait(), DEADLINE_S)
        stopping = asyncio.create_task(transport.stop(GRACE_S))
        assert await watching.read() is grpc.aio.EOF
        assert await code_of(call(channel, ECHO)) is grpc.StatusCode.UNAVAILABLE
        things.release.set()
        assert await under_way == b"begun"
        await asyncio.wait_for(stopping, GRACE_S / 2)


async def test_stop_cancels_what_outlasts_the_grace(serve: Serve, things: Things) -> None:
    """A call that never ends does not keep the process alive."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        under_way = call(channel, STUCK)
        await asyncio.wait_for(things.started.wait(), DEADLINE_S)
        await transport.stop(0)
        assert await code_of(under_way) is not grpc.StatusCode.OK
        await asyncio.wait_for(things.cancelled.wait(), DEADLINE_S)


def test_listen_addresses_are_read_and_written_back() -> None:
    """Every form of address that the setting documents is understood."""
    assert ListenAddress.parse("0.0.0.0:50051") == ListenAddress(host="0.0.0.0", port=50051)  # noqa: S104 - an example
    assert ListenAddress.parse("[::]:0").at(7) == "[::]:7"
    assert ListenAddress.parse("unix:/run/t.sock").at(0) == "unix:/run/t.sock"
