"""`tallygate serve` with several workers, as a process: its pages, its workers, questions put to each of them."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from tallygate._proto.envoy.v3.external_auth_pb2 import CheckRequest
from tallygate.devservers.ports import LOOPBACK, free_ports
from tallygate.devservers.process import Child, Program, running
from tallygate.envoy.check import SERVICE_PATH

PEPPER = "a pepper of tests, long enough to be one"
UNASKED = 'tallygate_checks_total{decision="deny",plan="",reason="credential_missing"}'


@dataclass
class Supervised:
    """A running service: its supervisor, and a client of its pages."""

    child: Child
    http: httpx.AsyncClient
    directory: Path

    async def workers(self) -> list[dict[str, Any]]:
        """Return what `/readyz` says of each worker."""
        return list((await self.http.get("/readyz")).json()["workers"])

    async def pids(self) -> list[int]:
        """Return the process of each worker, all of which are there."""
        return [int(worker["pid"]) for worker in await self.workers()]

    async def endpoints(self) -> list[str]:
        """Return where each worker listens."""
        return [str(worker["endpoint"]) for worker in await self.workers()]

    async def until_ready(self, other_than: set[int] | None = None) -> None:
        """Wait until every worker is ready, and none is one of these processes."""

        async def is_ready() -> bool:
            return all(
                worker["state"] == "ready" and worker["pid"] not in (other_than or set())
                for worker in await self.workers()
            )

        await self.child.until_ready(is_ready, 60)

    async def metrics(self) -> dict[str, float]:
        """Return every sample by its name with labels."""
        text = (await self.http.get("/metrics")).text
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of the log; each must be a JSON object of its own."""
        return [json.loads(line) for line in self.child.program.log_path.read_text().splitlines()]


@asynccontextmanager
async def supervised(directory: Path, dsn: str, redis_url: str, **settings: object) -> AsyncIterator[Supervised]:
    """Run `serve` until all workers are ready; two of them, with an endpoint each, unless told otherwise."""
    first = free_ports(5)
    metrics = f"{LOOPBACK}:{first + 4}"
    named = {
        "postgres_dsn": dsn,
        "redis_url": redis_url,
        "pepper": PEPPER,
        "listen": f"{LOOPBACK}:{first}",
        "metrics_listen": metrics,
        "services_listen": "off",
        "drain_s": 0,
        "workers": 2,
    } | settings
    config = directory / "serve.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in named.items()))
    command = (sys.executable, "-m", "tallygate", "--config", str(config), "serve")
    program = Program("tallygate serve", command, directory, directory / "serve.log")

    async def is_ready(_child: Child) -> bool:
        try:
            answer = await http.get("/readyz")
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK and not answer.json()["waiting_for"]

    async with (
        httpx.AsyncClient(base_url=f"http://{metrics}", timeout=20, trust_env=False) as http,
        running(program, is_ready, start_deadline_s=60, stop_deadline_s=60) as child,
    ):
        yield Supervised(child, http, directory)


async def ask(endpoint: str, times: int = 1) -> None:
    """Ask a worker so often about a request without a credential, over a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(endpoint, options=options) as channel:
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SERVICE_PATH)
        for _ in range(times):
            await check(_question(), timeout=20, wait_for_ready=True)


def _question() -> bytes:
    asked = CheckRequest()
    asked.attributes.request.http.method = "GET"
    asked.attributes.request.http.path = "/v1/things"
    return asked.SerializeToString()
