"""A real Envoy with the shipped access log, between a caller and an upstream, over everything in memory.

Licenses, counters and time are a `Desk`'s; Check and the services are served as `serve` serves them. A test waits until
outcomes have been counted, not for time to pass.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from support.gateway import ACCESS_LOG
from support.pipelines import TOKEN, Desk
from support.told import KEY, Told, told

from tallygate.devservers.envoy import EmbeddedEnvoy
from tallygate.devservers.envoy_config import SocketAddress, with_endpoints
from tallygate.devservers.ports import LOOPBACK
from tallygate.envoy.check import SERVICE_PATH, Check
from tallygate.envoy.responses import ResponseWriter
from tallygate.transport.h2corn import H2cornTransport

_DEADLINE_S = 60.0
_PATIENT = {"timeout: 0.2s": "timeout: 15s", "buffer_flush_interval: 1s": "buffer_flush_interval: 0.02s"}


@dataclass
class Ended:
    """The running system."""

    told: Told
    address: str
    http: httpx.AsyncClient

    async def ask(self, path: str = "/v1/things", method: str = "GET", **headers: str) -> httpx.Response:
        """Ask through Envoy; underscores in the names of `headers` are hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        bearer = {"authorization": f"Bearer {TOKEN.text}"}
        return await self.http.request(method, f"http://{self.address}{path}", headers=bearer | named)

    async def outcomes(self, result: str, number: int = 1) -> None:
        """Wait until so many outcomes have come to this."""
        async with asyncio.timeout(_DEADLINE_S):
            while self.told.counted("tallygate_outcomes_total", result) < number:
                self.told.changed.clear()
                await self.told.changed.wait()

    def all_outcomes(self) -> dict[str, float]:
        """Return how many outcomes have come to what."""
        results = ("settled", "refunded", "repeated", "unknown", "none", "dropped")
        counted = {result: self.told.counted("tallygate_outcomes_total", result) for result in results}
        return {result: number for result, number in counted.items() if number}


@asynccontextmanager
async def ended(desk: Desk, run_dir: Path, upstream: SocketAddress, config: str = ACCESS_LOG) -> AsyncIterator[Ended]:
    """Run Envoy with the access log in front of an upstream."""
    reports: list[str] = []
    check = Check(desk.pipeline, ResponseWriter(realm="test"), lambda *_: None, reports.append)
    transport = H2cornTransport(f"{LOOPBACK}:0", {SERVICE_PATH: check})
    await transport.start()
    transport.set_serving(True)
    for before, after in {**_PATIENT, "CHANGE-THIS-KEY": KEY}.items():
        assert before in config
        config = config.replace(before, after)
    try:
        async with told(desk) as caller, httpx.AsyncClient(timeout=_DEADLINE_S, trust_env=False) as http:
            text = with_endpoints(
                config,
                listeners={"gateway": (LOOPBACK, 0)},
                clusters={
                    "tallygate": (LOOPBACK, transport.port),
                    "tallygate-services": (LOOPBACK, caller.served.server.port),
                    "upstream": upstream,
                },
            )
            async with EmbeddedEnvoy(text, run_dir=run_dir, concurrency=1) as envoy:
                yield Ended(caller, f"{LOOPBACK}:{envoy.port('gateway')}", http)
    finally:
        await transport.stop(0)
    assert reports == []
