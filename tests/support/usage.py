"""Buckets of usage of both adapters under one interface, whose time the test moves; and ledgers, laid open.

Fields are written as the limiter's scripts do, so that unreadable ones can be, too.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from redis.asyncio import Redis
from support.counting import CLOCK_KEY, scripted_clock, url_of

from tallygate.core.clock import ManualClock
from tallygate.limits import keys
from tallygate.limits.algorithms import microseconds
from tallygate.limits.keys import Owner, usage_field
from tallygate.storage.postgres import Pool
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link
from tallygate.usage.buckets import UsageBuckets
from tallygate.usage.entry import UsageEntry
from tallygate.usage.memory import MemoryUsageBuckets
from tallygate.usage.redis import RedisUsageBuckets, UsageScripts

START_AT = datetime(2096, 11, 30, 23, 58, 20, tzinfo=UTC)
SCRIPTS = UsageScripts()
OWNER = Owner("sub_1", "pro@3", "fam_1")
FIELD = usage_field(OWNER, "requests", keys.ALLOWED, "GET /v1/things")
COLUMNS = (
    *("customer_id", "subscription_id", "family_id", "plan", "meter", "route"),
    *("outcome", "entry", "minute_at", "quantity"),
)
ENTRIES = "SELECT * FROM usage_entries ORDER BY id"


class BucketsAt(Protocol):
    """Buckets, a way to count in them, and their time."""

    buckets: UsageBuckets
    clock: ManualClock

    async def count(self, customer: str, units: int = 1, field: str | bytes = FIELD) -> None:
        """Count in the present minute."""
        ...

    async def advance(self, seconds: float) -> None:
        """Let time pass; below 0 the clock steps back."""
        ...

    async def aside(self) -> dict[bytes, bytes]:
        """Return every field that was kept aside."""
        ...


class MemoryBucketsAt:
    """Buckets in memory."""

    def __init__(self) -> None:
        """Begin empty, at `START_AT`."""
        self.clock = ManualClock(START_AT)
        self.memory = MemoryUsageBuckets(self.clock)
        self.buckets: UsageBuckets = self.memory

    async def count(self, customer: str, units: int = 1, field: str | bytes = FIELD) -> None:
        """Count in the present minute."""
        self.memory.count(customer, field if isinstance(field, bytes) else field.encode(), units)

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    async def aside(self) -> dict[bytes, bytes]:
        """Return every field that was kept aside."""
        return {field: value for fields in self.memory.aside.values() for field, value in fields.items()}


class RedisBucketsAt:
    """Buckets in Redis, by the shipped scripts but for their clock."""

    def __init__(self, client: Redis, url: str | None = None) -> None:
        """Use an empty Redis; `client` counts in it."""
        self.client = client
        self.clock = ManualClock(START_AT)
        self.links = link(url or url_of(client), LinkTerms(deadline_s=30, max_in_flight=4096))
        scripts = UsageScripts(now=scripted_clock(SCRIPTS.now), seal=scripted_clock(SCRIPTS.seal))
        self.buckets: UsageBuckets = RedisUsageBuckets(self.links, scripts)

    async def start(self) -> None:
        """Set the clock that the scripts read."""
        await self.advance(0)

    async def count(self, customer: str, units: int = 1, field: str | bytes = FIELD) -> None:
        """Count in the present minute."""
        now_us = microseconds(self.clock.now())
        minute = now_us // 60_000_000
        bucket = keys.usage_bucket(customer, minute)
        async with self.client.pipeline() as step:
            step.hincrby(bucket, field, units)
            step.hsetnx(bucket, keys.OPENED_FIELD, str(now_us))
            step.expireat(bucket, minute * 60 + 604_800)
            step.sadd(keys.index_key(customer), keys.index_member(customer, minute))
            await step.execute()

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        now_us = microseconds(self.clock.now())
        times: dict[Any, Any] = {"s": now_us // 1_000_000, "us": now_us % 1_000_000}
        await self.client.hset(CLOCK_KEY, mapping=times)

    async def aside(self) -> dict[bytes, bytes]:
        """Return every field that was kept aside; it stays there."""
        found: dict[bytes, bytes] = {}
        for key in await self.client.keys("*:aside:*"):
            assert await self.client.ttl(key) == -1
            fields = cast("dict[bytes, bytes]", await self.client.hgetall(key))
            found |= fields
        return found

    async def close(self) -> None:
        """Hang up."""
        await self.links.close()


async def entries_of(pool: Pool) -> list[UsageEntry]:
    """Return what the ledger has, in the order of its numbers."""
    return [UsageEntry(*(row[column] for column in COLUMNS)) for row in await pool.fetch(ENTRIES)]


async def sums_of(pool: Pool) -> Sequence[int]:
    """Return what entries, hours, days and months each add up to."""
    tables = ("usage_entries", "usage_hours", "usage_days", "usage_months")
    return [int(await pool.fetchval(f"SELECT coalesce(sum(quantity), 0) FROM {table}")) for table in tables]  # noqa: S608
