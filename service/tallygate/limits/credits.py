"""The reference, continued: how credits count. `lua/acquire.lua` must say the same.

A balance and each of its buckets have counters of their own, kept as text: `used`, the units ever spent of
it. What was granted is never stored, so a refill, a grant and a changed amount keep what was used.

Between two instants at which something is granted or ends, all that credits hold is plain numbers: `Balance`.
Python computes it, for Lua knows no calendars, and Redis refuses one that does not contain its own time.

Units beyond the balance (`on_exceed: overage`) are counted on the balance, and the next refill pays for them.
A ceiling moves up with each refill, so the units of overage that it leaves room for stay the same. Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tallygate.limits.algorithms import instant, microseconds, period_us
from tallygate.limits.keys import Place
from tallygate.limits.limit import EXACT_INTEGER, CreditBucket, CreditRefill, Limit

LARGEST = EXACT_INTEGER - 1
FOREVER_US = EXACT_INTEGER - 1
"""The end of time, in µs since 1970: the year 2255."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What credits hold from `since_us` until `until_us`, µs since 1970.

    `amount` is the balance itself with its refills, `up_to` the units at which it refuses. `buckets` are the
    positions in `Limit.buckets` of those that count, in the order they are spent. `gain` units more come at
    `gain_at_us`; 0 when none are known to come.
    """

    amount: int
    up_to: int
    buckets: tuple[int, ...]
    since_us: int
    until_us: int
    gain_at_us: int
    gain: int


def balance_at(limit: Limit, at_us: int) -> Balance:
    """Return what the credits of `limit` hold at `at_us`."""
    refilled, since_us, refill_at_us = _refilled(limit.refill, at_us)
    spans = [(microseconds(bucket.from_at), ends_us(bucket)) for bucket in limit.buckets]
    edges = [0, since_us, refill_at_us, FOREVER_US, *(edge for span in spans for edge in span)]
    gains = [(from_us, bucket.amount) for (from_us, _), bucket in zip(spans, limit.buckets, strict=True)]
    if limit.refill is not None:
        gains.append((refill_at_us, limit.refill.amount))
    gain_at_us = min((from_us for from_us, _ in gains if at_us < from_us < FOREVER_US), default=0)
    live = [number for number, (from_us, until_us) in enumerate(spans) if from_us <= at_us < until_us]
    ceiling = LARGEST if limit.admits_up_to is None else limit.admits_up_to
    return Balance(
        amount=min(limit.amount + refilled, LARGEST),
        up_to=min(ceiling + refilled, LARGEST),
        buckets=tuple(sorted(live, key=lambda number: (spans[number][1], spans[number][0], limit.buckets[number].id))),
        since_us=max(edge for edge in edges if edge <= at_us),
        until_us=min(edge for edge in edges if edge > at_us),
        gain_at_us=gain_at_us,
        gain=min(sum(units for from_us, units in gains if from_us == gain_at_us > 0), LARGEST),
    )


class Credits:
    """The counters of a balance and its buckets."""

    def __init__(
        self, limit: Limit, places: tuple[Place, ...], read: Callable[[Place], str | None], now_us: int
    ) -> None:
        """Read the counters; None is one of which nothing was spent."""
        balance = balance_at(limit, now_us)
        self._own, *granted = places
        self._balance = balance
        self._now_us = now_us
        self._buckets = [(granted[number], limit.buckets[number].amount) for number in balance.buckets]
        self._used = {place: int(read(place) or 0) for place in (self._own, *(place for place, _ in self._buckets))}
        self._spent: dict[Place, int] = {}

    @property
    def writes(self) -> Mapping[Place, str | None]:
        """Return `used` of everything that was spent from."""
        return {place: str(self._used[place]) for place in self._spent}

    @property
    def needed_until_us(self) -> int | None:
        """Return None: what was spent is known for ever."""
        return None

    @property
    def remaining(self) -> int:
        """Return what is left in all buckets and of the balance; of the balance 0 while in overage."""
        return min(self._granted + max(0, self._balance.amount - self._used[self._own]), LARGEST)

    @property
    def reset_us(self) -> int | None:
        """Return the time until the next refill or bucket."""
        return self._balance.gain_at_us - self._now_us if self._balance.gain else None

    def fits(self, cost: int) -> bool:
        """Return whether buckets and balance, or the ceiling of its overage, have room."""
        return cost <= self._granted + max(0, self._room)

    def over(self, cost: int) -> int:
        """Return the part of `cost` beyond buckets and balance."""
        own = cost - min(cost, self._granted)
        return min(own, max(0, self._used[self._own] + own - self._balance.amount))

    def retry_us(self, cost: int) -> int | None:
        """Return the time until the next refill or bucket, if that brings enough."""
        is_enough = cost <= self._granted + max(0, self._room + self._balance.gain)
        return self.reset_us if is_enough else None

    def take(self, cost: int) -> None:
        """Spend `cost` units, from buckets in their order, then from the balance."""
        for place, amount in self._buckets:
            part = min(cost, max(0, amount - self._used[place]))
            self._spend(place, part)
            cost -= part
        self._spend(self._own, cost)

    def spent(self, place: Place) -> int:
        """Return the units that were taken from the balance, or one of its buckets, just now."""
        return self._spent.get(place, 0)

    @property
    def _granted(self) -> int:
        return sum(max(0, amount - self._used[place]) for place, amount in self._buckets)

    @property
    def _room(self) -> int:
        """Return what the balance admits; below 0 when its amount was lowered under what was used."""
        return self._balance.up_to - self._used[self._own]

    def _spend(self, place: Place, units: int) -> None:
        if units:
            self._used[place] = min(self._used[place] + units, LARGEST)
            self._spent[place] = units


def _refilled(refill: CreditRefill | None, at_us: int) -> tuple[int, int, int]:
    """Return the units of all refills so far, since when that is so, and the next refill."""
    if refill is None:
        return 0, 0, FOREVER_US
    at = max(instant(at_us), refill.since_at)
    count = refill.calendar.number_at(at) - refill.calendar.number_at(refill.since_at)
    start_us, end_us = period_us(refill.calendar, microseconds(at))
    return count * refill.amount, min(start_us, at_us), end_us


def ends_us(bucket: CreditBucket) -> int:
    """Return when a bucket ends, us since 1970."""
    return FOREVER_US if bucket.until_at is None else microseconds(bucket.until_at)
