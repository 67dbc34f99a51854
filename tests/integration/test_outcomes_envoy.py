"""How requests ended, told by a real Envoy with the shipped access log, corrects what they were charged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from support.counting import at_once, prepaid
from support.ended import Ended, ended
from support.envoy_oracle import log_entry, log_message
from support.gateway import ACCESS_LOG
from support.pipelines import TOKEN, Desk

from tallygate._proto.v1 import usage_pb2 as wire
from tallygate.devservers.envoy_config import SocketAddress
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.upstream import SampleUpstream
from tallygate.licenses.routes import EVERYTHING, ActualSource, MeterPolicy, RouteRule
from tallygate.limits.limit import Limit

FAILED = ((500, 599),)
UNITS = "x-usage-output-tokens"
METERS: dict[str, str | None] = {"tokens": None, "output": "tokens", "bytes": None}
THINGS = RouteRule("GET", "/v1/things", policies=(MeterPolicy("requests", FAILED),))
REPORTS = RouteRule(
    "GET", "/v1/reports", (("bytes", 0),), policies=(MeterPolicy("bytes", actual=ActualSource.BYTES_SENT),)
)
COMPLETIONS = RouteRule(
    "POST",
    "/v1/completions",
    (("output", 30), ("tokens", 30)),
    policies=(MeterPolicy("output", FAILED, ActualSource.HEADER, UNITS),),
)
STREAMED = RouteRule(
    "POST",
    "/v1.Completions/{method}",
    COMPLETIONS.costs,
    policies=(MeterPolicy("output", FAILED, ActualSource.TRAILER, UNITS),),
)
CONVERSATIONS = RouteRule(
    "POST",
    "/v1/conversations",
    (("output", 30), ("requests", 1), ("tokens", 30)),
    policies=(MeterPolicy("output", actual=ActualSource.REPORTED), MeterPolicy("requests", FAILED)),
)


def desk_with(*limits: Limit) -> Desk:
    """Return a desk whose token has these limits, with every rule above."""
    desk = Desk()
    desk.rules = (THINGS, REPORTS, COMPLETIONS, STREAMED, CONVERSATIONS, EVERYTHING)
    desk.meters = dict(METERS)
    desk.issue(*limits)
    return desk


def balance(meter: str, amount: int = 1000) -> Limit:
    """Return a limit that says exactly what was used of a meter."""
    return prepaid(amount, name=meter, meter=meter)


async def used(system: Ended, meter: str, amount: int = 1000) -> int:
    """Return what has been used of a meter, by what its limit has left."""
    answer = await system.told.introspect(token=TOKEN.text)
    (left,) = [limit.remaining for limit in answer.limits if limit.name == meter]
    return amount - left


@asynccontextmanager
async def sampled(desk: Desk, run_dir: Path) -> AsyncIterator[Ended]:
    """Run everything in front of the sample upstream, which answers as it is asked to."""
    async with SampleUpstream() as upstream, ended(desk, run_dir, (upstream.host, upstream.port)) as system:
        yield system


async def test_a_failed_request_is_given_back_once(data_dir: Path) -> None:
    """One that went well stays charged; one that failed does not, told once or twice; refusals tell nothing."""
    async with sampled(desk_with(balance("requests", 2)), data_dir) as system:
        assert (await system.ask()).status_code == 200
        failed = await system.ask(x_answer_status="503")
        customer, receipt = failed.json()["headers"]["x-tallygate-receipt"].split(":")
        await system.outcomes("refunded")
        assert await used(system, "requests", 2) == 1
        noted = {"customer": customer, "receipt": receipt, "route": THINGS.text}
        await system.told.log(log_message(*[log_entry(noted, status=503)] * 2))
        await system.outcomes("repeated", 2)
        assert await used(system, "requests", 2) == 1
        assert (await system.ask(authorization="Bearer of nothing")).status_code == 401
        assert (await system.ask()).status_code == 200  # told after the refusal, if that is told
        await system.outcomes("none", 2)
        assert (await system.ask()).status_code == 402
        assert system.all_outcomes() == {"none": 2, "refunded": 1, "repeated": 2}


async def test_a_failure_of_envoys_own_is_one_too(data_dir: Path) -> None:
    """Where no upstream answers, Envoy's 503 gives back as an upstream's would."""
    async with ended(desk_with(balance("requests")), data_dir, (LOOPBACK, free_port())) as system:
        assert (await system.ask()).status_code == 503
        await system.outcomes("refunded")
        assert await used(system, "requests") == 0


async def test_bytes_are_charged_as_they_were_sent(data_dir: Path) -> None:
    """Cost 0 admits; the body's length is charged once it is known."""
    async with sampled(desk_with(balance("bytes")), data_dir) as system:
        answer = await system.ask("/v1/reports")
        await system.outcomes("settled")
        assert await used(system, "bytes") == len(answer.content) > 100


