"""Whether the counters of quotas and the ledger agree: what was refused by one must be what is billed by the other.

Owns what a counter should hold by the ledger, read so that both are of one instant: the counters and the buckets of a
customer in one step, then the ledger, of which only that counts which was counted by then. Does not own which counters
can be compared (`since_at` of an `Account` says from when on), nor what is done about a difference.

Units of a minute that a period begins in the middle of may be before it or in it: where the counter lies between both,
they agree. Units of leased limits may be held ahead of need, and are not used yet: what differs is only believed when
it is the same a little later, nothing having been counted meanwhile. Failure: DependencyError.
"""

import asyncio
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tallygate.core.errors import OverloadedError
from tallygate.core.periods import Period
from tallygate.limits.algorithms import instant, microseconds
from tallygate.limits.keys import DEGRADED, Place, counter_field, record_key
from tallygate.limits.limit import CountedPer, Limit
from tallygate.limits.limiter import Subject
from tallygate.storage.postgres import Pool, acquire
from tallygate.storage.queries import load
from tallygate.usage.live import LiveBucket, LiveBuckets, Look
from tallygate.usage.reading import moved

EVER, NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_SQL = load("tallygate.usage", "reading.sql")
_TRIES = 3
_LOOK_AGAIN_S = 3.0
"""Longer than any slab is spent from, and it is settled then."""
_MINUTE = timedelta(minutes=1)
_STORED = struct.Struct("<dd")


@dataclass(frozen=True, slots=True)
class Account:
    """A quota's counter, and since when all that was counted of its owner and meter was counted on it."""

    limit: Limit
    subject: Subject
    since_at: datetime

    @property
    def place(self) -> Place:
        """Return where it is counted."""
        return Place(record_key(self.subject, self.limit.per), counter_field(self.limit))

    @property
    def owner(self) -> str:
        """Return whose units it counts."""
        match self.limit.per:
            case CountedPer.CUSTOMER:
                return self.subject.customer
            case CountedPer.SUBSCRIPTION:
                return self.subject.subscription
            case CountedPer.TOKEN:
                return self.subject.family


@dataclass(frozen=True, slots=True)
class Comparison:
    """What counter and ledger have of a limit in its period; `difference` is what the counter has more.

    None where they cannot be compared, and `why_not` says why.
    """

    limit: str
    meter: str
    per: str
    owner: str
    from_at: datetime
    counter: int
    ledger: int | None
    difference: int | None
    why_not: str | None


