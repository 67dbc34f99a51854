"""How long do answers about usage take when there are 12 months of 10,000 customers?

Builds the roll-ups by SQL: for each customer and month what they used by family, meter, route and outcome; days of the
last months, and hours of the last one for some customers. Redis holds what so many customers used in the minute under
way, which every answer looks at too. Then asks as `/v1/usage` does, page by page and by what rows are added up.
Goal: each below 200 ms.

    python -m benchmarks.usage_queries --directory DIR --only-build   # as long as it takes
    python -m benchmarks.usage_queries --directory DIR                # measures
"""

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.lab import Lab, laboratory, scratch
from benchmarks.measure import arguments, keep, run, show, spread_ms
from redis.asyncio import Redis

from tallygate.core.periods import add_months
from tallygate.limits.keys import OPENED_FIELD, Owner, index_key, index_member, usage_bucket, usage_field
from tallygate.storage.postgres import Connection, close_pool, connect, create_pool
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link
from tallygate.usage.question import By, Column, Key, UsageQuery
from tallygate.usage.reading import UsagePage, UsageReader
from tallygate.usage.redis_live import RedisLiveBuckets

GOAL_MS = 200
NEXT_AT = datetime(2026, 12, 1, tzinfo=UTC)
"""The months before this one are there."""
MONTHS, MONTHS_OF_DAYS = 12, 3
_WITH_HOURS = 500
_PAGE = 100
_LONGEST_S = 3600

# What one customer used in a unit of time: one family in three has a sister; two meters; 3 routes of 12; overage at
# times. Texts are as long as real ones.
_FILL = """
INSERT INTO {table}
SELECT 'cus_' || lpad(c::text, 26, '0'), 'sub_' || lpad(c::text, 26, '0'), 'fam_' || lpad((c * 10 + f)::text, 26, '0'),
    (ARRAY['free@3', 'pro@7', 'pro@8', 'team@2', 'enterprise@11'])[1 + c % 5],
    (ARRAY['requests', 'tokens'])[m], 'GET /v1/collections/{{id}}/route' || (c + r) % 12,
    CASE WHEN (c + r + m) % 9 = 0 THEN 'overage' ELSE 'allowed' END, at, 1000 + (c * 7919 + r * 31 + m) % 100000
FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 second', $4::interval) AS at,
    generate_series(1, $1) AS c, generate_series(0, CASE WHEN c % 3 = 0 THEN 1 ELSE 0 END) AS f,
    generate_series(1, 2) AS m, generate_series(1, $5) AS r
ORDER BY at
"""
_FILL_TOTALS = """
INSERT INTO usage_totals
SELECT day, plan, meter, route, outcome, quantity / 30
FROM (
    SELECT from_at, plan, meter, route, outcome, sum(quantity) AS quantity FROM usage_months GROUP BY 1, 2, 3, 4, 5) m,
    generate_series(from_at, from_at + interval '1 month' - interval '1 day', interval '1 day') AS day
"""


