"""Limiters of both adapters under one interface whose time the test moves.

The shipped scripts read Redis's clock in exactly one line; here that line reads a key instead, and nothing
else changes. What Redis would forget in that time is deleted by hand, by the expiry the script gave it. The
tests' time lies far ahead, so the real clock forgets nothing.
"""

import struct
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast
from urllib.parse import quote

from redis.asyncio import Redis

from tallygate.core.clock import ManualClock
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.limits.algorithms import microseconds
from tallygate.limits.keys import EXPIRY_FIELD, OPENED_FIELD, PREFIX, due_key, index_key, index_member
from tallygate.limits.limit import Limit, LimitKind, OnExceed
from tallygate.limits.limiter import Acquisition, Charge, Limiter, LimitOutcome, Subject, Verdict
from tallygate.limits.memory import MemoryLimiter
from tallygate.limits.redis import RedisLimiter
from tallygate.limits.script import ACQUIRE_LUA, AMEND_LUA, FIRST_USE_LUA, Scripts
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link

START_AT = datetime(2096, 1, 31, 23, 59, 50, tzinfo=UTC)
SECOND_US = 1_000_000
CLOCK_KEY = "test:clock"
_TIME_LINE = "local time = redis.call('TIME')\n"
_TEST_LINE = f"local time = redis.call('HMGET', '{CLOCK_KEY}', 's', 'us')\n"

ALICE = Subject("cus_1", "sub_1", "fam_1")


def scripted_clock(script: str) -> str:
    """Return a script with its one line that reads the clock replaced."""
    assert script.count(_TIME_LINE) == 1
    assert script.count("'TIME'") == 1
    return script.replace(_TIME_LINE, _TEST_LINE)


def scripted_clocks() -> Scripts:
    """Return all scripts with that line replaced."""
    return Scripts(
        acquire=scripted_clock(ACQUIRE_LUA),
        first_use=scripted_clock(FIRST_USE_LUA),
        amend=scripted_clock(AMEND_LUA),
    )


class Counting(Protocol):
    """A limiter, its counters laid open, and its time."""

    limiter: Limiter

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        ...

    async def step_to(self, at: datetime) -> None:
        """Step the counter store's clock, backwards too."""
        ...

    async def record(self, key: str) -> dict[str, str]:
        """Return the fields of a record, or the members of a set of holds with when they began; `x` is its expiry."""
        ...

    async def usage(self) -> dict[str, int]:
        """Return the units counted in all minutes, by field."""
        ...

    async def by_minute_counted(self) -> dict[int, dict[str, int]]:
        """Return the same for each minute in which they were counted."""
        ...

    async def due(self) -> dict[str, int]:
        """Return when Alice's receipts that are to be given back are over, ms since 1970."""
        ...


class MemoryCounting:
    """The limiter in memory."""

    def __init__(self) -> None:
        """Start at `START_AT`."""
        self.clock = ManualClock(START_AT)
        self.memory = MemoryLimiter(self.clock, max_minutes=1_000_000)
        self.limiter: Limiter = self.memory

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        await self.step_to(self.clock.now() + timedelta(seconds=seconds))

    async def step_to(self, at: datetime) -> None:
        """Step the clock. What is over then is forgotten then, as Redis does, and not when it is next asked for."""
        self.clock.set(at)
        for key in list(self.memory._records):
            self.memory.record(key)
        now_ms = microseconds(at) // 1000
        every: list[Any] = [self.memory._remembered, self.memory._held, self.memory._receipts]
        for remembered in every:
            for key, (until_ms, _) in list(remembered.items()):
                if until_ms <= now_ms:
                    del remembered[key]

    async def record(self, key: str) -> dict[str, str]:
        """Return the fields of a record."""
        return self.memory.record(key)

    async def usage(self) -> dict[str, int]:
        """Return the units counted in all minutes, by field."""
        return added(self.memory.usage.values())

    def records(self) -> dict[str, dict[str, str]]:
        """Return every record by key."""
        return {key: self.memory.record(key) for key in list(self.memory._records)}

    def held(self) -> dict[str, tuple[int, str]]:
        """Return the sets that hold each request, and until when that is remembered."""
        return {key: (until_ms, " ".join(keys)) for key, (until_ms, keys) in self.memory._held.items()}

    def receipts(self) -> dict[str, tuple[int, bytes]]:
        """Return every receipt as it is kept, and until when."""
        return dict(self.memory._receipts)

    async def by_minute_counted(self) -> dict[int, dict[str, int]]:
        """Return the usage counted in each minute."""
        return {minute: dict(bucket) for minute, bucket in self.memory.usage.items()}

    async def due(self) -> dict[str, int]:
        """Return when receipts that are to be given back are over."""
        return dict(self.memory.due)


