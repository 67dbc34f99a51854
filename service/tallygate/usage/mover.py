"""The mover: takes what was counted from its buckets to the ledger, once.

Owns the order of the steps, which alone makes it safe: seal, read, store, forget. Wherever it is cut off, the next
round does the rest, and what was done already comes to nothing, for a sealed bucket is always the same. Does not own
who may move (`leader`): two at once are slower, and not wrong.

Failure: a ledger that does not answer leaves everything where it is, and the round says what is left; one that refuses
a bucket has it kept aside, so that no bucket keeps back others. Without the buckets' store the round ends in
LimiterUnavailableError.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tallygate.core.errors import StoreUnavailableError
from tallygate.usage.buckets import SETTLED_AFTER_S, Bucket, BucketName, UsageBuckets
from tallygate.usage.entry import minute_at
from tallygate.usage.ledger import Ledger, UnstorableError

_MINUTE_US = 60_000_000
_BUCKETS_AT_ONCE, _ENTRIES_AT_ONCE = 500, 20_000


@dataclass(slots=True)
class Round:
    """What a round came to.

    `entries` are new in the ledger, `kept_aside` are names of buckets of which it could not take all, `expired` those
    that were gone before anybody moved them. `left` buckets are over and still to be moved, for the `problem` or
    because a clock lags; everything counted before `moved_to_us` is in the ledger.
    """

    buckets: int = 0
    entries: int = 0
    left: int = 0
    moved_to_us: int = 0
    problem: str = ""
    kept_aside: list[BucketName] = field(default_factory=list)
    expired: list[BucketName] = field(default_factory=list)


class Mover:
    """Moves buckets from their store to a ledger."""

    def __init__(self, buckets: UsageBuckets, ledger: Ledger) -> None:
        """Move from the one to the other."""
        self._buckets = buckets
        self._ledger = ledger

    async def round(self) -> Round:
        """Move every bucket that is over."""
        present = (await self._buckets.now_us() - SETTLED_AFTER_S * 1_000_000) // _MINUTE_US
        done = Round()
        first_left = present
        async for names in self._buckets.names():
            for name in await self._move(names, present, done):
                first_left = min(first_left, name.minute)
        done.moved_to_us = first_left * _MINUTE_US
        if not done.problem:
            await self._ledger.reached(minute_at(first_left))
            await self._buckets.tell_moved_to(done.moved_to_us)
        return done

    async def _move(self, names: Sequence[BucketName], present: int, done: Round) -> list[BucketName]:
        """Move those that are over; return those of them that are left."""
        still_open = [name for name in names if not name.is_sealed and name.minute < present]
        over = [name for name in names if name.is_sealed]
        if done.problem:
            left = still_open + over
        else:
            sealing = await self._buckets.seal(still_open)
            done.expired += sealing.expired
            left = sealing.open + await self._move_sealed(over + sealing.sealed, done)
        done.left += len(left)
        return left

    async def _move_sealed(self, names: Sequence[BucketName], done: Round) -> list[BucketName]:
        """Move sealed buckets; return those left when the ledger stopped answering."""
        for at in range(0, len(names), _BUCKETS_AT_ONCE):
            asked = names[at : at + _BUCKETS_AT_ONCE]
            found = await self._buckets.read(asked)
            if len(found) < len(asked):  # others moved them since, or nobody did in time
                done.expired += await self._buckets.strike(list({*asked} - {bucket.name for bucket in found}))
            try:
                for batch in _batches(found):
                    await self._store(batch, done)
            except StoreUnavailableError as error:
                done.problem = str(error)
                return list(names[at:])
        return []

    async def _store(self, batch: list[Bucket], done: Round) -> None:
        """Store a batch and forget it; of one that is refused, all but the bucket that is the cause."""
        try:
            done.entries += await self._ledger.store(batch)
        except UnstorableError:
            if len(batch) == 1:
                await self._buckets.forget(batch, is_kept=True)
                done.kept_aside.append(batch[0].name)
                return
            await self._store(batch[: len(batch) // 2], done)
            await self._store(batch[len(batch) // 2 :], done)
            return
        await self._buckets.forget(batch)
        done.kept_aside += [bucket.name for bucket in batch if bucket.unreadable]
        done.buckets += len(batch)


def _batches(buckets: Sequence[Bucket]) -> Iterator[list[Bucket]]:
    """Return them in batches of so many entries; a bucket is never divided, for readers tell by it what is moved."""
    batch: list[Bucket] = []
    entries = 0
    for bucket in buckets:
        entries += len(bucket.entries)
        if batch and entries > _ENTRIES_AT_ONCE:
            yield batch
            batch, entries = [], len(bucket.entries)
        batch.append(bucket)
    if batch:
        yield batch
