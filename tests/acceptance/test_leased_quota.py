"""Leases, end to end: workers that decide from memory admit the amount together, and shut down owing nothing."""

import asyncio
from collections import Counter
from pathlib import Path

import httpx
from support.gateway import HARDENED
from support.world import World

from tallygate.cli.system import running_system
from tallygate.devservers.ports import LOOPBACK, free_ports
from tallygate.plans.parse import parse

_QUOTA, _CLIENTS, _WORKERS = 20_000, 64, 2
_PATIENCE = "60s"
_PLANS = f"""
routes: [{{match: "* /v1/**"}}]
plans:
  - key: large
    limits: [{{name: monthly, quota: {_QUOTA}, period: billing, exactness: leased}}]
"""
_REFUSED = "429 quota_exceeded"


async def _is_settled(world: World) -> bool:
    """Say whether something was taken ahead, and all of that was spent or returned."""
    metrics = await world.metrics()
    granted, spent, returned = (
        metrics.get(f'tallygate_leased_requests_total{{result="{result}"}}', 0)
        for result in ("granted", "spent", "returned")
    )
    return spent > 0 and granted == spent + returned


async def test_workers_that_lease_admit_a_quota_to_the_unit(data_dir: Path) -> None:
    """Two processes decide most of it in memory and admit 20,000 in the end, not one more; what they held came back."""
    settings = {
        "WORKERS": str(_WORKERS),
        "LISTEN": f"{LOOPBACK}:{free_ports(_WORKERS)}",
        "LIMITER_TIMEOUT_S": _PATIENCE.rstrip("s"),
    }
    async with (
        running_system(
            data_dir / "leased",
            parse(_PLANS, "leased.yaml"),
            settings=settings,
            envoy_config=HARDENED.replace("0.2s", _PATIENCE),
        ) as system,
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
    ):
        world = World(system, http)
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