class RedisCounting:
    """The limiter in Redis, by the shipped scripts but for their clock.

    The limiter's own clock stands still: each of its guesses of the present is as old as Redis's last answer.
    """

    def __init__(self, client: Redis) -> None:
        """Use an empty Redis."""
        self.client = client
        self.clock = ManualClock(START_AT)
        self.redis = RedisLimiter(
            link(url_of(client), LinkTerms(deadline_s=30)),
            clock=ManualClock(START_AT),
            scripts=scripted_clocks(),
        )
        self.limiter: Limiter = self.redis

    async def start(self) -> None:
        """Set Redis's clock for the first time."""
        await self._tell()

    async def close(self) -> None:
        """Close the limiter's connection and the client."""
        await self.redis.close()
        await self.client.aclose()

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        await self._tell()

    async def step_to(self, at: datetime) -> None:
        """Step the clock."""
        self.clock.set(at)
        await self._tell()

    async def record(self, key: str) -> dict[str, str]:
        """Return the fields of a record, or the members of a set of holds."""
        if "|" in key:
            members = cast("list[tuple[bytes, float]]", await self.client.zrange(key, 0, -1, withscores=True))
            began = {member.decode(): f"{at:.0f}" for member, at in members}
            return began | {EXPIRY_FIELD: str(await self.client.pexpiretime(key))} if began else {}
        fields = await cast("Awaitable[dict[bytes, bytes]]", self.client.hgetall(key))
        return {field.decode(): readable(field.decode(), value) for field, value in fields.items()}

    async def usage(self) -> dict[str, int]:
        """Return the units counted in all minutes, by field."""
        return added((await self.by_minute_counted()).values())

    async def by_minute_counted(self) -> dict[int, dict[str, int]]:
        """Return the usage counted in each minute; each bucket must say when it was opened, and be in the index."""
        found: dict[int, dict[str, int]] = {}
        for key in await self.keys():
            if ":u:" in key:
                bucket = {field: int(units) for field, units in (await self.record(key)).items()}
                minute = int(key.rpartition(":")[2])
                assert bucket.pop(OPENED_FIELD) // (60 * SECOND_US) == minute
                customer = key.partition("{")[2].partition("}")[0]
                assert await self.client.sismember(index_key(customer), index_member(customer, minute))
                found[minute] = bucket
        return found

    async def receipts(self) -> dict[str, tuple[int, bytes]]:
        """Return every receipt as it is kept, and until when."""
        found: dict[str, tuple[int, bytes]] = {}
        for key in await self.keys():
            if ":r:" in key and "|" not in key:
                found[key] = (await self.client.pexpiretime(key), cast("bytes", await self.client.get(key)))
        return found

    async def due(self) -> dict[str, int]:
        """Return when Alice's receipts that are to be given back are over, ms since 1970."""
        members = cast(
            "list[tuple[bytes, float]]", await self.client.zrange(due_key(ALICE.customer), 0, -1, withscores=True)
        )
        return {member.decode(): int(at_ms) for member, at_ms in members}

    async def records(self) -> dict[str, dict[str, str]]:
        """Return every record by key."""
        rest = (":u:", ":i:", ":h:", ":r:", ":first:", ":open", ":due")
        found = [key for key in await self.keys() if "|" in key or not any(part in key for part in rest)]
        return {key: await self.record(key) for key in found}

    async def held(self) -> dict[str, tuple[int, str]]:
        """Return the sets that hold each request, and until when that is remembered."""
        held: dict[str, tuple[int, str]] = {}
        for key in await self.keys():
            if ":h:" in key and "|" not in key:
                sets = cast("bytes", await self.client.get(key))
                held[key] = (await self.client.pexpiretime(key), sets.decode())
        return held

    async def keys(self) -> list[str]:
        """Return every key of Tallygate's."""
        keys = [key async for key in self.client.scan_iter(f"{PREFIX}*", count=1000)]
        return sorted(key if isinstance(key, str) else bytes(key).decode() for key in keys)

    async def everything(self) -> dict[str, tuple[object, int]]:
        """Return every key with its bytes and its expiry."""
        return {key: (await self.client.dump(key), await self.client.pexpiretime(key)) for key in await self.keys()}

    async def _tell(self) -> None:
        now_us = microseconds(self.clock.now())
        seconds, rest_us = divmod(now_us, SECOND_US)
        await self.client.hset(CLOCK_KEY, mapping={"s": seconds, "us": rest_us})
        for key in await self.keys():
            if ":u:" not in key and 0 < await self.client.pexpiretime(key) <= now_us // 1000:
                await self.client.delete(key)


