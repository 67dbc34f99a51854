"""What is done in the background: usage moved to the ledger, charges given back, the ledger and its tables kept.

Owns which work there is, how often, and what is logged and measured of it. Does not own any of it, nor who runs this:
`worker` is a process of its own, `admin` runs it beside the REST API. Of all processes one leads and does the work
(`usage.leader`); the others stand by. A dependency that is away is met in the next round.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import structlog

from tallygate import __version__
from tallygate.admin.housekeeping import Housekeeping
from tallygate.app.control_plane import control_over
from tallygate.app.exports import exports
from tallygate.app.reconciliation import Reconciliation
from tallygate.app.revenue import ROUND_S, RevenueSeries, forget
from tallygate.app.secret_settings import plain
from tallygate.core.clock import Clock, SystemClock
from tallygate.core.errors import DependencyError
from tallygate.insights.postgres import PostgresRevenue
from tallygate.lifecycle import Work, every, stop_on_signals, supervise
from tallygate.limits.redis import RedisLimiter
from tallygate.metrics import WorkerMetrics
from tallygate.monitor import LedgerLag, Watch
from tallygate.probes import HttpServer, probes_app
from tallygate.settings import PREFIX, Settings, require
from tallygate.storage import postgres
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import RedisLinks, link
from tallygate.usage.expire import Expiry
from tallygate.usage.leader import Leader
from tallygate.usage.mover import Mover, Round
from tallygate.usage.partitions import Retention
from tallygate.usage.postgres import PostgresLedger
from tallygate.usage.reconcile import Reconciler
from tallygate.usage.redis import RedisUsageBuckets, UsageScripts
from tallygate.usage.redis_live import RedisLiveBuckets

_log = structlog.get_logger("tallygate.worker")
_WATCH_S, _LAG_S = 1.0, 5.0
_EXPIRY_S, _TOKENS_S, _RECONCILIATION_S, _UPKEEP_S = 10.0, 60.0, 60.0, 3600.0
_LINK_S, _STATEMENT_S = 2.0, 30.0
_CALLS = 4096
_SCRIPTS = UsageScripts()


async def worker(values: Settings, scripts: UsageScripts = _SCRIPTS) -> None:
    """Do the work, or stand by, until a signal stops it. Raises InputError for settings that cannot be used."""
    stop, metrics = stop_on_signals(), WorkerMetrics(__version__)
    async with background(values, metrics, scripts=scripts), worker_page(metrics, values.metrics_listen) as page:
        _log.info("ready", metrics=page.address)
        await stop.wait()


@asynccontextmanager
async def worker_page(
    metrics: WorkerMetrics, listen: str, setting: str = f"{PREFIX}METRICS_LISTEN"
) -> AsyncIterator[HttpServer]:
    """Serve the worker's series at `listen`, which `setting` holds, while the block runs; raise InputError for it."""
    page = HttpServer(probes_app(metrics.registry, list), listen, setting)
    await page.start()
    try:
        yield page
    finally:
        await page.stop()


@asynccontextmanager
async def background(
    values: Settings,
    metrics: WorkerMetrics | None = None,
    clock: Clock | None = None,
    scripts: UsageScripts = _SCRIPTS,
) -> AsyncIterator[None]:
    """Do the work while the block runs, whenever no other process does. Tests that move time give the last two."""
    require(values, "postgres_dsn", "redis_url", "pepper")
    clock, metrics, dsn = clock or SystemClock(), metrics or WorkerMetrics(__version__), plain(values.postgres_dsn)
    async with AsyncExitStack() as left_open:
        pool = await postgres.create_pool(
            dsn, max_size=4, min_size=0, command_timeout_s=_STATEMENT_S, application_name="tallygate-worker"
        )
        left_open.push_async_callback(postgres.close_pool, pool)
        links = link(plain(values.redis_url), LinkTerms(deadline_s=_LINK_S, max_in_flight=_CALLS))
        left_open.push_async_callback(links.close)
        buckets = RedisUsageBuckets(links, scripts)
        led = _led(values, metrics, clock, pool=pool, links=links, buckets=buckets)
        leader = Leader(dsn, lambda: _lead(led, metrics))
        watch = Watch(metrics.dependency_up, {"postgres": lambda: _ask(pool), "redis": buckets.now_us})
        lag = LedgerLag(metrics.usage_ledger_lag, buckets, clock)
        tasks = {
            "leader": leader.run,
            "watch": lambda: every(_WATCH_S, watch.look),
            "ledger lag": lambda: every(_LAG_S, lag.look),
        }
        left_open.push_async_callback(
            _end, [asyncio.create_task(supervise(*task), name=task[0]) for task in tasks.items()]
        )
        yield


