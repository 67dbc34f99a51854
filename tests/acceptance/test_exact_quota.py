"""Exactness: with any number of callers at once a limit admits its amount, not one more and not one less."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.gateway import HARDENED
from support.world import World, plans

from tallygate.cli.system import running_system

_QUOTA, _REQUESTS, _CLIENTS = 5_000, 20_000, 64
_PATIENCE = "60s"


@pytest.fixture
async def patient_world(servers_dir: Path) -> AsyncIterator[World]:
    """Return a system whose deadlines no machine is too slow for: what is asked here is no matter of speed."""
    config = HARDENED.replace("0.2s", _PATIENCE)
    assert config.count(_PATIENCE) > HARDENED.count(_PATIENCE)
    settings = {"LIMITER_TIMEOUT_S": _PATIENCE.rstrip("s")}
    async with (
        running_system(servers_dir / "patient", plans(), settings=settings, envoy_config=config) as system,
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
    ):
        yield World(system, http)


async def test_20_000_requests_of_64_clients_on_a_quota_of_5_000_give_exactly_5_000(patient_world: World) -> None:
    """Demand above the limit is admitted to the unit, and everybody else is told 429."""
    account = await patient_world.account("large")
    answers = await patient_world.hammer(account.secret, _REQUESTS, _CLIENTS)
    assert answers == {"200": _QUOTA, "429 quota_exceeded": _REQUESTS - _QUOTA}
    assert await patient_world.left(account.secret) == {"monthly": 0}
