"""Several worker processes behind a real Envoy: exact together, and no request is lost when one of them goes."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from support.gateway import HARDENED, SHARED_LISTENER, WORKER_ENDPOINTS
from support.processes import parent_of
from support.world import World, plans

from tallygate.cli.system import running_system
from tallygate.devservers.ports import LOOPBACK, free_ports

_PATIENCE = "60s"
_OK = 'tallygate_checks_total{decision="allow",plan="open",reason="ok"}'
_QUOTA, _REQUESTS, _CLIENTS = 5_000, 12_000, 64


@asynccontextmanager
async def crowd(directory: Path, config: str, workers: int, endpoints: str = "each") -> AsyncIterator[World]:
    """Run a system of so many workers behind this configuration, with deadlines no machine is too slow for."""
    patient = config.replace("0.2s", _PATIENCE)
    assert patient != config
    settings = {
        "WORKERS": str(workers),
        "WORKER_ENDPOINTS": endpoints,
        "LISTEN": f"{LOOPBACK}:{free_ports(workers)}",
        "LIMITER_TIMEOUT_S": _PATIENCE.rstrip("s"),
        "DRAIN_S": "1.5",
    }
    async with (
        running_system(directory, plans(), settings=settings, envoy_config=patient) as system,
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
    ):
        world = World(system, http)
        await until_ready(world)
        yield world


@pytest.fixture(params=["each", "shared"])
async def three(request: pytest.FixtureRequest, data_dir: Path) -> AsyncIterator[World]:
    """Three workers with an endpoint each, then three behind one address."""
    config = WORKER_ENDPOINTS if request.param == "each" else SHARED_LISTENER
    async with crowd(data_dir / "three", config, 3, request.param) as world:
        yield world


async def pids(world: World) -> list[int]:
    """Return the process of each worker that is ready, 0 for one that is not."""
    page = (await world.http.get(world.system.metrics_url.replace("/metrics", "/readyz"))).json()
    return [worker["pid"] if worker["state"] == "ready" else 0 for worker in page["workers"]]


async def until_ready(world: World, other_than: set[int] | None = None) -> None:
    """Wait until every worker is ready and none is one of these processes."""
    async with asyncio.timeout(60):
        while set(await pids(world)) & {0, *(other_than or set())}:
            pass


async def asked_throughout(world: World, secret: str, act: Callable[[], Awaitable[None]]) -> Counter[str]:
    """Send requests without a pause until `act` is done and a while longer; return what came back."""
    acting = asyncio.ensure_future(act())
    answers: Counter[str] = Counter()
    seen: dict[str, float] = {}
    while not acting.done():
        answers += await world.hammer(secret, 400, 16)
        now = await world.metrics()
        growing = {name: value for name, value in now.items() if name.partition("{")[0].endswith(_GROWING)}
        assert [name for name in seen if growing.get(name, -1) < seen[name]] == [], "a counter went backwards"
        seen = growing
    await acting
    return answers + await world.hammer(secret, 400, 16)


_GROWING = ("_total", "_bucket", "_count", "_sum")


async def test_four_workers_admit_a_quota_to_the_unit(data_dir: Path) -> None:
    """Four processes that know nothing of each other admit exactly the limit of 5,000, whoever is asked."""
    async with crowd(data_dir / "four", HARDENED, 4) as world:
        account = await world.account("large")
        answers = await world.hammer(account.secret, _REQUESTS, _CLIENTS)
        assert answers == {"200": _QUOTA, "429 quota_exceeded": _REQUESTS - _QUOTA}
        assert await world.left(account.secret) == {"monthly": 0}
        assert (await world.metrics())["tallygate_check_duration_seconds_count"] >= _REQUESTS


async def test_a_killed_worker_loses_no_request(three: World) -> None:
    """SIGKILL under load: every request is answered, the worker is back, and no counter went backwards."""
    account = await three.account("open")

    async def kill_one() -> None:
        killed = (await pids(three))[1]
        os.kill(killed, signal.SIGKILL)
        await until_ready(three, {killed})

    answers = await asked_throughout(three, account.secret, kill_one)
    assert set(answers) == {"200"}
    assert (await three.metrics())["tallygate_worker_restarts_total"] == 1


async def test_a_rolling_restart_loses_no_request(three: World) -> None:
    """SIGHUP under load: every process is another, every request was answered, and each was counted."""
    account = await three.account("open")

    async def roll() -> None:
        before = set(await pids(three))
        os.kill(parent_of(min(before)), signal.SIGHUP)
        await until_ready(three, before)

    answers = await asked_throughout(three, account.secret, roll)
    assert set(answers) == {"200"}
    metrics = await three.metrics()
    assert metrics[_OK] >= answers.total()
    log = three.system.data_dir / "logs" / "serve.log"
    assert metrics["tallygate_worker_restarts_total"] == 0, log.read_text()