def _led(
    values: Settings,
    metrics: WorkerMetrics,
    clock: Clock,
    *,
    pool: postgres.Pool,
    links: RedisLinks,
    buckets: RedisUsageBuckets,
) -> Mapping[str, tuple[float, Work]]:
    """Return what leaders do, and how often, in seconds."""
    ledger = PostgresLedger(pool, deadline_s=_STATEMENT_S)
    moving = Moving(Mover(buckets, ledger), metrics)
    expiry = Expiry(links, RedisLimiter(links, clock=clock))
    retention = Retention(ledger, clock, minutes_days=values.usage_minutes_days, hours_days=values.usage_hours_days)
    control = control_over(values, pool, clock)
    housekeeping = control.acting("worker").housekeeping
    reconciliation = Reconciliation(control, Reconciler(pool, RedisLiveBuckets(links)), metrics)
    revenue = RevenueSeries(PostgresRevenue(pool, deadline_s=_STATEMENT_S), metrics, clock)

    async def expire() -> None:
        metrics.receipts_given_back.add(await expiry.round(await buckets.now_us()))

    async def retain() -> None:
        tended = await retention.tend()
        metrics.usage_kept_for_export.clear()
        for export, waits in tended.waiting.items():
            metrics.usage_kept_for_export.labels(export).set(waits.total_seconds())
        metrics.usage_dropped_unsent.add(tended.unsent)

    return {
        "usage": (values.usage_round_s, moving.round),
        "receipts": (_EXPIRY_S, expire),
        "retention": (_UPKEEP_S, retain),
        "upkeep": (_UPKEEP_S, housekeeping.prune),
        "tokens": (_TOKENS_S, lambda: _count_tokens(metrics, housekeeping)),
        "reconciliation": (_RECONCILIATION_S, reconciliation.round),
        "revenue": (ROUND_S, revenue.round),
        **exports(values, metrics, clock),
    }


async def _lead(led: Mapping[str, tuple[float, Work]], metrics: WorkerMetrics) -> None:
    """Do all of it, each at its own pace, until cancelled."""
    tasks = [asyncio.create_task(supervise(name, _paced(*work)), name=name) for name, work in led.items()]
    metrics.leads.set(1)
    try:
        await asyncio.gather(*tasks)
    finally:
        metrics.leads.set(0)
        metrics.usage_backlog.set(0)
        metrics.tokens.clear()
        metrics.usage_kept_for_export.clear()
        forget(metrics)
        await _end(tasks)


def _paced(interval_s: float, work: Work) -> Work:
    async def at_once_and_then() -> None:
        with suppress(DependencyError):
            await work()
        await every(interval_s, work)

    return at_once_and_then


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(pool: postgres.Pool) -> None:
    async with postgres.acquire(pool, _LINK_S, "ask for a sign of life") as connection:
        await connection.execute("SELECT 1")


async def _count_tokens(metrics: WorkerMetrics, housekeeping: Housekeeping) -> None:
    found = await housekeeping.tokens()
    metrics.tokens.clear()
    for state, tokens in found.items():
        metrics.tokens.labels(state).set(tokens)


class Moving:
    """Rounds of the mover, measured; what goes wrong is logged once, not each round."""

    def __init__(self, mover: Mover, metrics: WorkerMetrics) -> None:
        """Measure `mover`'s rounds."""
        self._mover = mover
        self._metrics = metrics
        self._problem = ""

    async def round(self) -> None:
        """Move what is over."""
        done = await self._mover.round()
        self._metrics.usage_backlog.set(done.left)
        self._metrics.usage_entries.add(done.entries)
        self._metrics.usage_unmoved.add(len(done.kept_aside), "kept_aside")
        self._metrics.usage_unmoved.add(len(done.expired), "expired")
        self._tell(done)

    def _tell(self, done: Round) -> None:
        if done.kept_aside:
            _log.error(
                "usage could not be read and was kept aside in redis: see docs/usage.md", buckets=done.kept_aside
            )
        if done.expired:
            _log.error("usage expired before it was moved, and is lost", buckets=done.expired)
        if done.problem != self._problem:
            if done.problem:
                _log.warning("usage is not moved; it waits in redis", problem=done.problem, buckets=done.left)
            else:
                _log.info("usage is moved again")
        self._problem = done.problem
