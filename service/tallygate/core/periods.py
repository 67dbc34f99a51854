"""Calendar periods: when a quota's minute, day, month or billing period begins and ends.

A period is half-open: it contains its start and not its end. Natural periods begin on the calendar's own
boundaries in a time zone. Anchored periods (billing) begin on the anchor's day and time of day and are
always computed from the *original* anchor, so day 31 gives 31 January, 28 February, 31 March. Over a
daylight-saving change the local time of day is kept; a local time that does not exist that day moves
forward by as much as the clock does, and of one that comes twice the first is meant (`zoneinfo` with fold 0,
as RFC 5545 §3.3.5 has it). Minutes and hours are UTC's: where a zone is half an hour off, so are its hours.
"""

import calendar as month_lengths
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

_MONTHS_PER_YEAR = 12


class PeriodUnit(StrEnum):
    """How long a period is."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


_FIXED = {PeriodUnit.MINUTE: timedelta(minutes=1), PeriodUnit.HOUR: timedelta(hours=1)}
_MONTHS = {PeriodUnit.MONTH: 1, PeriodUnit.YEAR: 12}
_DAYS = {PeriodUnit.DAY: 1, PeriodUnit.WEEK: 7}
_MONDAY = datetime(2024, 1, 1)  # noqa: DTZ001 - a local wall-clock time, placed in a zone when used
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open span of time; both ends aware, in UTC."""

    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class Calendar:
    """A rule that cuts time into periods.

    `anchor_at` None means the calendar's own boundaries (weeks begin on Monday); otherwise periods of
    days, weeks, months or years begin at the anchor's local day and time. `timezone` is an IANA name.
    """

    unit: PeriodUnit
    anchor_at: datetime | None = None
    timezone: str = "UTC"

    def period_at(self, at: datetime) -> Period:
        """Return the period that contains the instant `at` (aware; before the anchor is fine)."""
        at = at.astimezone(UTC)  # within one zone Python reckons by the wall clock
        fixed = _FIXED.get(self.unit)
        if fixed is not None:
            start = at - (at - _EPOCH) % fixed
            return Period(start, start + fixed)
        zone = ZoneInfo(self.timezone)
        number = self.number_at(at)
        return Period(self._boundary(number, zone), self._boundary(number + 1, zone))

    def number_at(self, at: datetime) -> int:
        """Return the number of the period that contains `at`; the period after it has the next number."""
        fixed = _FIXED.get(self.unit)
        if fixed is not None:
            return (at - _EPOCH) // fixed
        zone = ZoneInfo(self.timezone)
        number = self._number_near(at.astimezone(zone).replace(tzinfo=None), zone)
        while self._boundary(number, zone) > at:
            number -= 1
        while self._boundary(number + 1, zone) <= at:
            number += 1
        return number

    def _origin(self, zone: ZoneInfo) -> datetime:
        if self.anchor_at is None:
            return _MONDAY
        return self.anchor_at.astimezone(zone).replace(tzinfo=None, fold=0)

    def _number_near(self, local: datetime, zone: ZoneInfo) -> int:
        origin = self._origin(zone)
        if self.unit in _DAYS:
            return (local - origin).days // _DAYS[self.unit]
        months = (local.year - origin.year) * _MONTHS_PER_YEAR + local.month - origin.month
        return months // _MONTHS[self.unit]

    def _boundary(self, number: int, zone: ZoneInfo) -> datetime:
        origin = self._origin(zone)
        if self.unit in _DAYS:
            local = origin + timedelta(days=number * _DAYS[self.unit])
        else:
            local = add_months(origin, number * _MONTHS[self.unit])
        return local.replace(tzinfo=zone).astimezone(UTC)


def add_months(at: datetime, months: int) -> datetime:
    """Return `at` moved by whole months, its day clamped to the length of the month it lands in."""
    year, month = divmod(at.year * _MONTHS_PER_YEAR + at.month - 1 + months, _MONTHS_PER_YEAR)
    day = min(at.day, month_lengths.monthrange(year, month + 1)[1])
    return at.replace(year=year, month=month + 1, day=day)
