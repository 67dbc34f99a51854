"""The shadow's counts in Redis: a hash for each shadow beside each version, kept 90 days after the last it saw."""

from collections import Counter
from collections.abc import Awaitable
from typing import cast

from tallygate.insights.shadow import NAMED_IN_ALL, WHOLE, Counts, ShadowReport, report_of
from tallygate.storage.redis import RedisClient, answered

_PREFIX = "tg:v1:shadow:"
_KEPT_S = 90 * 86_400


class RedisShadowLedger:
    """Adds up in Redis, for every worker."""

    def __init__(self, client: RedisClient) -> None:
        """Use `client`, whose socket timeouts are the deadline."""
        self._client = client

    async def add(self, beside: str, shadow: str, counts: Counts) -> None:
        """Add a worker's counts in one transaction."""
        key = _key(beside, shadow)
        added = await self._to_add(key, {_field(whose): number for whose, number in counts.items()})
        async with self._client.pipeline(transaction=True) as pipeline:
            for field, number in added.items():
                pipeline.hincrby(key, field, number)
            pipeline.expire(key, _KEPT_S)
            await answered(pipeline.execute())

    async def _to_add(self, key: str, fields: dict[str, int]) -> dict[str, int]:
        """Leave out who is not named yet, once enough are: a report is read while Redis does nothing else."""
        if await answered(self._client.hlen(key)) < NAMED_IN_ALL:
            return fields
        found = await answered(cast("Awaitable[list[bytes | None]]", self._client.hmget(key, list(fields))))
        known = zip(fields.items(), found, strict=True)
        return {field: n for (field, n), held in known if held is not None or field.startswith(_field((WHOLE, "")))}

    async def report(self, beside: str, shadow: str, top: int = 20) -> ShadowReport:
        """Return what was counted for a shadow beside a version."""
        asked = self._client.hgetall(_key(beside, shadow))
        stored = await answered(cast("Awaitable[dict[bytes, bytes]]", asked))
        counts: Counts = Counter()
        for field, number in stored.items():
            subscription, _, reason = field.decode().partition("|")
            counts[subscription, reason] = int(number)
        return report_of(counts, top)

    async def forget(self, beside: str, shadow: str) -> None:
        """Begin the counts of a shadow beside a version afresh."""
        await answered(self._client.delete(_key(beside, shadow)))


def _field(whose: tuple[str, str]) -> str:
    return "|".join(whose)


def _key(beside: str, shadow: str) -> str:
    return f"{_PREFIX}{beside}|{shadow}"
