"""How Postgres adds up what bills read, where there is much of it."""

import json
from datetime import UTC, datetime, timedelta

import asyncpg
from support.servers import Database

from tallygate.storage.queries import load

JUNE, JULY = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
CUTS = [JUNE, JUNE + timedelta(days=9), JUNE + timedelta(days=10), JULY]
A_MONTH = """
INSERT INTO usage_entries (recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route, outcome,
                           entry, minute_at, quantity)
SELECT at, 1, 'cus_1', 'sub_1', 'fam_1', 'pro@1', 'bytes', 'GET /v1/things', 'allowed', 'counted', at, 7
FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 minute', interval '1 minute') AS at
"""


async def test_a_busy_month_is_added_up_in_memory(database: Database) -> None:
    """However small the memory, no row goes by way of the disk: Postgres keeps the sums, and does not sort rows."""
    statement = load("tallygate.billing", "queries.sql")["billed_usage"]
    connection = await asyncpg.connect(database.dsn)
    try:
        await connection.execute("SELECT make_usage_partitions_v1($1)", [JUNE, JULY])
        await connection.execute(A_MONTH, JUNE, JULY)
        await connection.execute("ANALYZE usage_entries")
        await connection.execute("SET work_mem = '64kB'")
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", "sub_1", CUTS)
        sums = await connection.fetch(statement, "sub_1", CUTS)
    finally:
        await connection.close()
    assert json.loads(explained)[0]["Plan"]["Temp Written Blocks"] == 0
    assert [(row["place"], row["rows"]) for row in sums] == [(1, 9 * 1440), (2, 1440), (3, 20 * 1440)]
