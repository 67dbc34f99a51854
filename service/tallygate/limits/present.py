"""The present by Redis's clock: which period each calendar is in and what credits hold, remembered while it lasts.

Redis alone says what time it is. Here is a guess, good enough to compute the periods that a call sends along;
the script refuses those that are over, and its answer corrects the guess. For one event loop.
"""

from collections.abc import Hashable
from typing import TypeVar

from tallygate.core.clock import Clock
from tallygate.core.periods import Calendar
from tallygate.limits.algorithms import microseconds, period_us
from tallygate.limits.credits import Balance, balance_at
from tallygate.limits.limit import Limit

_REMEMBERED = 10_000

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Present:
    """Our clock, corrected to Redis's, and what is true at its time."""

    def __init__(self, clock: Clock) -> None:
        """Take `clock` for right until Redis says otherwise."""
        self._clock = clock
        self._ahead_us = 0
        self._periods: dict[Calendar, tuple[int, int]] = {}
        self._balances: dict[Limit, Balance] = {}

    def correct(self, redis_now_us: int) -> None:
        """Learn how far Redis's clock is ahead of ours; a reply's way makes it a little late."""
        self._ahead_us = redis_now_us - microseconds(self._clock.now())

    def period(self, calendar: Calendar) -> tuple[int, int]:
        """Return start and end, in µs since 1970, of the present period."""
        now_us = self._now_us()
        known = self._periods.get(calendar)
        if known is None or not known[0] <= now_us < known[1]:
            known = _put(self._periods, calendar, period_us(calendar, now_us))
        return known

    def balance(self, limit: Limit) -> Balance:
        """Return what the credits of `limit` hold at present."""
        now_us = self._now_us()
        known = self._balances.get(limit)
        if known is None or not known.since_us <= now_us < known.until_us:
            known = _put(self._balances, limit, balance_at(limit, now_us))
        return known

    def _now_us(self) -> int:
        return microseconds(self._clock.now()) + self._ahead_us


def _put(remembered: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    if len(remembered) >= _REMEMBERED:
        remembered.clear()
    remembered[key] = value
    return value
