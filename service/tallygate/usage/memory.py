"""Buckets and a ledger in this process's memory: for simulations and for tests.

The buckets are those that a `MemoryLimiter` counts in, which knows no other customers than its callers name. Nothing is
shared between processes. Every call is one step of the event loop.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from tallygate.core.clock import Clock
from tallygate.limits.algorithms import microseconds
from tallygate.usage.buckets import SETTLED_AFTER_S, Bucket, BucketName, Sealing
from tallygate.usage.entry import UsageEntry

_MINUTE_US = 60_000_000


class MemoryUsageBuckets:
    """Buckets in memory; `count` fills them."""

    def __init__(self, clock: Clock) -> None:
        """Take the clock that says when a minute is over."""
        self._clock = clock
        self._held: dict[BucketName, dict[bytes, bytes]] = {}
        self._opened_us: dict[BucketName, int] = {}
        self._moved_to_us: int | None = None
        self.aside: dict[BucketName, dict[bytes, bytes]] = {}
        """What could not be read, or not stored."""

    def count(self, customer: str, field: bytes, units: int) -> None:
        """Count in the present minute, as the limiter's scripts do."""
        now_us = microseconds(self._clock.now())
        name = BucketName(customer, now_us // _MINUTE_US)
        fields = self._held.setdefault(name, {})
        self._opened_us.setdefault(name, now_us)
        fields[field] = b"%d" % (int(fields.get(field, 0)) + units)

    async def now_us(self) -> int:
        """Return the time, us since 1970."""
        return microseconds(self._clock.now())

    async def names(self) -> AsyncIterator[list[BucketName]]:
        """Return every bucket, in one page."""
        if self._held:
            yield list(self._held)

    async def seal(self, names: Sequence[BucketName]) -> Sealing:
        """Seal those of these open buckets whose minute is over."""
        sealing = Sealing([], [], [])
        for name in names:
            if await self.now_us() < ((name.minute + 1) * 60 + SETTLED_AFTER_S) * 1_000_000:
                sealing.open.append(name)
            elif name in self._held:
                sealing.sealed.append(self._sealed(name))
        return sealing

    async def read(self, names: Sequence[BucketName]) -> list[Bucket]:
        """Return what these sealed buckets hold; those that are gone are left out."""
        return [Bucket.of(name, self._held[name]) for name in names if name in self._held]

    async def forget(self, buckets: Sequence[Bucket], *, is_kept: bool = False) -> None:
        """Remove buckets, all that the ledger has of them."""
        for bucket in buckets:
            fields = self._held.pop(bucket.name, {})
            kept = fields if is_kept else {field: fields[field] for field in bucket.unreadable if field in fields}
            if kept:
                self.aside[bucket.name] = kept

    async def strike(self, names: Sequence[BucketName]) -> list[BucketName]:  # noqa: ARG002 - the port's signature
        """Return none: nothing expires here, and what is gone is not listed."""
        return []

    async def moved_to_us(self) -> int | None:
        """Return up to when the ledger has everything, us since 1970; None if nobody ever told."""
        return self._moved_to_us

    async def tell_moved_to(self, at_us: int, *, is_first: bool = False) -> None:
        """Note up to when the ledger has everything; if it `is_first`, only if nobody ever did."""
        if self._moved_to_us is None or not is_first:
            self._moved_to_us = at_us

    def _sealed(self, name: BucketName) -> BucketName:
        fields, opened_us = self._held.pop(name), self._opened_us.pop(name)
        while name._replace(opened_us=opened_us) in self._held:
            opened_us += 1
        self._held[name._replace(opened_us=opened_us)] = fields
        return name._replace(opened_us=opened_us)


class MemoryLedger:
    """Entries in memory, in the order in which they were stored."""

    def __init__(self) -> None:
        """Begin empty."""
        self._stored: dict[tuple[BucketName, UsageEntry], None] = {}
        self.moved_to: datetime | None = None

    @property
    def entries(self) -> list[UsageEntry]:
        """Return every entry."""
        return [entry for _, entry in self._stored]

    async def store(self, buckets: Sequence[Bucket]) -> int:
        """Store these buckets; return how many entries are new."""
        before = len(self._stored)
        self._stored |= {(bucket.name, entry): None for bucket in buckets for entry in bucket.entries}
        return len(self._stored) - before

    async def reached(self, moved_to: datetime) -> None:
        """Note that everything counted before an instant is here."""
        self.moved_to = moved_to
