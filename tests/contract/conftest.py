"""Adapters under test: the limiters of both, by turns."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from support.counting import Counting, MemoryCounting, RedisCounting


@pytest.fixture(params=["memory", "redis"])
async def counting(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Counting]:
    """Return each adapter in turn, empty, at `START_AT`."""
    if request.param == "memory":
        yield MemoryCounting()
        return
    client = Redis.from_url(redis_url)
    redis = RedisCounting(client)
    await redis.start()
    yield redis
    await client.aclose()
