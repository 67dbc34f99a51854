"""Questions about usage: what can be asked for, and what is said where it cannot."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from support.usage_rows import NOON, made_up, summed

from tallygate.core.errors import InputError
from tallygate.usage.question import EVERY_COLUMN, By, Column, UsageQuery, chosen, row_of, span, sums

JUNE, JULY = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize("by", By)
def test_without_instants_the_question_is_about_this_month(by: By) -> None:
    """The month that contains now, whatever its rows are about."""
    assert span(by, None, None, NOON) == (JUNE, JULY)


def test_what_is_left_out_is_the_month_before_or_the_present_unit() -> None:
    """An end alone is that of its month so far; a beginning alone goes on until the unit under way is over."""
    assert span(By.DAY, None, JUNE + DAY, NOON) == (JUNE, JUNE + DAY)
    assert span(By.DAY, None, JULY, NOON) == (JUNE, JULY)
    assert span(By.HOUR, JUNE, None, NOON) == (JUNE, NOON + HOUR)
    assert span(By.MONTH, JULY, None, NOON) == (JULY, datetime(2026, 8, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("by", "at", "mend"),
    [
        (By.HOUR, NOON + timedelta(minutes=1), "2026-06-15T12:00:00Z"),
        (By.DAY, NOON, "2026-06-15T00:00:00Z"),
        (By.MONTH, JUNE + DAY, "2026-06-01T00:00:00Z"),
        (By.DAY, datetime(2026, 6, 15, tzinfo=timezone(2 * HOUR)), "2026-06-14T00:00:00Z"),
    ],
)
def test_an_instant_within_a_unit_is_refused_with_the_one_that_begins_it(by: By, at: datetime, mend: str) -> None:
    """A row is whole: part of an hour or a day is never answered as if it were all of it."""
    for field, from_at, to_at in (("from", at, None), ("to", None, at)):
        with pytest.raises(InputError, match=mend) as refused:
            span(by, from_at, to_at, NOON)
        assert refused.value.field == field


def test_an_empty_or_endless_time_is_refused() -> None:
    """Before it begins nothing ends, and beyond the calendar there is nothing to look at."""
    with pytest.raises(InputError, match="is not after"):
        span(By.DAY, JULY, JULY, NOON)
    for year in (1, 9999):
        with pytest.raises(InputError, match="too far"):
            span(By.DAY, datetime(year, 1, 1, tzinfo=UTC), None, NOON)


def test_columns_are_named_in_any_order_and_stand_in_one() -> None:
    """Their order is that of the rows' keys; none named means all."""
    assert chosen(["meter", "customer"]) == (Column.CUSTOMER, Column.METER)
    assert chosen([]) == EVERY_COLUMN
    with pytest.raises(InputError, match=r"'colour'.*customer, subscription"):
        chosen(["meter", "colour"])


@pytest.mark.parametrize("by", By)
@pytest.mark.parametrize("columns", [EVERY_COLUMN, (Column.METER,), (Column.CUSTOMER, Column.OUTCOME)], ids=len)
def test_entries_come_to_the_rows_one_adds_up_by_hand(by: By, columns: tuple[Column, ...]) -> None:
    """Each unit is in the row of its own time and columns, and what is not asked for in none."""
    entries = made_up(500)
    query = UsageQuery(JUNE, JULY, by, plan="pro", meter="requests", columns=columns)
    rows = [row_of(query, key, quantity) for key, quantity in sums(query, entries).items()]
    told = {(*(getattr(row, column.value) for column in columns), row.from_at): row.quantity for row in rows}
    assert told == summed(query, entries)
    for row in rows:
        assert row.from_at < row.to_at == by.start_of(row.to_at)
        assert all((getattr(row, column.value) is None) == (column not in columns) for column in Column)
