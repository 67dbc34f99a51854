"""What the transport makes of requests that no gRPC library would send, held against every adapter frame by frame."""

import asyncio
import gzip
import zlib
from contextlib import suppress
from functools import partial

import pytest
from hyperframe.frame import DataFrame, PingFrame, RstStreamFrame
from support.raw_grpc import Header, RawCaller, framed, raw_caller
from support.transports import DEADLINE_S, ECHO, GRACE_S, STUCK, Serve, Things, grpcio_cannot

from tallygate.transport.status import Status
from tallygate.transport.transport import MAX_METADATA_BYTES, MAX_REQUEST_BYTES, Transport

SOON: Header = ("grpc-timeout", "2S")
"""Ends a call that the server would leave hanging."""


@pytest.mark.parametrize(
    "said", ["1H", "99999999H", "1M", "20S", "20000m", "20000000u", "99999999n"], ids=lambda text: text
)
async def test_every_unit_of_a_timeout_is_read(serve: Serve, said: str) -> None:
    """Hours, minutes, seconds, milli-, micro- and nanoseconds: a call that is quick enough is answered."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, framed(b"in time"), ("grpc-timeout", said))
        assert (answer.grpc_status, answer.body) == (Status.OK, framed(b"in time"))


@pytest.mark.parametrize("said", ["100m", "200000u", "99999999n", "0S"])
async def test_the_server_itself_keeps_the_deadline(serve: Serve, things: Things, said: str) -> None:
    """A caller that only says how long it waits, and does nothing about it, is told when that is over."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(STUCK, framed(b""), ("grpc-timeout", said))
        assert answer.grpc_status == Status.DEADLINE_EXCEEDED
        if things.started.is_set():
            await asyncio.wait_for(things.cancelled.wait(), DEADLINE_S)


async def test_a_deadline_is_kept_for_a_request_that_never_comes_to_its_end(serve: Serve, things: Things) -> None:
    """A caller that begins a request and sends no more is not waited for longer than it said."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        stream = caller.begin(ECHO, framed(b"half of it")[:-5], ("grpc-timeout", "100m"), may_end=False)
        assert (await caller.end_of(stream)).grpc_status == Status.DEADLINE_EXCEEDED
        assert things.reached == 0


@pytest.mark.parametrize("said", ["5", "S", "-1S", "1x", "1.5S", "", "1SS"])
async def test_a_malformed_timeout_is_an_error(serve: Serve, things: Things, said: str) -> None:
    """A deadline that cannot be read is no call without one: it is refused."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, framed(b""), ("grpc-timeout", said))
        assert answer.grpc_status == Status.INTERNAL
        assert things.reached == 0


@pytest.mark.parametrize("body", [None, b""], ids=["no body", "an empty body"])
@grpcio_cannot("gRPC 1.85 waits for a message until the deadline")
async def test_a_call_without_a_message_is_unimplemented(serve: Serve, body: bytes | None) -> None:
    """A unary call has one message: none is a violation of its cardinality."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        assert (await caller.call(ECHO, body, SOON)).grpc_status == Status.UNIMPLEMENTED


@grpcio_cannot("gRPC 1.85 answers the first message and ignores the rest")
async def test_a_second_message_is_unimplemented(serve: Serve, things: Things) -> None:
    """A unary call has one message: of two, neither is guessed to be it."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, framed(b"one") + framed(b"two"), SOON)
        assert answer.grpc_status == Status.UNIMPLEMENTED
        assert things.reached == 0


@pytest.mark.parametrize("body", [b"\0\0", framed(b"cut off")[:-1]], ids=["in the prefix", "in the message"])
@grpcio_cannot("gRPC 1.85 waits for the rest until the deadline")
async def test_a_truncated_message_is_an_error(serve: Serve, things: Things, body: bytes) -> None:
    """A request that ends within its message never reaches the handler."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        assert (await caller.call(ECHO, body, SOON)).grpc_status == Status.INTERNAL
        assert things.reached == 0


@grpcio_cannot("gRPC 1.85 answers the message and ignores what follows")
async def test_bytes_after_the_message_are_an_error(serve: Serve, things: Things) -> None:
    """What is not framed is not ignored."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        assert (await caller.call(ECHO, framed(b"one") + b"??", SOON)).grpc_status == Status.UNIMPLEMENTED
        assert things.reached == 0


@grpcio_cannot("gRPC 1.85 hands an empty message to the handler")
async def test_an_unknown_flag_is_an_error(serve: Serve, things: Things) -> None:
    """A message is compressed or not; a third kind cannot be read."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        assert (await caller.call(ECHO, framed(b"what", flag=2), SOON)).grpc_status == Status.INTERNAL
        assert things.reached == 0


@pytest.mark.parametrize("headers", [(), (("grpc-encoding", "identity"),)], ids=["none named", "identity"])
async def test_a_compressed_message_of_a_call_that_names_no_compression(
    serve: Serve, things: Things, headers: tuple[Header, ...]
) -> None:
    """The flag says compressed, the call does not say how: INTERNAL, as gRPC's documents have it."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, framed(gzip.compress(b"packed"), flag=1), *headers)
        assert answer.grpc_status == Status.INTERNAL
        assert things.reached == 0