def url_of(client: Redis) -> str:
    """Return the URL of the server that a client asks."""
    asked = client.connection_pool.connection_kwargs
    login = f":{quote(asked['password'], safe='')}@" if asked.get("password") else ""
    return f"redis://{login}{asked['host']}:{asked['port']}/{asked.get('db') or 0}"


def readable(field: str, value: bytes) -> str:
    """Return a counter as the reference keeps it: a rate and a quota are packed doubles in Redis."""
    if not field.removeprefix("shadow:").startswith(("r:", "q:")) or len(value) % 8:
        return value.decode()
    return ":".join(f"{number:.0f}" for number in struct.unpack(f"<{len(value) // 8}d", value))


def added(buckets: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of usage buckets."""
    total: Counter[str] = Counter()
    for bucket in buckets:
        total.update(bucket)
    return dict(total)


def by_minute(buckets: Mapping[int, Mapping[str, int]]) -> dict[int, dict[str, int]]:
    """Return the usage of each minute it belongs to, whenever it was counted, by field without that."""
    found: dict[int, Counter[str]] = {}
    for minute, bucket in buckets.items():
        for field, units in bucket.items():
            parts = field.split("|", 7)
            belongs, parts[6] = int(parts[6] or minute), ""
            found.setdefault(belongs, Counter())["|".join(parts)] += units
    return {minute: dict(bucket) for minute, bucket in found.items()}


def rate(amount: int, burst: int, *, window_s: int = 1, name: str = "burst", **rest: Any) -> Limit:  # noqa: ANN401
    """Return a rate of `amount` per `window_s`."""
    return Limit(name, LimitKind.RATE, amount, burst=burst, window_us=window_s * SECOND_US, **rest)


def quota(amount: int, unit: PeriodUnit = PeriodUnit.MONTH, *, name: str = "monthly", **rest: Any) -> Limit:  # noqa: ANN401
    """Return a quota of `amount` per natural period."""
    return Limit(name, LimitKind.QUOTA, amount, calendar=Calendar(unit), **rest)


def overage(amount: int, ceiling: int | None = None, **rest: Any) -> Limit:  # noqa: ANN401
    """Return a monthly quota that goes into overage, up to `ceiling`."""
    return quota(amount, on_exceed=OnExceed.OVERAGE, ceiling=ceiling, **rest)


def prepaid(amount: int, *, name: str = "prepaid", **rest: Any) -> Limit:  # noqa: ANN401
    """Return credits."""
    return Limit(name, LimitKind.CREDITS, amount, **rest)


def at_once(amount: int, *, hold_s: int = 60, name: str = "uploads", **rest: Any) -> Limit:  # noqa: ANN401
    """Return a limit of so many requests at once."""
    return Limit(name, LimitKind.CONCURRENCY, amount, hold_s=hold_s, **rest)


def asking(
    *charges: tuple[Limit, int] | Limit,
    subject: Subject = ALICE,
    usage: tuple[tuple[str, int], ...] = (("requests", 1),),
    request_id: str | None = None,
    **rest: Any,  # noqa: ANN401 - further fields
) -> Acquisition:
    """Return a request that costs each limit 1, or what stands beside it."""
    pairs = [charge if isinstance(charge, tuple) else (charge, 1) for charge in charges]
    return Acquisition(
        subject=subject,
        charges=tuple(Charge(limit, cost) for limit, cost in pairs),
        usage=usage,
        route="GET /v1/things",
        idempotency_key=request_id,
        plan="pro@3",
        **rest,
    )


async def admitted(counting: Counting, times: int, *charges: tuple[Limit, int] | Limit) -> int:
    """Return how many of `times` requests are admitted."""
    verdicts = [await counting.limiter.acquire(asking(*charges)) for _ in range(times)]
    return sum(verdict.is_admitted for verdict in verdicts)


def outcomes(verdict: Verdict) -> list[LimitOutcome]:
    """Return what each limit said."""
    return [state.outcome for state in verdict.states]


def left(verdict: Verdict) -> list[int]:
    """Return what each limit has left."""
    return [state.remaining for state in verdict.states]
