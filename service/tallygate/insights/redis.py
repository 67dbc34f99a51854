"""The shadow's counts in Redis: one hash for each shadow, kept 90 days after the last request it saw."""

from collections import Counter
from collections.abc import Awaitable
from typing import cast

from tallygate.insights.shadow import ShadowReport, report_of
from tallygate.storage.redis import RedisClient, answered

_PREFIX = "tg:v1:shadow:"
_KEPT_S = 90 * 86_400


class RedisShadowLedger:
    """Adds up in Redis, for every worker."""

    def __init__(self, client: RedisClient) -> None:
        """Use `client`, whose socket timeouts are the deadline."""
        self._client = client

    async def add(self, counts: Counter[tuple[str, str, str]]) -> None:
        """Add a worker's counts in one transaction for each shadow."""
        for shadow in {shadow for shadow, _, _ in counts}:
            key = _PREFIX + shadow
            async with self._client.pipeline(transaction=True) as pipeline:
                for (name, subscription, reason), number in counts.items():
                    if name == shadow:
                        pipeline.hincrby(key, f"{subscription}|{reason}", number)
                pipeline.expire(key, _KEPT_S)
                await answered(pipeline.execute())

    async def report(self, shadow: str, top: int = 20) -> ShadowReport:
        """Return what was counted for a shadow."""
        stored = await answered(cast("Awaitable[dict[bytes, bytes]]", self._client.hgetall(_PREFIX + shadow)))
        counts = {}
        for field, number in stored.items():
            subscription, _, reason = field.decode().partition("|")
            counts[subscription, reason] = int(number)
        return report_of(shadow, counts, top)

    async def forget(self, shadow: str) -> None:
        """Begin the counts of a shadow afresh."""
        await answered(self._client.delete(_PREFIX + shadow))