class Reconciler:
    """Compares the accounts of one customer at a time."""

    def __init__(
        self,
        pool: Pool,
        live: LiveBuckets,
        *,
        deadline_s: float = 10.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Read the ledger through `pool`, each customer's part within `deadline_s`, and Redis through `live`."""
        self._pool = pool
        self._live = live
        self._deadline_s = deadline_s
        self._sleep = sleep

    async def compare(self, customer: str, accounts: Sequence[Account]) -> tuple[Comparison, ...]:
        """Return a comparison for each account."""
        if not accounts:
            return ()
        first = await self._compared(customer, accounts)
        if not any(account.limit.is_leased and each.difference for account, each in zip(accounts, first, strict=True)):
            return first
        await self._sleep(_LOOK_AGAIN_S)
        again = await self._compared(customer, accounts)
        return tuple(map(_believed, accounts, first, again))

    async def _compared(self, customer: str, accounts: Sequence[Account]) -> tuple[Comparison, ...]:
        for _ in range(_TRIES):
            look = await self._live.look(customer, [account.place for account in accounts])
            now = instant(look.at_us)
            periods = [_period(account.limit, now) for account in accounts]
            sums = await self._sums(customer, look, {period.start_at for period in periods})
            if sums is not None:
                pairs = zip(accounts, periods, look.counters, strict=True)
                return tuple(_comparison(*pair, look, sums[pair[1].start_at]) for pair in pairs)
        raise OverloadedError("usage was moved to the ledger each time it was compared: look again")

    async def _sums(self, customer: str, look: Look, starts: set[datetime]) -> "dict[datetime, _Sums] | None":
        """Return what was counted since each of these instants, None when a bucket may have grown since the look."""
        async with (
            acquire(self._pool, self._deadline_s, "compare usage") as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            places = await moved(connection, look.tail.buckets)
            if any(look.tail.buckets[place].is_open for place in places):
                return None
            left = [bucket for place, bucket in enumerate(look.tail.buckets) if place not in places]
            found = {}
            for start_at in starts:
                sums = found[start_at] = _Sums(start_at)
                rows = await connection.fetch(_SQL["counted"], customer, sums.edge_at, sums.whole_at, look.at_us)
                for row in rows:
                    sums.add(row["subscription_id"], row["family_id"], row["meter"], row["quantity"], row["is_edge"])
                sums.add_live(left)
            return found


class _Sums:
    """Units since an instant: those that surely are, and those of the minute that it is in."""

    def __init__(self, start_at: datetime) -> None:
        self.edge_at = start_at.replace(second=0, microsecond=0)
        self.whole_at = self.edge_at if self.edge_at == start_at else self.edge_at + _MINUTE
        self._sure: Counter[tuple[str, str]] = Counter()
        self._edge: Counter[tuple[str, str]] = Counter()

    def add(self, subscription: str, family: str, meter: str, quantity: int, is_edge: bool) -> None:  # noqa: FBT001 - a column
        """Count units for whoever may own them."""
        sums = self._edge if is_edge else self._sure
        for owner in ("", subscription, family):
            sums[owner, meter] += quantity

    def add_live(self, buckets: Iterable[LiveBucket]) -> None:
        """Count what is not in the ledger yet."""
        for entry in (entry for bucket in buckets for entry in bucket.entries()):
            if entry.minute_at >= self.edge_at and entry.entry != DEGRADED:
                is_edge = entry.minute_at < self.whole_at
                self.add(entry.subscription, entry.family, entry.meter, entry.quantity, is_edge)

    def bounds(self, account: Account) -> tuple[int, int]:
        """Return the least and the most that the counter should hold."""
        owner = "" if account.limit.per is CountedPer.CUSTOMER else account.owner
        sure, edge = self._sure[owner, account.limit.meter], self._edge[owner, account.limit.meter]
        return sure + min(0, edge), sure + max(0, edge)


def _comparison(account: Account, period: Period, stored: bytes | None, look: Look, sums: _Sums) -> Comparison:
    used, end_us = (0, 0) if stored is None else map(int, _STORED.unpack(stored))
    if end_us <= look.at_us:  # of a period that is over, as if there were none
        used, end_us = 0, microseconds(period.end_at)
    if look.tail.lacks is not None:
        return _without(account, period, used, look.tail.lacks)
    if end_us != microseconds(period.end_at):
        return _without(account, period, used, "the counter is of a period that ends at another time")
    if account.since_at == NEVER:
        return _without(account, period, used, "not all of the customer's contracts count on it")
    if account.since_at > period.start_at:
        return _without(
            account, period, used, f"the limit has counted in this way since {account.since_at:%Y-%m-%d %H:%M} only"
        )
    least, most = sums.bounds(account)
    ledger = min(max(used, least), most)
    return _told(account, period, used, ledger, None)


def _believed(account: Account, first: Comparison, again: Comparison) -> Comparison:
    """Return the later of two comparisons, unless it differs and what was held ahead may be why."""
    is_still = (first.counter, first.ledger) == (again.counter, again.ledger)
    if is_still or not again.difference or not account.limit.is_leased:
        return again
    return Comparison(
        again.limit, again.meter, again.per, again.owner, again.from_at, again.counter, again.ledger, None,
        "workers hold units ahead of need while requests come: look again when fewer do",
    )  # fmt: skip


def _without(account: Account, period: Period, used: int, why_not: str) -> Comparison:
    return _told(account, period, used, None, why_not)


def _told(account: Account, period: Period, used: int, ledger: int | None, why_not: str | None) -> Comparison:
    limit = account.limit
    difference = None if ledger is None else used - ledger
    return Comparison(
        limit.name, limit.meter, limit.per.value, account.owner, period.start_at, used, ledger, difference, why_not
    )  # fmt: skip


def _period(limit: Limit, now: datetime) -> Period:
    assert limit.calendar is not None  # noqa: S101 - an account's limit is a quota
    return limit.calendar.period_at(now)
