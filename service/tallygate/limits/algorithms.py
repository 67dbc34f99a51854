"""The reference: how one limit counts, in plain Python over plain values. `lua/acquire.lua` must say the same.

A counter is kept as text; Redis keeps the same numbers packed, as little-endian doubles, for the time it takes:

- a rate is `level:at_us:window_us`, GCRA as a leaky bucket (ITU-T I.371, continuous-state form). The level is
  in units times window_us, so that it drains by a whole number, the limit's `amount`, each microsecond, and
  nothing is ever rounded. A request fits while level + cost * window_us <= burst * window_us.
- a quota is `used:end_us`, the units used in the period that ends then. Periods only move forward.

Credits and concurrency have modules of their own, `credits` and `slots`.

What a limit allows is never stored, so raising or lowering it keeps what was used; a bucket is at most full
under the present burst, and another window rounds its level up to whole units.

A step of Redis's clock, either way, counts as time passed: a step of a second lets a second's worth through
and locks nobody out, though a refused request writes nothing that could mend the counter.

A cost of 0 always fits. Pure; all numbers are whole, and below 2**53 for every limit that
`limit.unenforceable` lets pass.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from tallygate.core.periods import Calendar
from tallygate.limits.keys import Place
from tallygate.limits.limit import EXACT_INTEGER, Limit

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Counter(Protocol):
    """What one limit has counted, as of now."""

    @property
    def writes(self) -> Mapping[Place, str | None]:
        """Return the texts that are written once units were taken; None removes what is there."""
        ...

    @property
    def needed_until_us(self) -> int | None:
        """Return when the counter means nothing any more, in µs since 1970; None for never."""
        ...

    @property
    def remaining(self) -> int:
        """Return the units left of the amount, never below 0."""
        ...

    @property
    def reset_us(self) -> int | None:
        """Return the time until more units are left; None when that will not be, or nothing is used."""
        ...

    def fits(self, cost: int) -> bool:
        """Return whether `cost` units may be taken now."""
        ...

    def over(self, cost: int) -> int:
        """Return how many of `cost` units lie beyond the amount."""
        ...

    def retry_us(self, cost: int) -> int | None:
        """Return the time until `cost`, which does not fit now, would; None for never."""
        ...

    def take(self, cost: int) -> None:
        """Count `cost` units."""
        ...


class Bucket:
    """The counter of a rate. `_full` was its level at `_at_us`; `_level` is what time has left of it."""

    def __init__(self, limit: Limit, place: Place, stored: str | None, now_us: int) -> None:
        """Read the counter; None is an empty bucket."""
        self._limit = limit
        self._place = place
        self._now_us = now_us
        self._capacity = limit.burst * limit.window_us
        self._full, self._at_us = 0, now_us
        if stored is not None:
            level, self._at_us, window_us = map(int, stored.split(":"))
            if window_us != limit.window_us:
                level = ceil_div(level, window_us) * limit.window_us
            self._full = min(level, self._capacity)
        self._level = max(0, self._full - limit.amount * abs(now_us - self._at_us))

    @property
    def writes(self) -> Mapping[Place, str | None]:
        """Return `level:at_us:window_us`."""
        return {self._place: f"{self._full}:{self._at_us}:{self._limit.window_us}"}

    @property
    def needed_until_us(self) -> int | None:
        """Return when a full bucket would be empty."""
        return self._now_us + ceil_div(self._capacity, self._limit.amount)

    @property
    def remaining(self) -> int:
        """Return the whole units that fit now."""
        return (self._capacity - self._level) // self._limit.window_us

    @property
    def reset_us(self) -> int | None:
        """Return the time until one unit more fits."""
        return None if self._level == 0 else self._wait_us((self.remaining + 1) * self._limit.window_us)

    def fits(self, cost: int) -> bool:
        """Return whether the bucket has room."""
        return cost * self._limit.window_us <= self._capacity - self._level

    def over(self, cost: int) -> int:  # noqa: ARG002 - the port's signature
        """Return 0: a rate has no overage, what does not fit waits."""
        return 0

    def retry_us(self, cost: int) -> int | None:
        """Return the time until `cost` fits; more than the burst never does."""
        return None if cost > self._limit.burst else self._wait_us(cost * self._limit.window_us)

    def take(self, cost: int) -> None:
        """Pour `cost` units in; of a report that finds no room, what runs over is forgotten."""
        self._level = min(self._level + cost * self._limit.window_us, self._capacity)
        self._full, self._at_us = self._level, self._now_us

    def _wait_us(self, room: int) -> int:
        """Return the time until there is `room`; there is less now."""
        missing = room - (self._capacity - self._full)
        return self._at_us + ceil_div(missing, self._limit.amount) - self._now_us


class Tally:
    """The counter of a quota, in the period that ends at `end_us`."""

    def __init__(self, limit: Limit, place: Place, stored: str | None, now_us: int) -> None:
        """Read the counter; None is a period in which nothing was used."""
        if limit.calendar is None:
            message = "a quota needs a calendar"
            raise ValueError(message)
        self._limit = limit
        self._place = place
        self._now_us = now_us
        self._up_to = EXACT_INTEGER - 1 if limit.admits_up_to is None else limit.admits_up_to
        self._used = 0
        self.end_us = period_us(limit.calendar, now_us)[1]
        if stored is not None:
            used, end_us = map(int, stored.split(":"))
            if now_us < end_us:
                self._used, self.end_us = used, max(self.end_us, end_us)

    @property
    def writes(self) -> Mapping[Place, str | None]:
        """Return `used:end_us`."""
        return {self._place: f"{self._used}:{self.end_us}"}

    @property
    def needed_until_us(self) -> int | None:
        """Return the end of the period."""
        return self.end_us

    @property
    def remaining(self) -> int:
        """Return what is left of the amount; 0 while in overage."""
        return max(0, self._limit.amount - self._used)

    @property
    def reset_us(self) -> int | None:
        """Return the time until the next period."""
        return None if self._used == 0 else self.end_us - self._now_us

    def fits(self, cost: int) -> bool:
        """Return whether `cost` stays within the amount, or within the ceiling of an overage."""
        return cost == 0 or cost <= self._up_to - self._used

    def over(self, cost: int) -> int:
        """Return the part of `cost` beyond the amount."""
        return min(cost, max(0, self._used + cost - self._limit.amount))

    def retry_us(self, cost: int) -> int | None:
        """Return the time until the next period, if `cost` fits into one at all."""
        return None if cost > self._up_to else self.end_us - self._now_us

    def take(self, cost: int) -> None:
        """Count `cost` units as used."""
        self._used = min(self._used + cost, EXACT_INTEGER - 1)


def period_us(calendar: Calendar, at_us: int) -> tuple[int, int]:
    """Return start and end, in µs since 1970, of the period that contains `at_us`."""
    period = calendar.period_at(instant(at_us))
    return microseconds(period.start_at), microseconds(period.end_at)


def instant(at_us: int) -> datetime:
    """Return µs since 1970 as an instant."""
    return _EPOCH + timedelta(microseconds=at_us)


def microseconds(at: datetime) -> int:
    """Return an instant as µs since 1970, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def ceil_div(dividend: int, divisor: int) -> int:
    """Return the quotient, rounded up."""
    return -(-dividend // divisor)
