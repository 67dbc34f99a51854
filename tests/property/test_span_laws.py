"""Spans of the ledger, cut into what is added up already: nothing is read twice, left out, or finer than need be."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from tallygate.core.periods import add_months
from tallygate.insights.spans import Grain, cover

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MINUTES = st.datetimes(datetime(2023, 11, 1), datetime(2025, 3, 1)).map(  # noqa: DTZ001 - it gets its zone here
    lambda at: at.replace(second=0, microsecond=0, tzinfo=UTC)
)
AT_MOST = {Grain.MINUTE: 118, Grain.HOUR: 46, Grain.DAY: 60}


@given(MINUTES, MINUTES)
@example(datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))
@example(datetime(2024, 1, 31, 23, 59, tzinfo=UTC), datetime(2024, 3, 1, 0, 1, tzinfo=UTC))
def test_the_parts_are_the_span(one: datetime, other: datetime) -> None:
    """Each begins where the one before ends, from the beginning of the span to its end."""
    from_at, to_at = sorted((one, other))
    at = from_at
    for _, part_from, part_to in cover(from_at, to_at):
        assert at == part_from < part_to
        at = part_to
    assert at == to_at


@given(MINUTES, MINUTES)
def test_the_parts_are_whole_units_and_few(one: datetime, other: datetime) -> None:
    """A part is at boundaries of its roll-up; of finer ones there is no more than what coarser ones leave over."""
    from_at, to_at = sorted((one, other))
    units: Counter[Grain] = Counter()
    for grain, part_from, part_to in cover(from_at, to_at):
        at = part_from
        while at < part_to:
            assert grain is Grain.MINUTE or at.minute == 0
            assert grain in (Grain.MINUTE, Grain.HOUR) or at.hour == 0
            assert grain is not Grain.MONTH or at.day == 1
            at = _after(at, grain)
            units[grain] += 1
        assert at == part_to
    assert all(units[grain] <= most for grain, most in AT_MOST.items())


def _after(at: datetime, grain: Grain) -> datetime:
    steps = {Grain.MINUTE: MINUTE, Grain.HOUR: HOUR, Grain.DAY: DAY}
    return add_months(at, 1) if grain is Grain.MONTH else at + steps[grain]