@pytest.mark.parametrize("flag", [0, 1])
@grpcio_cannot("gRPC 1.85 answers INTERNAL: it takes the header for malformed")
async def test_an_unknown_compression_is_unimplemented(serve: Serve, flag: int) -> None:
    """The caller learns that it may not compress so, and how it may."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, framed(b"packed", flag), ("grpc-encoding", "snappy"))
        assert answer.grpc_status == Status.UNIMPLEMENTED
        assert answer.headers["grpc-accept-encoding"] == "identity, deflate, gzip"


@pytest.mark.parametrize(
    "packed",
    [b"not packed", gzip.compress(b"cut off")[:-4], zlib.compress(b"deflate's, not gzip's")],
    ids=["not packed", "cut off", "deflate"],  # gzip's bytes hold the time, and every process must find the same tests
)
async def test_what_cannot_be_unpacked_is_an_error(serve: Serve, things: Things, packed: bytes) -> None:
    """A broken compressed message harms its own call, and the next one on the connection works."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, framed(packed, flag=1), ("grpc-encoding", "gzip"))
        assert answer.grpc_status == Status.INTERNAL
        assert things.reached == 0
        assert (await caller.call(ECHO, framed(b"next"))).body == framed(b"next")


async def test_a_message_may_come_in_pieces(serve: Serve) -> None:
    """How a peer cuts its message into frames, byte by byte or with empty ones between, changes nothing."""
    message = framed(b"piece by piece" * 100)
    async with serve() as transport, raw_caller(transport.port) as caller:
        stream = caller.begin(ECHO, b"", may_end=False)
        caller.send(*(DataFrame(stream, message[at : at + 1]) for at in range(len(message))), DataFrame(stream, b""))
        caller.send(DataFrame(stream, b"", flags=["END_STREAM"]))
        assert (await caller.end_of(stream)).body == message


async def test_a_message_that_claims_to_be_too_big_is_not_waited_for(serve: Serve, things: Things) -> None:
    """The length is believed before the bytes are there: no memory is kept for them."""
    claim = (MAX_REQUEST_BYTES + 1).to_bytes(4, "big")
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, b"\0" + claim + b"and so on")
        assert answer.grpc_status == Status.RESOURCE_EXHAUSTED
        assert things.reached == 0


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_another_method_than_post_never_reaches_a_handler(serve: Serve, things: Things, method: str) -> None:
    """A call is a POST: anything else is refused, and the connection lives on."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, framed(b""), method=method)
        assert answer.is_reset or answer.http_status == 405
        assert things.reached == 0
        assert (await caller.call(ECHO, framed(b"next"))).grpc_status == Status.OK


@pytest.mark.parametrize("content_type", ["application/json", "application/grpc-web", "application/grpcx", "", None])
@grpcio_cannot("gRPC 1.85 reads whatever comes as gRPC")
async def test_another_media_type_is_415(serve: Serve, things: Things, content_type: str | None) -> None:
    """What is no gRPC is told so in HTTP, for its caller would not read a gRPC status."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, framed(b""), content_type=content_type)
        assert answer.http_status == 415
        assert things.reached == 0


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;v=1", "application/grpc+json"])
async def test_a_media_type_of_grpc_may_say_more(serve: Serve, content_type: str) -> None:
    """A subtype or a parameter changes nothing: the handler knows bytes only."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, framed(b"same"), content_type=content_type)
        assert (answer.http_status, answer.grpc_status, answer.body) == (200, Status.OK, framed(b"same"))


@pytest.mark.parametrize("path", ["/", "/tallygate.test.Things/echo", "/tallygate.test.Things/Ech%6F", "/Echo"])
async def test_a_path_nobody_serves_is_unimplemented(serve: Serve, path: str) -> None:
    """Paths are compared letter by letter, and the answer is of gRPC: HTTP 200 with a status."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(path, framed(b""))
        assert (answer.http_status, answer.grpc_status) == (200, Status.UNIMPLEMENTED)
        assert answer.headers["content-type"] == "application/grpc"


