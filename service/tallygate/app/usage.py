"""Reading usage: the ledger in Postgres, and what Redis holds that is not in it yet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tallygate.app.secret_settings import plain
from tallygate.settings import Settings, require
from tallygate.storage import postgres
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link
from tallygate.usage.reading import UsageReader
from tallygate.usage.reconcile import Reconciler
from tallygate.usage.redis_live import RedisLiveBuckets

_DEADLINE_S = 1.0  # of one call: whoever asks how much was used waits longer than a request may
_PAGE_S = 30.0


@asynccontextmanager
async def live_buckets(values: Settings) -> AsyncIterator[RedisLiveBuckets]:
    """Open a way of its own to what Redis holds: questions are long, and hold up no call of the limiter."""
    links = link(plain(values.redis_url), LinkTerms(deadline_s=_DEADLINE_S))
    try:
        yield RedisLiveBuckets(links)
    finally:
        await links.close()


@asynccontextmanager
async def usage_reader(values: Settings) -> AsyncIterator[UsageReader]:
    """Open the reader for a command; raise InvalidSettingsError when its settings are missing."""
    async with _both(values) as (pool, live):
        yield UsageReader(pool, live, deadline_s=_PAGE_S)


@asynccontextmanager
async def reconciler(values: Settings) -> AsyncIterator[Reconciler]:
    """Open what compares counters and ledger for a command; raise InvalidSettingsError as above."""
    async with _both(values) as (pool, live):
        yield Reconciler(pool, live, deadline_s=_PAGE_S)


@asynccontextmanager
async def _both(values: Settings) -> AsyncIterator[tuple[postgres.Pool, RedisLiveBuckets]]:
    require(values, "postgres_dsn", "redis_url")
    pool = await postgres.create_pool(
        plain(values.postgres_dsn), min_size=0, max_size=1, command_timeout_s=_PAGE_S, application_name="tallygate"
    )
    try:
        async with live_buckets(values) as live:
            yield pool, live
    finally:
        await postgres.close_pool(pool)