async def build(lab: Lab, customers: int) -> dict[str, object]:
    """Fill the roll-ups unless they are filled; return how large they are."""
    owner = await connect(lab.owner_dsn, application_name="benchmark", command_timeout_s=_LONGEST_S)
    try:
        if not await owner.fetchval("SELECT EXISTS (SELECT FROM usage_months)"):
            await _fill(owner, customers)
        sizes: dict[str, object] = {}
        for table in ("usage_months", "usage_days", "usage_hours", "usage_totals"):
            row = await owner.fetchrow(
                """SELECT coalesce(sum(reltuples), 0)::bigint AS rows,
                    coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS bytes
                FROM pg_class c WHERE relkind = 'r' AND relname ~ ('^' || $1 || '(_[0-9_]+)?$')""",
                table,
            )
            assert row is not None  # noqa: S101 - an aggregate has a row
            sizes[table] = {"rows": row["rows"], "MiB": row["bytes"] // 2**20}
        return sizes
    finally:
        await owner.close()


async def _fill(owner: Connection, customers: int) -> None:
    month = timedelta(days=30)
    instants = [NEXT_AT - month * number for number in range(-1, MONTHS + 2)]
    await owner.execute("SELECT make_usage_partitions_v1($1)", instants)
    for table, number, since_at, step, routes in (
        ("usage_months", customers, add_months(NEXT_AT, -MONTHS), "1 month", 3),
        ("usage_days", customers, add_months(NEXT_AT, -MONTHS_OF_DAYS), "1 day", 1),
        ("usage_hours", min(customers, _WITH_HOURS), add_months(NEXT_AT, -1), "1 hour", 1),
    ):
        text = _FILL.format(table=table).replace("$4::interval", f"interval '{step}'").replace("$5", str(routes))
        await owner.execute(text, number, since_at, NEXT_AT)
    await owner.execute(_FILL_TOTALS)
    await owner.execute("VACUUM ANALYZE")


async def fill_tail(url: str, customers: int) -> None:
    """Have so many customers use something in the last minute that is there."""
    minute = int((NEXT_AT - timedelta(minutes=1)).timestamp()) // 60
    client = Redis.from_url(url)
    try:
        await client.flushall()
        for first in range(1, customers + 1, 1000):
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(first, min(first + 1000, customers + 1)):
                    customer = f"cus_{number:026}"
                    owner = Owner(f"sub_{number:026}", "pro@7", f"fam_{number * 10:026}")
                    held: dict[Any, Any] = {  # as redis-py has it
                        usage_field(owner, meter, "allowed", f"GET /v1/collections/{{id}}/route{route}"): 17
                        for meter in ("requests", "tokens")
                        for route in range(3)
                    }
                    opened = str(minute * 60_000_000 + number)
                    pipeline.hset(usage_bucket(customer, minute), mapping={OPENED_FIELD: opened, **held})
                    pipeline.sadd(index_key(customer), index_member(customer, minute))
                await pipeline.execute()
    finally:
        await client.aclose()


Ask = Callable[[int], Awaitable[UsagePage]]


def questions(reader: UsageReader, customers: int, middle: Mapping[str, Key]) -> dict[str, Ask]:
    """Return what is asked, by name; each is told the number of the call."""
    chance = random.Random(3)  # noqa: S311 - whom to ask about
    whose = [f"cus_{chance.randrange(1, customers):026}" for _ in range(1000)]
    with_hours = [f"cus_{chance.randrange(1, min(customers, _WITH_HOURS)):026}" for _ in range(1000)]
    year, month = (add_months(NEXT_AT, -MONTHS), NEXT_AT), (add_months(NEXT_AT, -1), NEXT_AT)
    week = (NEXT_AT - timedelta(days=7), NEXT_AT)
    day = (NEXT_AT - timedelta(days=1), NEXT_AT)
    some = (Column.CUSTOMER, Column.METER)
    few = (Column.PLAN, Column.METER)

    def page(query: UsageQuery, after: Key | None = None, limit: int = _PAGE) -> Awaitable[UsagePage]:
        return reader.page(query, after, limit)

    by_month = UsageQuery(*year, By.MONTH)
    by_customer = UsageQuery(*year, By.MONTH, columns=some)
    by_plan = UsageQuery(*year, By.MONTH, columns=few)
    found: dict[str, Ask] = {
        "a customer, 12 months by month": lambda n: page(UsageQuery(*year, By.MONTH, customer=whose[n]), None, 1000),
        "a customer, a month by day": lambda n: page(UsageQuery(*month, By.DAY, customer=whose[n]), None, 1000),
        "a customer, a week by hour": lambda n: page(UsageQuery(*week, By.HOUR, customer=with_hours[n]), None, 1000),
        "all, 12 months, rows as they are": lambda _: page(by_month),
        "… a page in the middle": lambda _: page(by_month, middle["rows"]),
        "all, 12 months by customer and meter": lambda _: page(by_customer),
        "… a page in the middle ": lambda _: page(by_customer, middle["customers"]),
        "all, 12 months by plan and meter": lambda _: page(by_plan),
        "all, 12 months by route, one meter": lambda _: page(
            UsageQuery(*year, By.MONTH, meter="tokens", columns=(Column.ROUTE,))
        ),
        "all, a month by plan and meter": lambda _: page(UsageQuery(*month, By.MONTH, columns=few)),
        "all, a week by day, plan and meter": lambda _: page(UsageQuery(*week, By.DAY, columns=few)),
        "all of a day by hour and customer": lambda _: page(UsageQuery(*day, By.HOUR, columns=(Column.CUSTOMER,))),
    }
    return found


async def measure(lab: Lab, customers: int, calls: int) -> list[dict[str, object]]:
    """Ask every question so many times, after one that nobody counts."""
    pool = await create_pool(lab.control_dsn, min_size=1, command_timeout_s=60)
    links = link(lab.redis_url, LinkTerms(deadline_s=10))
    reader = UsageReader(pool, RedisLiveBuckets(links, deadline_s=10))
    half = f"cus_{customers // 2:026}"
    middle: dict[str, Key] = {
        "rows": (half, add_months(NEXT_AT, -1), "", "", "", "", "", ""),
        "customers": (half, add_months(NEXT_AT, -1), ""),
    }
    rows: list[dict[str, object]] = []
    try:
        for name, ask in questions(reader, customers, middle).items():
            page = await ask(0)
            took: list[float] = []
            for number in range(calls):
                began_s = time.perf_counter()
                page = await ask(number)
                took.append(time.perf_counter() - began_s)
            assert page.lacks is None  # noqa: S101 - an answer that lacks something is another measurement
            rows.append({"question": name.strip(), "rows": len(page.rows), **spread_ms(took)})
        return rows
    finally:
        await links.close()
        await close_pool(pool)


async def main(customers: int, active: int, calls: int, directory: Path, *, is_only_built: bool) -> None:
    """Build, measure, write down."""
    async with laboratory(directory, is_durable=not is_only_built) as lab:
        sizes = await build(lab, customers)
        if is_only_built:
            show("built", [sizes])
            return
        await fill_tail(lab.redis_url, active)
        rows = await measure(lab, customers, calls)
    show(f"{customers:,} customers; {active:,} of them active just now; the goal is {GOAL_MS} ms", rows)
    about = {"customers": customers, "active": active, "goal_ms": GOAL_MS, "tables": sizes}
    keep("usage_queries", {**about, "questions": rows})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--active", type=int, default=2_000, help="customers with something in Redis")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--directory", type=Path, help="where to build, and to find what was built")
    parser.add_argument("--only-build", action="store_true")
    given = parser.parse_args()
    with nullcontext(given.directory) if given.directory else scratch() as where:
        where.mkdir(exist_ok=True, mode=0o711)
        work = main(given.customers, given.active, given.calls, where.resolve(), is_only_built=given.only_build)
        run(work, longest_s=_LONGEST_S)
