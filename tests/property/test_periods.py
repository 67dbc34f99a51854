"""Laws of calendar periods: they tile time, whatever the unit, anchor, zone and instant."""

import calendar as month_lengths
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from tallygate.core.periods import Calendar, PeriodUnit

ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "Europe/Dublin",
        "America/New_York",
        "America/Havana",
        "America/Sao_Paulo",
        "Africa/Casablanca",
        "Asia/Kolkata",
        "Asia/Beirut",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
    ]
)
INSTANTS = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
CALENDARS = st.builds(Calendar, st.sampled_from(list(PeriodUnit)), st.none() | INSTANTS, ZONES)
ANCHORED = st.builds(
    Calendar,
    st.sampled_from([PeriodUnit.DAY, PeriodUnit.WEEK, PeriodUnit.MONTH, PeriodUnit.YEAR]),
    INSTANTS,
    ZONES,
)
MICROSECOND = timedelta(microseconds=1)


@st.composite
def near_transitions(draw: st.DrawFn) -> datetime:
    """Return an instant within a day and a half of a change of some zone's clocks, or any other."""
    zone = ZoneInfo(draw(ZONES))
    at = draw(INSTANTS)
    for _ in range(400):
        if (at + timedelta(days=1)).astimezone(zone).utcoffset() != at.astimezone(zone).utcoffset():
            return at + timedelta(microseconds=draw(st.integers(0, 129_600_000_000)))
        at += timedelta(days=1)
    return at


@given(CALENDARS, INSTANTS | near_transitions())
def test_periods_tile_time(calendar: Calendar, at: datetime) -> None:
    """Every instant lies in one period, the one before ends where it begins, the one after begins where it ends."""
    period = calendar.period_at(at)
    assert period.start_at <= at < period.end_at
    assert calendar.period_at(period.end_at).start_at == period.end_at
    assert calendar.period_at(period.start_at - MICROSECOND).end_at == period.start_at


@given(CALENDARS, INSTANTS | near_transitions(), st.floats(0, 1, exclude_max=True))
def test_a_period_is_the_same_seen_from_anywhere_in_it(calendar: Calendar, at: datetime, part: float) -> None:
    """No two instants of a period disagree about it, so all workers count in the same one."""
    period = calendar.period_at(at)
    inside = period.start_at + (period.end_at - period.start_at) * part
    assert calendar.period_at(min(inside, period.end_at - MICROSECOND)) == period


@given(CALENDARS, INSTANTS | near_transitions(), ZONES)
def test_an_instant_is_an_instant_in_any_zone(calendar: Calendar, at: datetime, zone: str) -> None:
    """The zone an instant is written in does not change its period."""
    assert calendar.period_at(at.astimezone(ZoneInfo(zone))) == calendar.period_at(at)


@given(ANCHORED, INSTANTS | near_transitions())
def test_anchored_periods_keep_the_local_time(calendar: Calendar, at: datetime) -> None:
    """A period begins at the anchor's local time of day, except on a day that has no such time."""
    assert calendar.anchor_at is not None
    zone = ZoneInfo(calendar.timezone)
    time = calendar.anchor_at.astimezone(zone).time()
    start = calendar.period_at(at).start_at.astimezone(zone)
    if start.time() != time:
        missing = datetime.combine(start.date(), time, zone)
        assert not exists(missing) or not exists(missing - timedelta(days=1))


@given(INSTANTS, ZONES, INSTANTS)
def test_anchored_months_clamp_from_the_original_day(anchor: datetime, timezone: str, at: datetime) -> None:
    """A month begins on the anchor's day, or on its last day when it is shorter; it never drifts."""
    zone = ZoneInfo(timezone)
    start = Calendar(PeriodUnit.MONTH, anchor, timezone).period_at(at).start_at.astimezone(zone)
    day = min(anchor.astimezone(zone).day, month_lengths.monthrange(start.year, start.month)[1])
    time = anchor.astimezone(zone).time()
    assert start.day == day or not exists(datetime.combine(start.date().replace(day=day), time, zone))


def exists(local: datetime) -> bool:
    """Return whether a wall clock of the zone ever shows this time."""
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None)
