"""The promises of `transport.transport` to whoever calls it, held against every adapter by a gRPC client."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from support.raw_grpc import framed, raw_caller
from support.transports import (
    BROKEN,
    CHECK_HEALTH,
    DEADLINE_S,
    ECHO,
    GRACE_S,
    REFUSAL,
    REFUSED,
    SECRET,
    STUCK,
    Serve,
    Things,
    call,
    health,
    next_status,
    watch,
)

from tallygate.transport.transport import MAX_REQUEST_BYTES


async def test_a_unary_call_reaches_its_handler(serve: Serve) -> None:
    """The bytes of a call arrive unchanged, empty ones too, and so does the answer."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        assert await call(channel, ECHO, b"\x00\xff any bytes") == b"\x00\xff any bytes"
        assert await call(channel, ECHO, b"") == b""


async def test_an_unknown_method_is_unimplemented(serve: Serve) -> None:
    """A path that nobody serves is answered, as gRPC has it, by UNIMPLEMENTED."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        assert await call(channel, "/tallygate.test.Things/Nothing").code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_failing_handler_harms_only_its_own_call(serve: Serve) -> None:
    """A handler that raises is INTERNAL to its caller, who learns nothing of why; the next call works."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        broken = call(channel, BROKEN, b"its own words")
        assert await broken.code() is grpc.StatusCode.INTERNAL
        told = f"{await broken.details()} {await broken.initial_metadata()} {await broken.trailing_metadata()}"
        assert not [word for word in (SECRET, "RuntimeError", "its own words") if word in told]
        assert await call(channel, ECHO, b"still here") == b"still here"


async def test_a_handler_may_refuse_with_a_status_and_any_words(serve: Serve) -> None:
    """A status and its message arrive as they were given, `%`, line ends and letters of any language included."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        refused = call(channel, REFUSED)
        assert await refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await refused.details() == REFUSAL


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_compressed_request_is_read(serve: Serve, compression: grpc.Compression) -> None:
    """A client that compresses is served like any other."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        assert await call(channel, ECHO, b"again " * 1000, compression=compression) == b"again " * 1000


async def test_what_unpacks_to_too_much_is_refused(serve: Serve, things: Things) -> None:
    """A request of a few bytes that would fill the memory is RESOURCE_EXHAUSTED; the largest allowed one passes."""
    gzip = grpc.Compression.Gzip
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        bomb = call(channel, ECHO, bytes(100 * MAX_REQUEST_BYTES), compression=gzip)
        assert await bomb.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await call(channel, ECHO, bytes(MAX_REQUEST_BYTES + 1), compression=gzip).code() is (
            grpc.StatusCode.RESOURCE_EXHAUSTED
        )
        assert things.reached == 0
        assert len(await call(channel, ECHO, bytes(MAX_REQUEST_BYTES), compression=gzip)) == MAX_REQUEST_BYTES


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
        assert await call(channel, CHECK_HEALTH, unknown).code() is grpc.StatusCode.NOT_FOUND


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


async def test_a_watch_of_nobody_says_so(serve: Serve) -> None:
    """A watch of a service that is not served is told SERVICE_UNKNOWN, as the health protocol has it, and goes on."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        watching = watch(channel, "nobody")
        assert (await next_status(watching)).status == HealthCheckResponse.SERVICE_UNKNOWN
        assert not watching.done()


async def test_a_watcher_that_leaves_is_forgotten(serve: Serve) -> None:
    """Watches that were given up cost nothing: the server stops without waiting for them, and serves on before."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        for _ in range(50):
            watching = watch(channel)
            await next_status(watching)
            watching.cancel()
        transport.set_serving(True)
        assert (await health(channel)).status == HealthCheckResponse.SERVING


async def test_a_passed_deadline_cancels_the_handler(serve: Serve, things: Things) -> None:
    """No work goes on for a caller whose deadline has passed."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        late = call(channel, STUCK, timeout_s=1.0)
        assert await late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(things.cancelled.wait(), DEADLINE_S)


async def test_a_caller_that_goes_away_cancels_the_handler(serve: Serve, things: Things) -> None:
    """No work goes on for a caller who has left."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        leaving = call(channel, STUCK)
        await asyncio.wait_for(things.started.wait(), DEADLINE_S)
        leaving.cancel()
        await asyncio.wait_for(things.cancelled.wait(), DEADLINE_S)


async def test_a_connection_that_breaks_cancels_its_calls(serve: Serve, things: Things) -> None:
    """A caller need not say goodbye: a connection that is gone cancels what went on for it."""
    async with serve() as transport:
        async with raw_caller(transport.port) as caller:
            caller.begin(STUCK, framed(b""))
            await asyncio.wait_for(things.started.wait(), DEADLINE_S)
        await asyncio.wait_for(things.cancelled.wait(), DEADLINE_S)


async def test_a_call_that_keeps_its_deadline_is_left_alone(serve: Serve, things: Things) -> None:
    """The deadline of one call cancels no other, earlier or later, on the same connection."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        patient = [call(channel, STUCK, b"%d" % number) for number in range(10)]
        late = [call(channel, STUCK, timeout_s=0.2 + number / 100) for number in range(10)]
        assert {await one.code() for one in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        things.release.set()
        assert [await one for one in patient] == [b"%d" % number for number in range(10)]


async def test_ten_thousand_calls_are_under_way_at_once(serve: Serve, things: Things) -> None:
    """10,000 calls wait on four connections, and each is answered with its own bytes."""
    async with serve() as transport, AsyncExitStack() as left_open:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            await left_open.enter_async_context(grpc.aio.insecure_channel(transport.address, options)) for _ in range(4)
        ]
        calls = [call(channels[number % 4], STUCK, b"%d" % number, timeout_s=100) for number in range(10_000)]
        await things.until_reached(len(calls))
        assert await call(channels[0], ECHO, b"and another") == b"and another"
        things.release.set()
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(10_000)]


async def test_a_request_that_is_too_big_never_reaches_the_handler(serve: Serve, things: Things) -> None:
    """Memory is bounded: one byte too many is RESOURCE_EXHAUSTED, the largest allowed request passes."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        too_big = call(channel, ECHO, bytes(MAX_REQUEST_BYTES + 1))
        assert await too_big.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert things.reached == 0
        assert len(await call(channel, ECHO, bytes(MAX_REQUEST_BYTES))) == MAX_REQUEST_BYTES


async def test_stop_lets_calls_under_way_finish(serve: Serve, things: Things) -> None:
    """A drain loses no call that had begun, and takes no new one; an idle watcher does not hold it up."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        watching = watch(channel)
        await next_status(watching)
        under_way = call(channel, STUCK, b"begun")
        await asyncio.wait_for(things.started.wait(), DEADLINE_S)
        stopping = asyncio.create_task(transport.stop(GRACE_S))
        assert await watching.read() is grpc.aio.EOF
        assert await call(channel, ECHO).code() is grpc.StatusCode.UNAVAILABLE
        things.release.set()
        assert await under_way == b"begun"
        await asyncio.wait_for(stopping, GRACE_S / 2)


async def test_stop_cancels_what_outlasts_the_grace(serve: Serve, things: Things) -> None:
    """A call that never ends does not keep the process alive."""
    async with serve() as transport, grpc.aio.insecure_channel(transport.address) as channel:
        under_way = call(channel, STUCK)
        await asyncio.wait_for(things.started.wait(), DEADLINE_S)
        await transport.stop(0)
        assert await under_way.code() is not grpc.StatusCode.OK
        await asyncio.wait_for(things.cancelled.wait(), DEADLINE_S)
