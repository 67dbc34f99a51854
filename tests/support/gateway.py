"""A shipped Envoy configuration at work: caller → Envoy → our transport and Check → a decision of the test's own.

Everything is real but the pipeline and the upstream, which remembers what it received and answers with a
RateLimit field of its own.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tallygate.decision.decision import CheckInput, Decision
from tallygate.devservers.envoy import EmbeddedEnvoy
from tallygate.devservers.envoy_config import with_endpoints
from tallygate.devservers.ports import LOOPBACK
from tallygate.envoy.check import SERVICE_PATH, Check
from tallygate.envoy.responses import ResponseWriter
from tallygate.transport.h2corn import H2cornTransport

_CONFIGS = Path(__file__).parents[2] / "deploy" / "envoy"
MINIMAL = (_CONFIGS / "01-minimal.yaml").read_text()
HARDENED = (_CONFIGS / "02-hardened.yaml").read_text()
WORKER_ENDPOINTS = (_CONFIGS / "03-worker-endpoints.yaml").read_text()
ACCESS_LOG = (_CONFIGS / "05-access-log.yaml").read_text()
SHARED_LISTENER = (_CONFIGS / "04-shared-listener.yaml").read_text()
_BRIEF = re.compile(r"((?:timeout|max_interval): )0\.\d+s")
_RESPONSE = b'HTTP/1.1 200 OK\r\nratelimit: "theirs";r=1\r\ncontent-length: 0\r\n\r\n'


class StubPipeline:
    """Decides as it is told and remembers what it was asked."""

    def __init__(self, decide: Callable[[CheckInput], Decision]) -> None:
        """Take what to answer; raising is an answer too."""
        self.decide = decide
        self.asked: list[CheckInput] = []

    async def check(self, asked: CheckInput) -> Decision:
        """Answer."""
        self.asked.append(asked)
        return self.decide(asked)


@dataclass
class Received:
    """A request as the upstream saw it; `headers` in order, repeated ones apart."""

    path: str
    headers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key == name]


@dataclass
class Gateway:
    """The running system: where to call, what was decided on, what arrived upstream."""

    address: str
    pipeline: StubPipeline
    workers: list[H2cornTransport]
    client: httpx.AsyncClient
    log_path: Path
    admin_url: str
    reports: list[str] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)

    async def get(self, path: str = "/v1/things", headers: list[tuple[str, str]] | None = None) -> httpx.Response:
        """Ask for exactly this path, with exactly these headers."""
        return await self.client.get(f"http://{self.address}", headers=headers, extensions={"target": path.encode()})


def patient(config: str, waits: str = "15s") -> str:
    """Return a configuration which waits long for us where it waits briefly: the machine of the tests may be starved.

    It waits so for connections, for decisions, for each try at one (`max_interval`) and for what checks health.
    """
    assert _BRIEF.search(config)
    return _BRIEF.sub(rf"\g<1>{waits}", config)


@asynccontextmanager
async def gateway(
    config: str, run_dir: Path, decide: Callable[[CheckInput], Decision], *, workers: int = 1
) -> AsyncIterator[Gateway]:
    """Start the configuration in front of a pipeline that decides so, served by several workers."""
    pipeline = StubPipeline(decide)
    reports: list[str] = []
    received: list[Received] = []
    check = Check(pipeline, ResponseWriter(realm="test"), lambda *_: None, reports.append)
    transports = [H2cornTransport(f"{LOOPBACK}:0", {SERVICE_PATH: check}) for _ in range(workers)]
    for transport in transports:
        await transport.start()
        transport.set_serving(True)
    upstream = await asyncio.start_server(lambda reader, writer: _answer(reader, writer, received), LOOPBACK, 0)
    text = with_endpoints(
        patient(config),
        listeners={"gateway": (LOOPBACK, 0)},
        clusters={
            "tallygate": [(LOOPBACK, transport.port) for transport in transports],
            "upstream": (LOOPBACK, upstream.sockets[0].getsockname()[1]),
        },
    )
    try:
        async with (
            EmbeddedEnvoy(text, run_dir=run_dir, concurrency=1) as envoy,
            httpx.AsyncClient(timeout=20) as client,
        ):
            address = f"{LOOPBACK}:{envoy.port('gateway')}"
            yield Gateway(address, pipeline, transports, client, envoy.log_path, envoy.admin_url, reports, received)
    finally:
        upstream.close()
        for transport in transports:
            await transport.stop(0)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: list[Received]) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            request_line, *lines = head.decode("latin-1").strip().split("\r\n")
            fields = (line.partition(":") for line in lines)
            headers = [(name, value.strip()) for name, _, value in fields]
            received.append(Received(request_line.split(" ")[1], headers))
            writer.write(_RESPONSE)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass  # Envoy has closed the connection
    finally:
        writer.close()
