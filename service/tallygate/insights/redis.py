"""What all workers have learnt of requests, in Redis: what shadows would have refused, and who is busy.

A hash for each shadow beside each version, kept 90 days after the last it saw; the ranks of customers, for a day.
"""

from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import cast

from tallygate.insights.shadow import NAMED_IN_ALL, WHOLE, Counts, ShadowReport, report_of
from tallygate.storage.redis import RedisClient, answered

_PREFIX = "tg:v1:shadow:"
_KEPT_S = 90 * 86_400
_RANKS = [f"tg:v1:{{customers}}:{part}" for part in ("requests", "named", "halved")]
_HALVED_S, _RANKS_KEPT_S = 600, 86_400
_RANK_LUA = """
local requests, named, most = KEYS[1], KEYS[2], tonumber(ARGV[1])
if redis.call('SET', KEYS[3], '1', 'NX', 'EX', ARGV[2]) then
  redis.call('ZUNIONSTORE', requests, 1, requests, 'WEIGHTS', 0.5)
end
for i = 4, #ARGV, 2 do redis.call('ZINCRBY', requests, ARGV[i + 1], ARGV[i]) end
redis.call('ZREMRANGEBYRANK', requests, 0, -10 * most - 1)

local held, is_held = {}, {}
for _, customer in ipairs(redis.call('SMEMBERS', named)) do
  held[#held + 1] = {customer, tonumber(redis.call('ZSCORE', requests, customer) or 0)}
  is_held[customer] = true
end
table.sort(held, function(one, other) return one[2] < other[2] end)
local idlest, free = 1, most - #held
local function take_from_idlest()
  redis.call('SREM', named, held[idlest][1])
  idlest, free = idlest + 1, free + 1
end
while free < 0 do take_from_idlest() end

local busiest = redis.call('ZREVRANGE', requests, 0, most - 1, 'WITHSCORES')
for i = 1, #busiest, 2 do
  if not is_held[busiest[i]] then
    if free == 0 and held[idlest] and tonumber(busiest[i + 1]) > 2 * held[idlest][2] then take_from_idlest() end
    if free == 0 then break end
    redis.call('SADD', named, busiest[i])
    free = free - 1
  end
end
for _, key in ipairs({requests, named}) do redis.call('EXPIRE', key, ARGV[3]) end
return redis.call('SMEMBERS', named)
"""


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


class RedisCustomerRanks:
    """Ranks customers by their requests, in one step."""

    def __init__(self, client: RedisClient) -> None:
        """Use `client`, whose socket timeouts are the deadline."""
        self._client = client

    async def rank(self, requests: Mapping[str, int], most: int) -> frozenset[str]:
        """Add requests by customer and return who is named."""
        told = [str(each) for pair in requests.items() for each in pair]
        asked = self._client.eval(_RANK_LUA, len(_RANKS), *_RANKS, str(most), str(_HALVED_S), str(_RANKS_KEPT_S), *told)
        named = await answered(cast("Awaitable[list[bytes]]", asked))
        return frozenset(customer.decode() for customer in named)


def _field(whose: tuple[str, str]) -> str:
    return "|".join(whose)


def _key(beside: str, shadow: str) -> str:
    return f"{_PREFIX}{beside}|{shadow}"
