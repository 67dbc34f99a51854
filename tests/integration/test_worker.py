"""`tallygate worker`, and the same work beside the REST API: usage arrives, it is seen to, and it stops cleanly."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis
from support.background_process import process
from support.rest import running_rest, settings_of
from support.servers import Database
from support.usage import FIELD

from tallygate.app.background import background
from tallygate.core.clock import ManualClock, SystemClock
from tallygate.core.errors import LimiterUnavailableError
from tallygate.limits import keys
from tallygate.metrics import Metrics, WorkerMetrics
from tallygate.monitor import LedgerLag
from tallygate.storage import postgres
from tallygate.usage.buckets import Bucket, BucketName
from tallygate.usage.memory import MemoryUsageBuckets
from tallygate.usage.postgres import PostgresLedger

DEADLINE_S = 60.0


async def counted(redis_url: str, customer: str = "cus_1", units: int = 5, minutes_ago: int = 3) -> None:
    """Put a bucket of a minute that is over where enforcement does."""
    minute = int(time.time()) // 60 - minutes_ago
    async with Redis.from_url(redis_url) as client:
        fields = {FIELD: units, keys.OPENED_FIELD: minute * 60_000_000 + 7}
        await client.hset(keys.usage_bucket(customer, minute), mapping={name: str(fields[name]) for name in fields})
        await client.sadd(keys.index_key(customer), keys.index_member(customer, minute))


async def until_moved(database: Database, units: int) -> None:
    """Wait until the ledger has so many units."""
    connection = await asyncpg.connect(database.dsn)
    try:
        async with asyncio.timeout(DEADLINE_S):
            while (await connection.fetchval("SELECT coalesce(sum(quantity), 0) FROM usage_entries")) != units:
                pass
    finally:
        await connection.close()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait, in turns with everybody else, until it is so."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if is_so():
                return
            await asyncio.sleep(0)


def sample(metrics: WorkerMetrics | Metrics, name: str, **labels: str) -> float | None:
    """Return the value of a series."""
    return metrics.registry.get_sample_value(name, labels)


async def test_a_worker_moves_usage_and_stops_cleanly(tmp_path: Path, database: Database, redis_url: str) -> None:
    """What was counted is in the ledger, its pages say so, and SIGTERM ends it with 0."""
    await counted(redis_url)
    async with process(tmp_path, database, redis_url, "worker") as (child, url):
        await until_moved(database, 5)
        async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
            async with asyncio.timeout(DEADLINE_S):
                while "tallygate_usage_entries_total 1.0" not in (text := (await http.get(f"{url}/metrics")).text):
                    pass
            assert "tallygate_worker_leads 1.0" in text
            assert "tallygate_usage_backlog_buckets 0.0" in text
            assert (await http.get(f"{url}/readyz")).status_code == httpx.codes.OK
        os.kill(child.pid, signal.SIGTERM)
        assert await child.wait() == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("arguments", [("admin",), ("admin", "--no-worker")], ids=" ".join)
async def test_admin_does_the_work_unless_told_otherwise(
    tmp_path: Path, database: Database, redis_url: str, arguments: tuple[str, ...]
) -> None:
    """One process is enough for a small installation; a large one keeps them apart."""
    await counted(redis_url)
    async with process(tmp_path, database, redis_url, *arguments) as (child, _):
        if "--no-worker" not in arguments:
            await until_moved(database, 5)
        os.kill(child.pid, signal.SIGTERM)
        assert await child.wait() == 0
    if "--no-worker" in arguments:
        async with Redis.from_url(redis_url) as client:
            assert await client.scard(keys.index_key("cus_1")) == 1


async def test_two_workers_share_the_work_by_taking_turns(database: Database, redis_url: str) -> None:
    """One leads, the other stands by; when the first is stopped usage goes on arriving, once."""
    values = settings_of(database, redis_url, usage_round_s="0.05")
    first, second = WorkerMetrics("test"), WorkerMetrics("test")
    async with background(values, second):
        async with background(values, first):
            await counted(redis_url)
            await until_moved(database, 5)
            leads = sample(first, "tallygate_worker_leads"), sample(second, "tallygate_worker_leads")
            assert sorted(each or 0 for each in leads) == [0, 1]
        await counted(redis_url, "cus_2", 6)
        await until_moved(database, 11)
        await until(lambda: sample(second, "tallygate_worker_leads") == 1)
    assert (sample(first, "tallygate_worker_leads"), sample(second, "tallygate_worker_leads")) == (0, 0)


async def test_tokens_are_counted_by_state(database: Database, redis_url: str) -> None:
    """Operators see how many tokens there are, and how many of them work."""
    metrics = WorkerMetrics("test")
    async with running_rest(database, redis_url) as rest:
        contract = await rest.subscribed()
        tokens = [await rest.made("/v1/tokens", subscription=contract["id"]) for _ in range(3)]
        await rest.admin.post(f"/v1/tokens/{tokens[0]['id']}/revoke", json={})
        async with background(settings_of(database, redis_url), metrics):
            await until(lambda: sample(metrics, "tallygate_tokens", state="active") is not None)
            assert sample(metrics, "tallygate_tokens", state="active") == 2
            assert sample(metrics, "tallygate_tokens", state="revoked") == 1
    assert sample(metrics, "tallygate_tokens", state="active") is None


async def test_operators_see_which_export_keeps_old_usage(database: Database, redis_url: str) -> None:
    """Entries that outlive their time for an export are told while they wait, and so is what was dropped unsent."""
    metrics = WorkerMetrics("test")
    pool = await postgres.create_pool(database.dsn, max_size=1)
    for minute in (27_000_000, int(time.time()) // 60 - 401 * 1440):  # a month of 2021, and one 401 days ago
        bucket = BucketName("cus_1", minute, 5)
        await PostgresLedger(pool).store([Bucket.of(bucket, {FIELD.encode(): b"3"})])
    await pool.execute("INSERT INTO exports (name, last_id, updated_at) VALUES ('stripe', 0, now())")
    await postgres.close_pool(pool)
    name = "tallygate_usage_kept_for_export_seconds"
    async with background(settings_of(database, redis_url), metrics):
        await until(lambda: sample(metrics, name, export="stripe") is not None)
        assert (sample(metrics, name, export="stripe") or 0) > 1_000 * 86_400
        assert sample(metrics, "tallygate_usage_dropped_unsent_months_total") == 1
    assert sample(metrics, name, export="stripe") is None


async def test_the_lag_counts_from_the_first_look_where_no_worker_ever_ran() -> None:
    """An installation without a worker is seen: the lag grows from the start."""
    clock, metrics = ManualClock(SystemClock().now()), Metrics("test")
    buckets = MemoryUsageBuckets(clock)
    lag = LedgerLag(metrics.usage_ledger_lag, buckets, clock)
    await lag.look()
    clock.advance(500)
    await LedgerLag(metrics.usage_ledger_lag, buckets, clock).look()  # another process, later
    assert sample(metrics, "tallygate_usage_ledger_lag_seconds") == pytest.approx(500, abs=0.01)
    await buckets.tell_moved_to(int(clock.now().timestamp() - 70) * 1_000_000)
    await lag.look()
    assert sample(metrics, "tallygate_usage_ledger_lag_seconds") == pytest.approx(70, abs=1.01)


class SilentBuckets(MemoryUsageBuckets):
    """Buckets that answer once."""

    async def moved_to_us(self) -> int | None:
        """Answer, or not."""
        if (known := await super().moved_to_us()) is not None:
            raise LimiterUnavailableError("redis does not answer")
        return known


async def test_the_lag_grows_while_redis_is_silent() -> None:
    """What is not known is not taken for good."""
    clock, metrics = ManualClock(SystemClock().now()), Metrics("test")
    lag = LedgerLag(metrics.usage_ledger_lag, SilentBuckets(clock), clock)
    await lag.look()
    clock.advance(90)
    with pytest.raises(LimiterUnavailableError):
        await lag.look()
    assert sample(metrics, "tallygate_usage_ledger_lag_seconds") == pytest.approx(90, abs=0.01)
