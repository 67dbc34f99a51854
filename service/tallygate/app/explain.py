"""`explain`: one decision, looked at."""

from tallygate.app.pipeline import explained
from tallygate.app.secret_settings import plain
from tallygate.core.clock import SystemClock
from tallygate.decision.decision import CheckInput, Decision
from tallygate.licenses.postgres import PostgresLicenseStore
from tallygate.limits.redis import RedisLimiter
from tallygate.settings import Settings, require
from tallygate.storage import postgres
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link

_DEADLINE_S = 5.0  # of one read: whoever asks why waits longer than a request may


async def explain(values: Settings, asked: CheckInput) -> Decision:
    """Decide a request as `serve` would, looking at the counters instead of consuming."""
    require(values, "postgres_dsn", "redis_url", "pepper")
    clock = SystemClock()
    pool = await postgres.create_pool(plain(values.postgres_dsn), min_size=0, max_size=1)
    limiter = RedisLimiter(link(plain(values.redis_url), LinkTerms(deadline_s=_DEADLINE_S)))
    try:
        store = PostgresLicenseStore(pool, deadline_s=_DEADLINE_S)
        return await explained(values, clock, store, limiter, asked)
    finally:
        await limiter.close()
        await postgres.close_pool(pool)
