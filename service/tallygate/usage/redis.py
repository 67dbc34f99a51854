"""Buckets of usage in Redis: one server, behind sentinels, or a cluster.

Owns what is asked, by slot: there is an index for each of the 16,384, so that idle customers cost nothing. Does not own
the names (`limits.keys`) nor how many are asked at once (`redis_calls`). Steps that must be one are scripts (`lua/`).

Concurrency: several workers may do the same. Failure: LimiterUnavailableError, and what was done stays done.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from tallygate.limits import keys
from tallygate.storage.redis_topology import RedisLinks
from tallygate.usage.buckets import SETTLED_AFTER_S, Bucket, BucketName, Sealing
from tallygate.usage.entry import FIRST_MINUTE, LAST_MINUTE
from tallygate.usage.redis_calls import PAGE, Call, RedisCalls, script_call

_SECOND_US = 1_000_000
_LARGE = 1_000


def _lua(name: str) -> str:
    return files("tallygate.usage").joinpath("lua", name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class UsageScripts:
    """The texts that run in Redis; a seam for tests, which replace the line that reads the clock."""

    now: str = _lua("now.lua")
    seal: str = _lua("seal.lua")
    forget: str = _lua("forget.lua")


_SCRIPTS = UsageScripts()


class RedisUsageBuckets:
    """Buckets that the limiter's scripts fill."""

    def __init__(self, links: RedisLinks, scripts: UsageScripts = _SCRIPTS) -> None:
        """Ask through `links`, which the caller closes."""
        self._calls = RedisCalls(links)
        self._scripts = scripts

    async def now_us(self) -> int:
        """Return the time by the clock of one node, us since 1970."""
        seconds, microseconds = await self._calls.one(script_call(self._scripts.now, keys.MOVED_TO_KEY, [], []))
        return int(seconds) * _SECOND_US + int(microseconds)

    async def names(self) -> AsyncIterator[list[BucketName]]:
        """Return every bucket, in pages."""
        async for members in self._calls.members(keys.index_keys()):
            yield [name for member in members if (name := _name(member)) is not None]

    async def seal(self, names: Sequence[BucketName]) -> Sealing:
        """Seal those of these open buckets whose minute is over."""
        sealing = Sealing([], [], [])
        for name, answer in zip(names, await self._calls.each(names, self._seal), strict=True):
            if answer == b"0":
                sealing.open.append(name)
            elif answer == b"-":
                sealing.expired.append(name)
            elif answer:
                sealing.sealed.append(name._replace(opened_us=int(answer)))
        return sealing

    async def read(self, names: Sequence[BucketName]) -> list[Bucket]:
        """Return what these sealed buckets hold; those that are gone are left out."""
        held: dict[BucketName, dict[bytes, bytes]] = {name: {} for name in names}
        cursors: dict[BucketName, bytes] = dict.fromkeys(names, b"0")
        while cursors:
            asked = list(cursors.items())
            pages = await self._calls.each(asked, lambda one: _scan(*one))
            for (name, _), (_, fields) in zip(asked, pages, strict=True):
                held[name].update(zip(fields[::2], fields[1::2], strict=True))
            cursors = {name: next_ for (name, _), (next_, _) in zip(asked, pages, strict=True) if next_ != b"0"}
        return [await _bucket(name, fields) for name, fields in held.items() if fields]

    async def forget(self, buckets: Sequence[Bucket], *, is_kept: bool = False) -> None:
        """Remove buckets, all that the ledger has of them."""
        await self._calls.each(buckets, lambda bucket: self._forget(bucket, is_kept=is_kept))

    async def strike(self, names: Sequence[BucketName]) -> list[BucketName]:
        """Take sealed buckets that are gone off the list; return those that expired: forgotten ones are not listed."""
        struck = await self._calls.each(names, _strike)
        return [name for name, was_listed in zip(names, struck, strict=True) if was_listed]

    async def moved_to_us(self) -> int | None:
        """Return up to when the ledger has everything, us since 1970; None if nobody ever told."""
        told = await self._calls.one(Call(keys.MOVED_TO_KEY, ("GET", keys.MOVED_TO_KEY)))
        return None if told is None else int(told)

    async def tell_moved_to(self, at_us: int, *, is_first: bool = False) -> None:
        """Tell everybody up to when the ledger has everything; if it `is_first`, only if nobody ever did."""
        condition = ("NX",) if is_first else ()
        await self._calls.one(Call(keys.MOVED_TO_KEY, ("SET", keys.MOVED_TO_KEY, at_us, *condition)))

    def _seal(self, name: BucketName) -> Call:
        is_over_us = ((name.minute + 1) * 60 + SETTLED_AFTER_S) * _SECOND_US
        return script_call(
            self._scripts.seal,
            name.customer,
            [keys.usage_bucket(name.customer, name.minute), keys.index_key(name.customer)],
            [keys.index_member(name.customer, name.minute), is_over_us],
        )

    def _forget(self, bucket: Bucket, *, is_kept: bool) -> Call:
        customer = bucket.name.customer
        return script_call(
            self._scripts.forget,
            customer,
            [keys.sealed_bucket(*bucket.name), keys.index_key(customer), keys.aside_bucket(*bucket.name)],
            [keys.index_member(*bucket.name), int(is_kept), *bucket.unreadable],
        )


async def _bucket(name: BucketName, fields: Mapping[bytes, bytes]) -> Bucket:
    # Beside the loop, if it takes long: the leader is to give a sign of life each second.
    return await asyncio.to_thread(Bucket.of, name, fields) if len(fields) > _LARGE else Bucket.of(name, fields)


def _scan(name: BucketName, cursor: bytes) -> Call:
    return Call(name.customer, ("HSCAN", keys.sealed_bucket(*name), cursor, "COUNT", PAGE))


def _strike(name: BucketName) -> Call:
    return Call(name.customer, ("SREM", keys.index_key(name.customer), keys.index_member(*name)))


def _name(member: bytes) -> BucketName | None:
    """Read a name in an index; None for what is not one of ours."""
    try:
        customer, minute, *opened_us = member.decode().split(":")
        name = BucketName(customer, int(minute), *map(int, opened_us))
    except (ValueError, TypeError):  # also a UnicodeDecodeError, and too many parts
        return None
    return name if FIRST_MINUTE <= name.minute <= LAST_MINUTE else None
