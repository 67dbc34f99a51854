"""What all subscriptions come to, as the worker's series: shown while they are known, by the one that leads."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import httpx
import pytest
from support.background_process import process
from support.office import Office, office
from support.rest import running_rest, settings_of
from support.servers import Database

from tallygate.app.background import background
from tallygate.app.revenue import RevenueSeries
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.insights.postgres import PostgresRevenue
from tallygate.metrics import WorkerMetrics
from tallygate.storage.postgres import close_pool, create_pool

ACTIVE = {"plan": "pro", "status": "active"}
NAMES = (
    "tallygate_subscriptions",
    "tallygate_customers",
    "tallygate_included_units",
    "tallygate_used_units",
    "tallygate_overage_amount",
    "tallygate_recurring_amount",
)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait, in turns with everybody else, until it is so."""
    async with asyncio.timeout(60):
        while True:
            if is_so():
                return
            await asyncio.sleep(0)


def active(metrics: WorkerMetrics) -> float | None:
    """Return how many subscriptions of `pro` are told to be active."""
    return metrics.registry.get_sample_value("tallygate_subscriptions", ACTIVE)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the schema's owner, who can break things."""
    connection = await asyncpg.connect(database.dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with one customer, on `pro`."""
    async with office(database) as opened:
        await opened.open_account()
        yield opened


async def test_what_is_not_known_any_more_is_not_shown(
    desk: Office, database: Database, owner: asyncpg.Connection
) -> None:
    """Numbers outlive two rounds in vain, not three; and come back with Postgres."""
    metrics, pool = WorkerMetrics("test"), await create_pool(database.dsn)
    series = RevenueSeries(PostgresRevenue(pool), metrics, desk.clock)
    try:
        await series.round()
        await owner.execute("ALTER TABLE customers RENAME TO elsewhere")
        seen = []
        for _ in range(3):
            await series.round()
            seen.append(active(metrics))
        assert seen == [1, 1, None]
        await owner.execute("ALTER TABLE elsewhere RENAME TO customers")
        await series.round()
        assert active(metrics) == 1
    finally:
        await close_pool(pool)


async def test_a_contract_that_cannot_be_read_is_told_and_breaks_nothing(
    desk: Office, database: Database, owner: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a sum is no sum: the log says why, and nothing is shown."""
    metrics, pool = WorkerMetrics("test"), await create_pool(database.dsn)
    series = RevenueSeries(PostgresRevenue(pool), metrics, desk.clock)
    try:
        await owner.execute("UPDATE licenses SET terms = '{}'")
        await series.round()
    finally:
        await close_pool(pool)
    assert active(metrics) is None
    assert "cannot be reckoned" in capsys.readouterr().out


async def test_series_of_plans_that_nobody_has_any_more_are_gone(desk: Office, database: Database) -> None:
    """A plan that the last customer left has no series that stays at the last number."""
    metrics, pool = WorkerMetrics("test"), await create_pool(database.dsn)
    series = RevenueSeries(PostgresRevenue(pool), metrics, desk.clock)
    try:
        await series.round()
        assert active(metrics) == 1
        (made,) = await desk.subscriptions.list()
        await desk.subscriptions.cancel(made.id)
        await series.round()
        assert active(metrics) is None
    finally:
        await close_pool(pool)


async def test_the_worker_that_leads_tells_them(database: Database, redis_url: str) -> None:
    """One that stands by, or does not lead any more, shows none: two would be added up."""
    first, second = WorkerMetrics("test"), WorkerMetrics("test")
    values = settings_of(database, redis_url)
    async with running_rest(database, redis_url) as rest:
        contract = await rest.subscribed()
        labels = {"plan": contract["plan"].partition("@")[0], "status": "active"}
        async with background(values, first):
            await until(lambda: first.registry.get_sample_value("tallygate_subscriptions", labels) == 1)
            async with background(values, second):
                assert second.registry.get_sample_value("tallygate_subscriptions", labels) is None
    assert not [sample.name for family in first.registry.collect() for sample in family.samples if sample.name in NAMES]


@pytest.mark.parametrize("is_asked", [True, False], ids=["asked", "not asked"])
async def test_admin_shows_its_workers_series_where_it_is_asked_to(
    tmp_path: Path, database: Database, redis_url: str, *, is_asked: bool
) -> None:
    """`admin` does the work and has a page for it; unless asked it takes no port, for `serve` may want it."""
    listen = f"{LOOPBACK}:{free_port()}"
    more = {"admin_metrics_listen": listen} if is_asked else {"metrics_listen": listen}
    async with (
        process(tmp_path, database, redis_url, "admin", **more) as (child, _),
        httpx.AsyncClient(base_url=f"http://{listen}", timeout=20, trust_env=False) as http,
    ):
        if is_asked:
            assert "tallygate_worker_leads" in (await http.get("/metrics")).text
            assert (await http.get("/healthz")).status_code == httpx.codes.OK
        else:
            with pytest.raises(httpx.ConnectError):
                await http.get("/metrics")
        os.kill(child.pid, signal.SIGTERM)
        assert await child.wait() == 0
