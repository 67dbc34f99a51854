"""Losing Redis or Postgres: what each plan says happens, a metric shows it, and it mends itself.

The servers are paused, not killed: a dependency that hangs is worse than one that is gone.
"""

from collections.abc import Callable

import pytest
from support.processes import paused
from support.world import World

from tallygate.tokens.format import Environment, TokenFormat
from tallygate.tokens.mint import mint


async def metric_is(world: World, name: str, is_so: Callable[[float], bool]) -> None:
    """Scrape until a sample is as expected."""

    async def ask() -> str:
        return "so" if is_so((await world.metrics()).get(name, 0)) else "not so"

    await world.until("so", ask)


def up(dependency: str) -> str:
    """Return the name of a dependency's gauge."""
    return f'tallygate_dependency_up{{dependency="{dependency}"}}'


def degraded(policy: str) -> str:
    """Return the name of a fail policy's counter."""
    return f'tallygate_degraded_decisions_total{{policy="{policy}"}}'


async def test_without_redis_each_plan_does_what_it_says(world: World) -> None:
    """Closed refuses with 503, open lets through, local counts here; all of it shows, and ends with the outage."""
    closed, opened, local = [await world.account(plan) for plan in ("closed", "opened", "local")]
    assert [await world.seen(account.secret) for account in (closed, opened, local)] == ["200"] * 3
    before = await world.metrics()
    with paused(world.system.data_dir / "valkey"):
        await world.until("503 dependency_down", lambda: world.seen(closed.secret))
        assert (await world.get(closed.secret)).headers["retry-after"] == "1"
        assert {await world.seen(opened.secret) for _ in range(5)} == {"200"}
        seen = [await world.seen(local.secret) for _ in range(5)]
        assert seen == ["200"] * 3 + ["402 credits_exhausted"] * 2
        assert await world.seen(closed.secret, "/v2") == "403 route_denied"
        await metric_is(world, up("redis"), lambda value: value == 0)
        during = await world.metrics()
        assert during[up("postgres")] == 1
    counted = {policy: during[degraded(policy)] - before.get(degraded(policy), 0) for policy in ("open", "local")}
    assert counted == {"open": 5, "local": 5}
    assert during[degraded("closed")] >= 2
    await world.until("200", lambda: world.seen(closed.secret))
    await metric_is(world, up("redis"), lambda value: value == 1)


@pytest.mark.timeout(180)
async def test_without_postgres_known_tokens_work_and_others_wait(world: World) -> None:
    """Who was served is served; who is not known yet is told 503, not 401; afterwards everything is heard again."""
    known, unheard = await world.account("open"), await world.account("open")
    assert await world.seen(known.secret) == "200"
    with paused(world.system.data_dir / "postgres"):
        await world.until("503 dependency_down", lambda: world.seen(unheard.secret))
        assert {await world.seen(known.secret) for _ in range(50)} == {"200"}
        await metric_is(world, up("postgres"), lambda value: value == 0)
        assert (await world.metrics())[up("redis")] == 1
        assert (await world.http.get(world.system.metrics_url.replace("/metrics", "/readyz"))).status_code == 200
    await world.until("200", lambda: world.seen(unheard.secret))
    invented = mint(TokenFormat(), Environment.LIVE).text
    await world.until("401 token_unknown", lambda: world.seen(invented))
    await metric_is(world, up("postgres"), lambda value: value == 1)
    await world.system.control.tokens.revoke(known.issued.record.id)
    await world.until("401 token_unknown", lambda: world.seen(known.secret))
