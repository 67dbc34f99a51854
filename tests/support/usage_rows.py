"""Usage as it lies about: entries made up, buckets put into Redis as the scripts leave them, and sums done by hand."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis, RedisCluster

from tallygate.limits.keys import (
    OPENED_FIELD,
    Owner,
    index_key,
    index_member,
    sealed_bucket,
    usage_bucket,
    usage_field,
)
from tallygate.usage.buckets import Bucket, BucketName
from tallygate.usage.entry import UsageEntry
from tallygate.usage.question import UsageQuery

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELD_ENTRIES = {"counted": ""}


def minute_of(at: datetime) -> int:
    """Return the minute since 1970 that contains `at`."""
    return (at - _EPOCH) // timedelta(minutes=1)


def opened_us(at: datetime) -> int:
    """Return an instant as µs since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def made_up(number: int, seed: int = 1) -> list[UsageEntry]:
    """Return so many entries over some months of few customers, routes and so on; some were given back."""
    chance = random.Random(seed)  # noqa: S311 - an example
    return [
        UsageEntry(
            customer=f"cus_{customer}",
            subscription=f"sub_{customer}{chance.randrange(2)}",
            family=f"fam_{customer}{chance.randrange(2)}",
            plan=chance.choice(["pro@1", "pro@2", "free@1"]),
            meter=chance.choice(["requests", "tokens"]),
            route=chance.choice(["GET /v1/things", "* /v1/**", "POST /v1/ä|b"]),
            outcome=chance.choice(["allowed", "overage"]),
            entry="counted",
            minute_at=NOON + timedelta(minutes=chance.randrange(-100_000, 100_000)),
            quantity=chance.choice([1, 2, 30, -1]),
        )
        for customer in (chance.randrange(4) for _ in range(number))
    ]


def buckets_of(entries: Iterable[UsageEntry], opened_after_us: int = 1) -> list[Bucket]:
    """Return the sealed buckets in which these were counted, opened so long after their minute began."""
    by_name: dict[BucketName, Counter[UsageEntry]] = {}
    for entry in entries:
        name = BucketName(entry.customer, minute_of(entry.minute_at), opened_us(entry.minute_at) + opened_after_us)
        by_name.setdefault(name, Counter())[_without_units(entry)] += entry.quantity
    return [
        Bucket(name, tuple(_with_units(entry, units) for entry, units in counted.items()))
        for name, counted in by_name.items()
    ]


async def put(client: "Redis | RedisCluster", buckets: Sequence[Bucket], *, is_open: bool = False) -> None:
    """Put buckets into Redis: sealed, or as they are while they are counted in."""
    for (customer, minute, opened), entries in ((bucket.name, bucket.entries) for bucket in buckets):
        key = usage_bucket(customer, minute) if is_open else sealed_bucket(customer, minute, opened)
        held: dict[Any, Any] = {OPENED_FIELD: opened}  # as redis-py has it
        for each in entries:
            owner = Owner(each.subscription, each.plan, each.family)
            entry, at = _FIELD_ENTRIES.get(each.entry, each.entry), minute_of(each.minute_at)
            field = usage_field(
                owner, each.meter, each.outcome, each.route, entry=entry, at="" if at == minute else at
            )  # fmt: skip
            held[field] = each.quantity
        await client.hset(key, mapping=held)
        member = index_member(customer, minute, None if is_open else opened)
        await client.sadd(index_key(customer), member)


def summed(query: UsageQuery, entries: Iterable[UsageEntry]) -> dict[tuple[object, ...], int]:
    """Return the answer to a question, done by hand: units by every column that is asked for, and time."""
    found: Counter[tuple[object, ...]] = Counter()
    for entry in entries:
        if not query.from_at <= entry.minute_at < query.to_at:
            continue
        told = {column.value: getattr(entry, column.value) for column in query.columns}
        is_asked = all(
            getattr(entry, column.value) == value
            or (column.value == "plan" and entry.plan.startswith(f"{value}@"))
            for column, value in query.filters.items()
        )  # fmt: skip
        if is_asked:
            found[(*told.values(), query.by.start_of(entry.minute_at))] += entry.quantity
    return dict(found)


def _without_units(entry: UsageEntry) -> UsageEntry:
    return _with_units(entry, 0)


def _with_units(entry: UsageEntry, quantity: int) -> UsageEntry:
    return UsageEntry(
        entry.customer, entry.subscription, entry.family, entry.plan, entry.meter, entry.route, entry.outcome,
        entry.entry, entry.minute_at, quantity,
    )  # fmt: skip
