"""Adapters under test, by turns: of the limiter and of the transport."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from support.counting import Counting, MemoryCounting, RedisCounting
from support.transports import ADAPTERS, Serve, Things

from tallygate.transport.adapters import Adapter


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
    await redis.close()


@pytest.fixture(params=list(ADAPTERS))
def adapter(request: pytest.FixtureRequest) -> str:
    """Return the name of each transport in turn."""
    name: str = request.param
    return name


@pytest.fixture
def make(adapter: str) -> Adapter:
    """Return how to build a transport."""
    return ADAPTERS[adapter]


@pytest.fixture
def things() -> Things:
    """Return fresh handlers."""
    return Things()


@pytest.fixture
def serve(make: Adapter, things: Things) -> Serve:
    """Return how to serve these handlers."""
    return Serve(make, things)
