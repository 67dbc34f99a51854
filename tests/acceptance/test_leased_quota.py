"""Leases, end to end: workers that decide from memory admit the amount together, and owe nothing when they end."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from support.gateway import HARDENED, WORKER_ENDPOINTS
from support.world import Account, World

from tallygate.app.usage import reconciler
from tallygate.cli.system import running_system
from tallygate.devservers.ports import LOOPBACK, free_ports
from tallygate.plans.parse import parse
from tallygate.settings import PREFIX, load

_QUOTA, _CLIENTS, _WORKERS, _KILLS = 13_000, 64, 2, 3
_PATIENCE = "60s"
_PLANS = f"""
routes: [{{match: "* /v1/**"}}]
plans:
  - key: large
    limits: [{{name: monthly, quota: {_QUOTA}, period: billing, exactness: leased}}]
"""
_REFUSED = "429 quota_exceeded"


@asynccontextmanager
async def leasing(directory: Path, config: str) -> AsyncIterator[World]:
    """Run workers that lease behind this configuration, with deadlines no machine is too slow for."""
    settings = {
        "WORKERS": str(_WORKERS),
        "LISTEN": f"{LOOPBACK}:{free_ports(_WORKERS)}",
        "LIMITER_TIMEOUT_S": _PATIENCE.rstrip("s"),
    }
    patient = config.replace("0.2s", _PATIENCE)
    plans = parse(_PLANS, "leased.yaml")
    async with (
        running_system(directory, plans, settings=settings, envoy_config=patient) as system,
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
    ):
        yield World(system, http)


async def _is_settled(world: World) -> bool:
    """Say whether something was taken ahead, and all of that was spent or returned."""
    metrics = await world.metrics()
    granted, spent, returned = (
        metrics.get(f'tallygate_leased_requests_total{{result="{result}"}}', 0)
        for result in ("granted", "spent", "returned")
    )
    return spent > 0 and granted == spent + returned


async def _counted(world: World, account: Account) -> tuple[int, int]:
    """Return the requests that the quota's counter has, and the ledger."""
    values = load({PREFIX + name: value for name, value in world.system.environment.items()}).values
    async with reconciler(values) as both:
        (monthly,) = await world.system.control.usage.reconcile(account.customer.id, reconciler=both)
    assert monthly.ledger is not None, monthly.why_not
    return monthly.counter, monthly.ledger


async def _ready(world: World) -> list[int]:
    """Return the processes of the workers that are ready."""
    page = (await world.http.get(world.system.metrics_url.replace("/metrics", "/readyz"))).json()
    return [worker["pid"] for worker in page["workers"] if worker["state"] == "ready"]


async def _kill_one(world: World, secret: str) -> Counter[str]:
    """Kill a worker after some requests and wait for the one that takes its place; return their answers."""
    answers = await world.hammer(secret, 300, 4)
    killed = max(await _ready(world))
    os.kill(killed, signal.SIGKILL)
    async with asyncio.timeout(60):
        while len(now := await _ready(world)) < _WORKERS or killed in now:
            pass
    return answers


async def test_workers_that_lease_admit_a_quota_to_the_unit(data_dir: Path) -> None:
    """Two processes decide most of it in memory and admit the quota, not one more; what they held came back."""
    async with leasing(data_dir / "leased", HARDENED) as world:
        secret = (await world.account("large")).secret
        answers: Counter[str] = await world.hammer(secret, _QUOTA - 5_000, _CLIENTS)
        assert answers == {"200": _QUOTA - 5_000}
        async with asyncio.timeout(90):
            while answers["200"] < _QUOTA:  # what a worker still holds is had from it, or back within a second
                answers += await world.hammer(secret, 500, _CLIENTS)
            while not await _is_settled(world):
                pass
        answers += await world.hammer(secret, 500, _CLIENTS)
        assert answers["200"] == _QUOTA
        assert set(answers) == {"200", _REFUSED}
        assert await world.left(secret) == {"monthly": 0}


async def test_killed_workers_owe_nothing(data_dir: Path) -> None:
    """SIGKILL under load, again and again: what was spent is in the ledger within seconds, the rest is there again.

    Counter and ledger have what clients saw, and beyond that at most the requests under way when a worker died, which
    another decided again.
    """
    async with leasing(data_dir / "killed", WORKER_ENDPOINTS) as world:
        account = await world.account("large")
        answers: Counter[str] = await world.hammer(account.secret, 1_000, _CLIENTS)
        for _ in range(_KILLS):
            load_on = asyncio.ensure_future(world.hammer(account.secret, 3_000, _CLIENTS))
            answers += await _kill_one(world, account.secret)
            answers += await load_on
        assert set(answers) == {"200"}
        async with asyncio.timeout(30):
            while len(set(seen := await _counted(world, account))) > 1:
                pass
        assert answers["200"] <= seen[0] <= answers["200"] + _KILLS * (_CLIENTS + 4)
        async with asyncio.timeout(90):
            while seen != (_QUOTA, _QUOTA):
                answers += await world.hammer(account.secret, 500, _CLIENTS)
                seen = await _counted(world, account)
        assert answers["200"] <= _QUOTA
        assert set(answers) == {"200", _REFUSED}
