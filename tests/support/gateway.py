"""A shipped Envoy configuration at work: caller → Envoy → our transport and Check → a decision of the test's own.

Everything is real but the pipeline and the upstream, which remembers what it received and answers with a
RateLimit field of its own.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import httpx

from tallygate.decision.decision import CheckInput, Decision
from tallygate.devservers.envoy import EmbeddedEnvoy
from tallygate.devservers.envoy_config import Address, parse, with_endpoints
from tallygate.devservers.ports import LOOPBACK
from tallygate.envoy.check import SERVICE_PATH, Check
from tallygate.envoy.responses import ResponseWriter
from tallygate.transport.h2corn import H2cornTransport
from tallygate.transport.tls import TlsFiles

_CONFIGS = Path(__file__).parents[2] / "deploy" / "envoy"
FILES = tuple(sorted(path.stem for path in _CONFIGS.glob("[0-9]*.yaml")))
"""Every configuration we ship, `01-minimal` and on; `config_of` reads one."""
_BRIEF = re.compile(r"((?:timeout|max_interval): )0\.\d+s")
_RESPONSE = b'HTTP/1.1 200 OK\r\nratelimit: "theirs";r=1\r\ncontent-length: 0\r\n\r\n'


Decide: TypeAlias = Callable[[CheckInput], Decision | Awaitable[Decision]]


def config_of(name: str) -> str:
    """Return the text of a shipped configuration."""
    return (_CONFIGS / f"{name}.yaml").read_text()


MINIMAL, HARDENED, WORKER_ENDPOINTS, SHARED_LISTENER, ACCESS_LOG = map(config_of, FILES[:5])


class StubPipeline:
    """Decides as it is told and remembers what it was asked."""

    def __init__(self, decide: Decide) -> None:
        """Take what to answer; raising is an answer too, and so is a wait."""
        self.decide = decide
        self.asked: list[CheckInput] = []

    async def check(self, asked: CheckInput) -> Decision:
        """Answer."""
        self.asked.append(asked)
        decision = self.decide(asked)
        return await decision if isinstance(decision, Awaitable) else decision


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
    config: str,
    run_dir: Path,
    decide: Decide,
    *,
    workers: int = 1,
    listen: str = f"{LOOPBACK}:0",
    tls: TlsFiles | None = None,
    upstream_port: int | None = None,
    waits: str = "15s",
) -> AsyncIterator[Gateway]:
    """Start the configuration in front of a pipeline that decides so, served by several workers.

    `upstream_port` is that of an upstream of the test's own; `waits` takes the place of brief waits.
    """
    pipeline = StubPipeline(decide)
    reports: list[str] = []
    received: list[Received] = []
    check = Check(pipeline, ResponseWriter(realm="test"), lambda *_: None, reports.append)
    transports = [H2cornTransport(listen, {SERVICE_PATH: check}, tls) for _ in range(workers)]
    for transport in transports:
        await transport.start()
        transport.set_serving(True)
    upstream = await asyncio.start_server(lambda reader, writer: _answer(reader, writer, received), LOOPBACK, 0)
    upstream_at = (LOOPBACK, upstream_port or upstream.sockets[0].getsockname()[1])
    text = with_endpoints(
        patient(config, waits),
        listeners={"gateway": (LOOPBACK, 0)},
        clusters=dict.fromkeys(_names_of_apis(config), upstream_at)
        | {"tallygate": [_where(transport) for transport in transports]},
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


def _names_of_apis(config: str) -> list[str]:
    names: list[str] = [cluster["name"] for cluster in parse(config)["static_resources"]["clusters"]]
    return [name for name in names if not name.startswith("tallygate")]


def _where(transport: H2cornTransport) -> Address:
    return (LOOPBACK, transport.port) if transport.port else Path(transport.address.removeprefix("unix:"))


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
