"""Calendar periods, by example: month ends, leap years, daylight saving, and who begins when."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tallygate.core.periods import Calendar, Period, PeriodUnit, add_months


def utc(text: str) -> datetime:
    """Return an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(text: str, zone: str) -> datetime:
    """Return an instant by a zone's wall clock, the first of two where there are two."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def starts(calendar: Calendar, first: datetime, count: int) -> list[str]:
    """Return the local starts of `count` periods in a row from the one that contains `first`."""
    zone = ZoneInfo(calendar.timezone)
    period = calendar.period_at(first)
    found = []
    for _ in range(count):
        found.append(f"{period.start_at.astimezone(zone):%Y-%m-%d %H:%M}")
        period = calendar.period_at(period.end_at)
    return found


def test_anchor_day_31_clamps_and_comes_back() -> None:
    """Anchored on the 31st, periods begin on each month's last day, never drifting to the 28th."""
    calendar = Calendar(PeriodUnit.MONTH, utc("2025-10-31T12:00"))
    assert starts(calendar, utc("2026-01-31T12:00"), 6) == [
        "2026-01-31 12:00",
        "2026-02-28 12:00",
        "2026-03-31 12:00",
        "2026-04-30 12:00",
        "2026-05-31 12:00",
        "2026-06-30 12:00",
    ]


def test_anchor_day_30_has_a_february() -> None:
    """Anchored on the 30th, February begins on its last day, leap years included."""
    calendar = Calendar(PeriodUnit.MONTH, utc("2027-11-30T00:00"))
    assert starts(calendar, utc("2028-01-30T00:00"), 3) == ["2028-01-30 00:00", "2028-02-29 00:00", "2028-03-30 00:00"]


def test_a_year_from_leap_day() -> None:
    """Anchored on 29 February, years begin on the 28th, and on the 29th where there is one; 2100 has none."""
    calendar = Calendar(PeriodUnit.YEAR, utc("2024-02-29T08:00"))
    assert starts(calendar, utc("2024-02-29T08:00"), 5) == [
        "2024-02-29 08:00",
        "2025-02-28 08:00",
        "2026-02-28 08:00",
        "2027-02-28 08:00",
        "2028-02-29 08:00",
    ]
    assert starts(calendar, utc("2100-06-01T00:00"), 1) == ["2100-02-28 08:00"]


@pytest.mark.parametrize(
    ("unit", "start", "end"),
    [
        (PeriodUnit.MINUTE, "2028-02-29T13:45:00", "2028-02-29T13:46:00"),
        (PeriodUnit.HOUR, "2028-02-29T13:00:00", "2028-02-29T14:00:00"),
        (PeriodUnit.DAY, "2028-02-29T00:00:00", "2028-03-01T00:00:00"),
        (PeriodUnit.WEEK, "2028-02-28T00:00:00", "2028-03-06T00:00:00"),
        (PeriodUnit.MONTH, "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        (PeriodUnit.YEAR, "2028-01-01T00:00:00", "2029-01-01T00:00:00"),
    ],
)
def test_natural_periods_begin_where_the_calendar_has_them(unit: PeriodUnit, start: str, end: str) -> None:
    """Without an anchor, days begin at midnight, weeks on Monday, months on the 1st, years in January."""
    assert Calendar(unit).period_at(utc("2028-02-29T13:45:30.5")) == Period(utc(start), utc(end))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
    ],
)
def test_a_day_is_as_long_as_the_zone_makes_it(zone: str, day: str, hours: float) -> None:
    """Over a change to or from summer time a day lasts from midnight to midnight."""
    period = Calendar(PeriodUnit.DAY, timezone=zone).period_at(local(f"{day}T12:00", zone))
    assert period.start_at == local(f"{day}T00:00", zone)
    assert period.end_at - period.start_at == timedelta(hours=hours)


def test_the_local_time_of_an_anchor_is_kept_over_summer_time() -> None:
    """A contract of 10:00 in New York begins its months at 10:00 there, summer and winter."""
    calendar = Calendar(PeriodUnit.MONTH, local("2026-01-15T10:00", "America/New_York"), "America/New_York")
    assert starts(calendar, utc("2026-02-20T00:00"), 3) == ["2026-02-15 10:00", "2026-03-15 10:00", "2026-04-15 10:00"]


def test_a_local_time_that_does_not_exist_moves_forward() -> None:
    """02:30 in Berlin is skipped on 29 March 2026: that day's period begins at 03:30, and the next at 02:30 again."""
    calendar = Calendar(PeriodUnit.DAY, local("2026-03-20T02:30", "Europe/Berlin"), "Europe/Berlin")
    assert starts(calendar, local("2026-03-28T12:00", "Europe/Berlin"), 3) == [
        "2026-03-28 02:30",
        "2026-03-29 03:30",
        "2026-03-30 02:30",
    ]


@pytest.mark.parametrize("unit", [PeriodUnit.DAY, PeriodUnit.WEEK, PeriodUnit.MONTH, PeriodUnit.YEAR])
def test_an_anchor_in_the_hour_that_comes_twice_means_its_first(unit: PeriodUnit) -> None:
    """A time of day that an autumn day has twice is the first of the two, in every unit alike."""
    second = local("2026-10-25T02:30", "Europe/Berlin").replace(fold=1)
    period = Calendar(unit, second, "Europe/Berlin").period_at(second)
    assert period.start_at == second.astimezone(UTC) - timedelta(hours=1)


def test_a_day_that_a_zone_left_out_is_no_period() -> None:
    """Samoa had no 30 December 2011: the 29th is followed by the 31st."""
    calendar = Calendar(PeriodUnit.DAY, timezone="Pacific/Apia")
    assert starts(calendar, local("2011-12-29T12:00", "Pacific/Apia"), 2) == ["2011-12-29 00:00", "2011-12-31 00:00"]


@pytest.mark.parametrize("unit", [PeriodUnit.MINUTE, PeriodUnit.HOUR, PeriodUnit.DAY])
def test_the_zone_an_instant_is_written_in_does_not_matter(unit: PeriodUnit) -> None:
    """The same instant has the same period however it is written, just after summer time began too; ends are UTC."""
    for zone in ("Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"):
        instant = local("2026-10-04T02:40", zone)
        period = Calendar(unit).period_at(instant)
        assert period == Calendar(unit).period_at(instant.astimezone(UTC))
        assert period.start_at <= instant < period.end_at
        assert {period.start_at.tzinfo, period.end_at.tzinfo} == {UTC}


def test_time_before_the_anchor_has_periods_too() -> None:
    """A contract that begins later has a period now, on the same boundaries."""
    calendar = Calendar(PeriodUnit.MONTH, utc("2026-05-31T00:00"))
    assert calendar.period_at(utc("2026-02-10T00:00")) == Period(utc("2026-01-31T00:00"), utc("2026-02-28T00:00"))


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ("2024-01-31", 1, "2024-02-29"),
        ("2023-12-31", 2, "2024-02-29"),
        ("2024-02-29", -12, "2023-02-28"),
        ("2024-05-31", 0, "2024-05-31"),
    ],
)
def test_months_are_added_and_days_clamped(start: str, months: int, end: str) -> None:
    """A month further is the same day, or the month's last."""
    assert add_months(utc(start), months) == utc(end)
