"""What was charged ahead and never settled: given back once its time is over, where the meter says so.

Owns finding those receipts, by slot, and the one amendment of each. Does not own when a receipt is over, nor what it
gives back (`limits.receipt`). Exactly once, whoever else is at it: an amendment is done once or not at all.

Failure: LimiterUnavailableError when Redis is away; the rest is given back in the next round. A receipt that it refuses
to give back (its bytes, or those of a counter, are not ours) keeps back no other: it is said, and tried each round
until it expires.
"""

import asyncio
from itertools import starmap

import structlog

from tallygate.core.errors import LimiterUnavailableError
from tallygate.limits import keys
from tallygate.limits.limiter import Limiter
from tallygate.limits.receipt import expiry
from tallygate.storage.redis_topology import RedisLinks
from tallygate.usage.redis_calls import AT_ONCE, Call, RedisCalls, tag_of

_PAGE = 100
_log = structlog.get_logger("tallygate.usage")


class Expiry:
    """Gives back what is due."""

    def __init__(self, links: RedisLinks, limiter: Limiter) -> None:
        """Find receipts through `links`, and amend them through `limiter`."""
        self._calls = RedisCalls(links)
        self._limiter = limiter
        self._problem = ""

    async def round(self, now_us: int) -> int:
        """Give back every receipt whose time is over at `now_us` of Redis's clock; return how many there were."""
        due_keys, given_back, left = keys.due_keys(), 0, 0
        for at in range(0, len(due_keys), AT_ONCE):
            # What could not be given back stays, before all that was not looked at: so many are passed over.
            waiting = dict.fromkeys(due_keys[at : at + AT_ONCE], 0)
            while waiting:
                pages = await self._calls.each(list(waiting.items()), lambda one: _due(*one, now_us // 1000))
                due = [(key, member.decode()) for key, page in zip(waiting, pages, strict=True) for member in page]
                for some in range(0, len(due), AT_ONCE):
                    done = await asyncio.gather(*starmap(self._give_back, due[some : some + AT_ONCE]))
                    given_back += done.count(True)
                    left += done.count(None)
                    for (key, _), result in zip(due[some : some + AT_ONCE], done, strict=True):
                        waiting[key] += result is None
                waiting = {key: waiting[key] for key, page in zip(waiting, pages, strict=True) if len(page) == _PAGE}
        if left:
            _log.error("charges cannot be given back", receipts=left, problem=self._problem)
        return given_back

    async def _give_back(self, key: str, member: str) -> bool | None:
        """Give one back, and return whether there was anything to; None if that cannot be done now."""
        customer, _, receipt_id = member.partition(":")
        try:
            receipt = await self._limiter.receipt(customer, receipt_id)
            if receipt is not None:
                await self._limiter.amend(expiry(receipt))
        except (LimiterUnavailableError, ValueError) as error:
            self._problem = f"{member}: {error}"
            return None
        # The amendment removes what it settles; what is there without a receipt was settled, or came too late.
        await self._calls.one(Call(tag_of(key), ("ZREM", key, member)))
        return receipt is not None


def _due(key: str, first: int, now_ms: int) -> Call:
    return Call(tag_of(key), ("ZRANGE", key, "-inf", now_ms, "BYSCORE", "LIMIT", first, _PAGE))
