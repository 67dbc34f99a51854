"""Envoy and the sample upstream: real ports, real readiness, Envoy's own words when it refuses."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.envoy_text import PLAIN_PROXY

from tallygate.core.errors import InputError
from tallygate.devservers.envoy import EmbeddedEnvoy, EnvoyServer, ExistingEnvoy, validate
from tallygate.devservers.envoy_config import with_endpoints
from tallygate.devservers.process import ServerStartError
from tallygate.devservers.upstream import SampleUpstream


def proxy_to(upstream: SampleUpstream) -> str:
    """Return a configuration with a free port, in front of `upstream`."""
    there = (upstream.host, upstream.port)
    return with_endpoints(PLAIN_PROXY, listeners={"gateway": ("127.0.0.1", 0)}, clusters={"upstream": there})


async def test_two_envoys_stand_side_by_side_on_ports_of_their_own(data_dir: Path) -> None:
    """Each is ready when entered, serves on its own port, and is gone when left."""
    async with (
        SampleUpstream() as upstream,
        EmbeddedEnvoy(proxy_to(upstream), run_dir=data_dir / "a", concurrency=1) as first,
        EmbeddedEnvoy(proxy_to(upstream), run_dir=data_dir / "b", concurrency=1) as second,
        httpx.AsyncClient() as client,
    ):
        urls = [envoy.url("gateway") for envoy in (first, second)]
        answers = [(await client.get(f"{url}/v1/things?page=2")).json() for url in urls]
        assert urls[0] != urls[1]
        assert {first.port("gateway"), second.port("gateway")} == {int(url.rpartition(":")[2]) for url in urls}
        assert [answer["path"] for answer in answers] == ["/v1/things?page=2"] * 2
        assert (await client.get(f"{first.admin_url}/ready")).text.strip() == "LIVE"
        with pytest.raises(InputError, match="there are: gateway"):
            first.url("other")
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(urls[0])


async def test_a_refused_configuration_fails_with_envoys_words(data_dir: Path) -> None:
    """`validate` and a start both say which field is wrong; the log is kept."""
    broken = PLAIN_PROXY.replace("stat_prefix", "start_prefix")
    with pytest.raises(InputError, match=r"^envoy configuration: Protobuf message.*start_prefix"):
        await validate(broken)
    envoy = EmbeddedEnvoy(broken, run_dir=data_dir)
    with pytest.raises(ServerStartError, match=r"Envoy ended with status 1(.|\n)*start_prefix"):
        await envoy.__aenter__()
    assert "start_prefix" in envoy.log_path.read_text()


async def test_a_good_configuration_is_valid() -> None:
    """`validate` is silent, and opens no port."""
    await validate(PLAIN_PROXY)


async def test_a_configuration_without_admin_is_refused(data_dir: Path) -> None:
    """Readiness is asked at the admin address, so there must be one."""
    with pytest.raises(InputError, match="admin"):
        await EmbeddedEnvoy("static_resources: {}", run_dir=data_dir).__aenter__()


async def test_a_running_envoy_is_used_through_the_same_interface() -> None:
    """`ExistingEnvoy` answers with the URLs it was given."""
    async with ExistingEnvoy({"gateway": "http://gw:8080"}, admin_url="http://gw:9901") as existing:
        same: EnvoyServer = existing
        assert (same.url("gateway"), same.port("gateway"), same.admin_url) == (
            "http://gw:8080",
            8080,
            "http://gw:9901",
        )
        with pytest.raises(InputError, match="there are: gateway"):
            same.port("other")


async def test_the_upstream_says_what_it_received_and_logs_it(data_dir: Path) -> None:
    """Method, path with query, and each header; the same line is in the log before the answer is."""
    log_path = data_dir / "upstream.log"
    async with SampleUpstream(log_path=log_path) as upstream, httpx.AsyncClient(base_url=upstream.url) as client:
        response = await client.post("/healthz?x=%2F", headers=[("X-One", "1"), ("x-one", "2")], content=_parts())
        logged = [json.loads(line) for line in log_path.read_text().splitlines()]
        head = await client.head("/")
    echo = response.json()
    assert (echo["method"], echo["path"], echo["headers"]["x-one"]) == ("POST", "/healthz?x=%2F", "1, 2")
    assert logged == [echo]
    assert (head.status_code, head.content) == (200, b"")


async def test_the_upstream_answers_as_it_is_asked_to() -> None:
    """Whoever tries out what becomes of a failure, or of a header, gets it; the next answer is as usual."""
    async with SampleUpstream() as upstream, httpx.AsyncClient(base_url=upstream.url) as client:
        wanted = {"x-answer-status": "503", "x-answer-x-units": "7"}
        failed = await client.get("/", headers=wanted)
        assert (failed.status_code, failed.headers["x-units"]) == (503, "7")
        assert failed.json()["headers"]["x-answer-status"] == "503"
        assert (await client.get("/", headers={"x-answer-status": "204"})).content == b""
        assert (await client.get("/")).status_code == 200


async def test_the_upstream_keeps_requests_of_one_connection_apart() -> None:
    """Pipelined requests, bodies of both framings between them, are answered in order."""
    requests = (
        b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 16\r\n\r\nGET /no HTTP/1.1"
        b"POST /2 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\ntrailer: 1\r\n\r\n"
        b"GET /3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    )
    answer = await _converse(requests)
    assert re.findall('"path": "([^"]*)"', answer) == ["/1", "/2", "/3"]


@pytest.mark.parametrize(
    "request_line", ["nonsense", "GET / HTTP/1.1\r\nno colon", "GET / HTTP/1.1\r\ncontent-length: x"]
)
async def test_the_upstream_refuses_what_it_cannot_read(request_line: str) -> None:
    """A request that is none is answered 400, and the connection closed."""
    assert (await _converse(f"{request_line}\r\n\r\n".encode())).startswith("HTTP/1.1 400 ")


async def _converse(sent: bytes) -> str:
    """Send bytes to an upstream and return all it answers until it closes."""
    async with SampleUpstream() as upstream, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
        writer.write(sent)
        answer = await reader.read(-1)
        writer.close()
        return answer.decode()


async def _parts() -> AsyncIterator[bytes]:
    """Yield a body of unknown length, which a client sends in chunks."""
    for _ in range(3):
        yield b"x" * 1000
