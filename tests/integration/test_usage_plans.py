"""What Postgres does with questions about usage: a page costs a page, and what is about everybody a day's sums."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.servers import DatabaseFactory

from tallygate.storage.postgres import Connection, connect
from tallygate.usage.question import EVERY_COLUMN, By, Column, Key, UsageQuery
from tallygate.usage.reading import statement

DAYS = 60
SINCE, UNTIL = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
PAGE = 50
FILL = """
INSERT INTO {table}
SELECT 'cus_' || lpad(c::text, 26, '0'), 'sub_' || c, 'fam_' || c, 'pro@' || c % 3, 'requests',
    'GET /v1/route' || c % 9, 'allowed', date_trunc($3, $1::timestamptz + n * $2::interval, 'UTC'), n
FROM generate_series(0, {units} - 1) n, generate_series(1, 500) c
"""


@pytest.fixture(scope="module")
async def year(database_factory: DatabaseFactory) -> AsyncIterator[Connection]:
    """A database with the usage of many customers."""
    async with database_factory.clone() as database:
        connection = await connect(database.dsn, application_name="tests", command_timeout_s=60)
        try:
            instants = [SINCE, SINCE + timedelta(days=31)]
            await connection.execute("SELECT make_usage_partitions_v1($1)", instants)
            tables = (("usage_hours", "hour", 24), ("usage_days", "day", DAYS), ("usage_months", "month", 2))
            for table, unit, units in tables:
                step = timedelta(days=31) if unit == "month" else timedelta(**{f"{unit}s": 1})
                await connection.execute(FILL.format(table=table, units=units), SINCE, step, unit)
            await connection.execute(
                "INSERT INTO usage_totals SELECT from_at, plan, meter, route, outcome, sum(quantity) FROM usage_days "
                "GROUP BY 1, 2, 3, 4, 5"
            )
            await connection.execute("ANALYZE")
            yield connection
        finally:
            await connection.close(timeout=5)


async def rows_read(connection: Connection, query: UsageQuery, after: Key | None = None) -> float:
    """Return the most rows that any step of the plan took up."""
    text, values = statement(query, after, PAGE)
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {text}", *values)
    return most(json.loads(explained)[0]["Plan"])


def most(plan: dict[str, Any]) -> float:
    """Return the most rows that any step took up, those it threw away included."""
    own: float = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return max(own, *(most(part) for part in plan.get("Plans", ())), 0)


def key_in_the_middle(query: UsageQuery) -> Key:
    """Return a key after which half of the rows come."""
    texts = ["cus_" + "250".zfill(26) if column is Column.CUSTOMER else "" for column in query.columns]
    return (*texts[: query.time_at], SINCE, *texts[query.time_at :])


@pytest.mark.parametrize("is_in_the_middle", [False, True])
@pytest.mark.parametrize("by", [By.DAY, By.MONTH])
@pytest.mark.parametrize("columns", [EVERY_COLUMN, (Column.CUSTOMER, Column.METER)], ids=len)
async def test_a_page_of_everybody_is_a_page(
    year: Connection, by: By, columns: tuple[Column, ...], *, is_in_the_middle: bool
) -> None:
    """Whether it is the first or one in the middle, as it is or added up by customer: a page's rows, and few more."""
    query = UsageQuery(SINCE, UNTIL, by, columns=columns)
    after = key_in_the_middle(query) if is_in_the_middle else None
    assert await rows_read(year, query, after) <= 2 * PAGE


@pytest.mark.parametrize("by", [By.HOUR, By.DAY, By.MONTH])
async def test_one_customer_is_found_without_the_others(year: Connection, by: By) -> None:
    """Of 500 customers the rows of one are looked at, however they are added up."""
    for columns in (EVERY_COLUMN, (Column.METER,)):
        query = UsageQuery(SINCE, UNTIL, by, customer="cus_" + "7".zfill(26), columns=columns)
        assert await rows_read(year, query) <= DAYS


@pytest.mark.parametrize("by", [By.DAY, By.MONTH])
async def test_what_is_about_everybody_does_not_go_through_everybody(year: Connection, by: By) -> None:
    """Sums of a day, of which there are as many for a million customers as for five hundred."""
    sums = await year.fetchval("SELECT count(*) FROM usage_totals")
    for columns in ((Column.PLAN, Column.METER), (Column.ROUTE,), (Column.OUTCOME,)):
        assert await rows_read(year, UsageQuery(SINCE, UNTIL, by, columns=columns)) <= sums
    assert sums < DAYS * 10