async def test_metadata_below_the_limit_passes(serve: Serve) -> None:
    """What a mesh adds to a call, traces and identities, does not stop it: many headers, and large ones."""
    many: list[Header] = [(f"x-{number}", "value") for number in range(200)]
    async with serve() as transport, raw_caller(transport.port) as caller:
        assert (await caller.call(ECHO, framed(b""), *many)).grpc_status == Status.OK
        large = ("x-large", "v" * (MAX_METADATA_BYTES // 2))
        assert (await caller.call(ECHO, framed(b""), large)).grpc_status == Status.OK


@pytest.mark.parametrize("size", [MAX_METADATA_BYTES + 1, 4 * MAX_METADATA_BYTES])
@grpcio_cannot("gRPC 1.85 takes metadata of any size, whatever its options say")
async def test_metadata_above_the_limit_is_refused(serve: Serve, things: Things, size: int) -> None:
    """Headers beyond measure end their own call; the connection lives on."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        answer = await caller.call(ECHO, framed(b""), ("x-large", "v" * size))
        assert answer.is_reset or answer.http_status == 431
        assert things.reached == 0
        assert (await caller.call(ECHO, framed(b"next"))).grpc_status == Status.OK


async def until_stopped(transport: Transport, caller: RawCaller) -> None:
    """Stop a server on which no call is under way; raise TimeoutError when it waits for its grace."""
    stopping = asyncio.create_task(transport.stop(GRACE_S))
    await caller.until_closed()
    await asyncio.wait_for(stopping, GRACE_S / 2)


async def until_refused(port: int) -> None:
    """Connect until nobody listens; raise TimeoutError when somebody still does."""
    async with asyncio.timeout(DEADLINE_S):
        with suppress(ConnectionError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()


def has_answered(caller: RawCaller, pings: int) -> bool:
    """Say whether so many pings were answered."""
    return caller.pongs >= pings


async def test_keepalive_of_an_idle_connection_is_no_attack(serve: Serve) -> None:
    """Envoy may ping an idle connection as often as it likes: each ping is answered, none by GOAWAY."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        for round_of in range(10):
            caller.send(*(PingFrame(0, number.to_bytes(8, "big")) for number in range(100)))
            await caller.until(partial(has_answered, caller, 100 * (round_of + 1)))
        assert caller.goaways == []
        assert (await caller.call(ECHO, framed(b"still open"))).grpc_status == Status.OK


async def test_calls_that_are_reset_leave_nothing_behind(serve: Serve, things: Things) -> None:
    """Callers that give up are forgotten: what they began is ended, and their connection works on."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        streams = [caller.begin(STUCK, framed(b"")) for _ in range(150)]
        await things.until_reached(len(streams))
        caller.send(*(RstStreamFrame(stream, error_code=8) for stream in streams))
        assert (await caller.call(ECHO, framed(b"after all"))).body == framed(b"after all")
        await asyncio.wait_for(things.cancelled.wait(), DEADLINE_S)
        await until_stopped(transport, caller)


@pytest.mark.parametrize(
    "adapter",
    [
        pytest.param("h2corn", marks=pytest.mark.xfail(strict=True, reason="h2corn 2.0 hangs up after 200 in seconds")),
        "grpcio",
    ],
    indirect=True,
)
async def test_many_resets_do_not_cost_the_connection(serve: Serve, things: Things) -> None:
    """A caller that gives up a thousand calls within seconds keeps its connection, and the other calls on it."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        streams = [caller.begin(STUCK, framed(b"")) for _ in range(1_000)]
        await things.until_reached(len(streams))
        caller.send(*(RstStreamFrame(stream, error_code=8) for stream in streams))
        assert (await caller.call(ECHO, framed(b"after all"))).body == framed(b"after all")


async def test_a_caller_that_resets_too_much_harms_no_other(serve: Serve, things: Things) -> None:
    """Whatever becomes of a connection that is abused, its calls are ended and another connection works."""
    async with serve() as transport, raw_caller(transport.port) as caller, raw_caller(transport.port) as other:
        streams = [caller.begin(STUCK, framed(b"")) for _ in range(1_000)]
        await things.until_reached(len(streams))
        caller.send(*(RstStreamFrame(stream, error_code=8) for stream in streams))
        assert (await other.call(ECHO, framed(b"unharmed"))).body == framed(b"unharmed")
        await asyncio.wait_for(things.cancelled.wait(), DEADLINE_S)


async def test_a_drain_says_goaway_and_finishes_what_has_begun(serve: Serve, things: Things) -> None:
    """Whoever holds a connection is told to take its next call elsewhere, and gets the answers it waits for."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        stream = caller.begin(STUCK, framed(b"begun"))
        await asyncio.wait_for(things.started.wait(), DEADLINE_S)
        stopping = asyncio.create_task(transport.stop(GRACE_S))
        await caller.until(lambda: bool(caller.goaways))
        assert (caller.goaways[0].error_code, caller.answers[stream].has_ended) == (0, False)
        await until_refused(transport.port)
        things.release.set()
        answer = await caller.end_of(stream)
        assert (answer.grpc_status, answer.body) == (Status.OK, framed(b"begun"))
        await caller.until_closed()
        await asyncio.wait_for(stopping, GRACE_S / 2)


async def test_an_idle_connection_does_not_hold_up_a_drain(serve: Serve) -> None:
    """A connection without calls is closed at once, not after the grace."""
    async with serve() as transport, raw_caller(transport.port) as caller:
        await caller.call(ECHO, framed(b""))
        await until_stopped(transport, caller)
        assert caller.goaways