async def test_a_header_of_the_response_says_what_was_used(data_dir: Path) -> None:
    """More or less than the estimate, and the meter above by as much; without a number the estimate stands."""
    async with sampled(desk_with(balance("output"), balance("tokens")), data_dir) as system:
        for said, total in (("7", 7), ("100", 107), ("many", 137)):
            await system.ask("/v1/completions", "POST", **{f"x-answer-{UNITS}": said})
            await system.outcomes("none" if said == "many" else "settled", 2 if said == "100" else 1)
            assert [await used(system, meter) for meter in ("output", "tokens")] == [total, total]


async def test_a_trailer_of_a_stream_says_what_was_used(data_dir: Path) -> None:
    """As gRPC upstreams tell it: when all has been said."""
    desk = desk_with(balance("output"), balance("tokens"))
    config = ACCESS_LOG.replace(
        "    - name: upstream\n",
        "    - name: upstream\n"
        "      typed_extension_protocol_options:\n"
        "        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n"
        '          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n'
        "          explicit_http_config: {http2_protocol_options: {}}\n",
    )
    async with completing() as upstream, ended(desk, data_dir, upstream, config) as system:
        async with grpc.aio.insecure_channel(system.address) as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/v1.Completions/Write")
            metadata = [("authorization", f"Bearer {TOKEN.text}")]
            assert await method(b"a prompt", metadata=metadata, timeout=20) == b"a prompt"
        await system.outcomes("settled")
        assert [await used(system, meter) for meter in ("output", "tokens")] == [81, 81]


@asynccontextmanager
async def completing() -> AsyncIterator[SocketAddress]:
    """Run a gRPC upstream that echoes, and says in a trailer that this took 81 units."""

    async def write(prompt: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        context.set_trailing_metadata([(UNITS, "81")])
        return prompt

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Write": grpc.unary_unary_rpc_method_handler(write)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1.Completions", handlers),))
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    await server.start()
    try:
        yield LOOPBACK, port
    finally:
        await server.stop(None)


async def test_a_held_request_counts_until_its_end(data_dir: Path) -> None:
    """Who waits for the upstream holds a place; told of the end, the next has it, with no time passed."""
    gate, arrived = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, LOOPBACK, 0)
    port: int = server.sockets[0].getsockname()[1]
    async with server, ended(desk_with(at_once(1)), data_dir, (LOOPBACK, port)) as system:
        first = asyncio.create_task(system.ask("/held"))
        await arrived.wait()
        assert (await system.ask("/held")).status_code == 429
        gate.set()
        assert (await first).status_code == 200
        await system.outcomes("none")
        assert (await system.ask("/held")).status_code == 200


async def test_upstreams_settle_what_only_they_know(data_dir: Path) -> None:
    """By the receipt in the header, once; what the access log says of such a request changes nothing."""
    async with sampled(desk_with(balance("output"), balance("tokens")), data_dir) as system:
        answer = await system.ask("/v1/conversations", "POST")
        await system.outcomes("none")
        settlement = wire.Settlement(receipt=answer.json()["headers"]["x-tallygate-receipt"], units={"output": 12})
        bad = [wire.Settlement(receipt=settlement.receipt, units={"bytes": 1}), wire.Settlement(receipt="?")]
        assert await system.told.settle(*bad) == ["RESULT_INVALID"] * 2
        results = await system.told.settle(settlement, settlement)
        assert sorted(results) == ["RESULT_DONE", "RESULT_REPEATED"]
        assert [await used(system, meter) for meter in ("output", "tokens")] == [12, 12]


async def test_what_comes_too_late_is_refused(data_dir: Path) -> None:
    """After `within` the estimate stands, whoever says what; and nobody settles what never was."""
    desk = desk_with(balance("output"))
    async with sampled(desk, data_dir) as system:
        answer = await system.ask("/v1/conversations", "POST")
        receipt = answer.json()["headers"]["x-tallygate-receipt"]
        desk.clock.advance(600)
        for late in (receipt, receipt + "0"):
            assert await system.told.settle(wire.Settlement(receipt=late, units={"output": 1})) == ["RESULT_UNKNOWN"]
        customer, receipt_id = receipt.split(":")
        noted = {"customer": customer, "receipt": receipt_id, "route": CONVERSATIONS.text}
        await system.told.log(log_message(log_entry(noted, status=500)))
        await system.outcomes("unknown")
        assert await used(system, "output") == 30


@pytest.mark.parametrize("path", ["/v1/things", "/elsewhere"])
async def test_a_receipt_cannot_be_brought_along(data_dir: Path, path: str) -> None:
    """What a caller claims to have is not what the upstream gets."""
    async with sampled(desk_with(balance("requests")), data_dir) as system:
        headers = (await system.ask(path, x_tallygate_receipt="cus_1:mine")).json()["headers"]
        assert headers.get("x-tallygate-receipt", "") != "cus_1:mine"
        assert ("x-tallygate-receipt" in headers) is (path == "/v1/things")
