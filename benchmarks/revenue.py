"""What does it cost the worker to tell what all subscriptions come to, once a minute, when there are 10,000?

Each live customer used three routes in every hour and day that the answer reads, and something in every minute at the
beginning of their billing period. Reads as the worker does, and tells wall time, CPU of this process and of Postgres's
for it, and how long the event loop was kept from others.
Goal: below 10 s of CPU in all, and 20 ms at a stretch.

    python -m benchmarks.revenue
"""

import asyncio
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.lab import laboratory, scratch
from benchmarks.measure import arguments, keep, run, show
from benchmarks.population import populate

from tallygate.admin.operations import ControlPlane
from tallygate.admin.postgres import Registry
from tallygate.core.clock import SystemClock
from tallygate.insights.postgres import PostgresRevenue
from tallygate.insights.revenue import Revenue
from tallygate.storage.postgres import Connection, Pool, close_pool, connect, create_pool
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import TokenFormat

GOAL_CPU_S, GOAL_STRETCH_MS = 10, 20
_TICK_S = 0.001

_WHO = """
SELECT s.customer_id, s.id, 'fam_' || s.id, s.plan_key || '@' || s.plan_version, 'requests', 'GET /v1/route' || route,
    CASE WHEN s.plan_key = 'pro' AND route = 1 THEN 'overage' ELSE 'allowed' END, {at}, 1000 + length(s.id) * route
FROM subscriptions s, generate_series(1, {routes}) AS route, {when}
WHERE s.ends_at IS NULL AND s.environment = 'live'
"""
# Billing periods begin on the anchor's day of the month; days 29 to 31 are taken for the 28th, which changes little.
_BEGAN = """LATERAL (SELECT make_timestamptz(y, m, least(d, 28), h, i, 0, 'UTC') AS at FROM (
    SELECT date_part('year', month)::int AS y, date_part('month', month)::int AS m,
        date_part('day', s.anchor_at)::int AS d, date_part('hour', s.anchor_at)::int AS h,
        date_part('minute', s.anchor_at)::int AS i
    FROM generate_series(now() - interval '1 month', now(), interval '1 month') AS month) parts) began"""
_AN_HOUR_EACH = (
    "generate_series(date_trunc('day', began.at), date_trunc('day', began.at) + '23 hours', '1 hour') AS hour"
)
_A_MINUTE_EACH = """
generate_series(date_trunc('hour', began.at), date_trunc('hour', began.at) + '59 minutes', '1 minute') AS minute"""
_FILL = (
    ("usage_months", 3, "at", "generate_series(date_trunc('month', now()) - interval '1 year', now(), '1 month') at"),
    ("usage_days", 3, "at", "generate_series(date_trunc('day', now()) - interval '40 days', now(), '1 day') at"),
    ("usage_hours", 3, "hour", f"{_BEGAN}, {_AN_HOUR_EACH}"),
    ("usage_entries", 1, "minute", f"{_BEGAN}, {_A_MINUTE_EACH}"),
)
"""Roll-ups, how many routes were used, and when."""
_ENTRIES = """
INSERT INTO usage_entries (recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route, outcome,
                           entry, minute_at, quantity)
SELECT at, 1, customer, subscription, family, plan, meter, route, outcome, 'counted', at, units
FROM ({who}) AS used (customer, subscription, family, plan, meter, route, outcome, at, units)
"""


async def fill(owner: Connection) -> None:
    """Have everybody use something."""
    await owner.execute("UPDATE subscriptions SET anchor_at = date_trunc('minute', anchor_at)")
    months = await owner.fetchval("SELECT array_agg(now() - n * interval '1 month') FROM generate_series(-1, 13) n")
    await owner.execute("SELECT make_usage_partitions_v1($1)", months)
    for table, routes, at, when in _FILL:
        who = _WHO.format(at=at, routes=routes, when=when)
        text = _ENTRIES.format(who=who) if table == "usage_entries" else f"INSERT INTO {table} {who}"
        await owner.execute(text, timeout=600)
    await owner.execute("VACUUM ANALYZE", timeout=600)


@contextmanager
def stretches() -> Iterator[list[float]]:
    """Note what CPU was used each time before a task that asks for very little had its turn, while the block runs."""
    found: list[float] = []

    async def tick() -> None:
        while True:
            asked_s = time.process_time()
            await asyncio.sleep(_TICK_S)
            found.append(time.process_time() - asked_s)

    task = asyncio.create_task(tick())
    try:
        yield found
    finally:
        task.cancel()


def cpu_s_of(pid: int) -> float:
    """Return the CPU time that a process has used, as Linux tells it."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def measure(pool: Pool, rounds: int) -> tuple[list[dict[str, object]], Revenue]:
    """Read so many times; the first knows no plan yet."""
    source, found = PostgresRevenue(pool), Revenue()
    rows: list[dict[str, object]] = []
    gc.collect()
    gc.freeze()  # what was built for this is no part of a worker's memory, and is not looked through with it
    backend: int = await pool.fetchval("SELECT pg_backend_pid()")  # there is one connection
    for number in range(rounds):
        with stretches() as late:
            began_s, cpu_s, theirs_s = time.perf_counter(), time.process_time(), cpu_s_of(backend)
            found = await source.read(datetime.now(UTC))
            took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        rows.append(
            {
                "round": number + 1, "wall s": took_s, "our CPU s": cpu_s,
                "Postgres CPU s": cpu_s_of(backend) - theirs_s,
                "longest stretch ms": max(late) * 1000, "median of them": median(late) * 1000,
            }
        )  # fmt: skip
    return rows, found


async def main(customers: int, rounds: int) -> None:
    """Build, measure, write down."""
    with scratch() as directory:
        async with laboratory(directory, is_durable=False) as lab:
            pool = await create_pool(lab.control_dsn, min_size=1, max_size=1, command_timeout_s=60)
            owner = await connect(lab.owner_dsn, application_name="benchmark", command_timeout_s=600)
            try:
                peppers = Peppers(Pepper("the pepper of benchmarks, known to all"))
                control = ControlPlane(Registry(pool), SystemClock(), TokenFormat(), peppers)
                await populate(
                    control.acting("benchmark"), owner, customers=customers, tokens=customers, whale=1, known=1
                )  # fmt: skip
                await fill(owner)
                rows, found = await measure(pool, rounds)
            finally:
                await owner.close()
                await close_pool(pool)
    show(f"{customers:,} customers; {sum(found.customers.values()):,} live subscriptions", rows)
    keep("revenue", {"customers": customers, "live": sum(found.customers.values()), "rounds": rows})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    run(main(given.customers, given.rounds))
