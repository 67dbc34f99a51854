"""What shadows have counted, for commands that ask once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tallygate.app.secret_settings import plain
from tallygate.insights.redis import RedisShadowLedger
from tallygate.insights.shadow import ShadowLedger
from tallygate.settings import Settings, require
from tallygate.storage import redis

_DEADLINE_S = 5.0  # of one call: whoever asks for a report waits longer than a request may


@asynccontextmanager
async def shadow_counts(values: Settings) -> AsyncIterator[ShadowLedger]:
    """Open the counts in Redis; raise InvalidSettingsError when its setting is missing."""
    require(values, "redis_url")
    client = redis.connect(plain(values.redis_url), deadline_s=_DEADLINE_S)
    try:
        yield RedisShadowLedger(client)
    finally:
        await client.aclose()
