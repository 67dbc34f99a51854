"""The data plane: everything that a request meets, in the order it meets it."""

import asyncio
import gc
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import structlog

from tallygate import __version__
from tallygate.app.beginnings import begin_at_zero
from tallygate.app.observing import Watched, watched
from tallygate.app.pipeline import pipeline
from tallygate.app.secret_settings import plain
from tallygate.app.services import Beside, Known, Services, services
from tallygate.core.clock import Clock, SystemClock
from tallygate.core.errors import DependencyError
from tallygate.envoy.check import SERVICE_PATH, Check
from tallygate.envoy.count import Counting
from tallygate.envoy.responses import ResponseWriter
from tallygate.insights.redis import RedisShadowLedger
from tallygate.insights.shadow import ShadowTally, hand_on
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.first_used import FirstUses
from tallygate.licenses.last_used import LastUsed
from tallygate.licenses.listener import ChangeListener
from tallygate.licenses.postgres import PostgresLicenseStore
from tallygate.lifecycle import Lifecycle, Probes, Work, every, stop_on_signals
from tallygate.limits.degraded import DegradedUsage
from tallygate.limits.journal_files import open_journal
from tallygate.limits.leased import LeasedLimiter
from tallygate.limits.redis import RedisLimiter
from tallygate.limits.script import Scripts
from tallygate.metrics import Metrics, openmetrics
from tallygate.monitor import LedgerLag, LoopLag, Monitor
from tallygate.probes import HttpServer, probes_app
from tallygate.settings import Settings, require
from tallygate.storage import postgres, redis
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import RedisLinks, link
from tallygate.transport.adapters import adapter
from tallygate.transport.listening import Listen
from tallygate.transport.tls import TlsFiles
from tallygate.transport.transport import Transport
from tallygate.usage.redis import RedisUsageBuckets
from tallygate.workers.line import WorkerLine
from tallygate.workers.placement import on_one_cpu, shares_cpu
from tallygate.workers.seat import Seat

_log = structlog.get_logger("tallygate.app")
_GC_AFTER = 20_000
"""Objects between two collections: the default, 700, is a dozen requests. Requests leave no cycles behind."""
_SHADOW_S, _FIRST_USE_S, _LAST_USED_S, _REDIS_POLICY_S = 1.0, 3.0, 60.0, 3600.0
_LEASES_S, _LAG_S, _DEGRADED_S = 0.1, 5.0, 1.0


async def serve(values: Settings, seat: Seat | None = None) -> None:
    """Run the data plane until a signal stops it. Raises InputError for settings that cannot be used.

    A worker has a `seat`: it listens where that says, and reports to its supervisor in place of having probes.
    """
    plane = await data_plane(values, listen=None if seat is None else await seat.where())
    stop = stop_on_signals()
    probes: Probes = plane.probes
    if seat is not None:
        probes = WorkerLine(seat.line(), lambda: openmetrics(plane.metrics.registry), plane.life.not_ready, stop.set)
    # What exists by now stays. A full collection that went through all of it would stall every request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_AFTER, 20, 50)
    async with on_one_cpu() if shares_cpu(values.worker_cpus, values.workers) else nullcontext():
        await plane.life.run(probes, stop)


@dataclass(frozen=True, slots=True)
class DataPlane:
    """A data plane, wired and not yet started: `life.run(probes, stop)` runs it."""

    life: Lifecycle
    probes: HttpServer
    transport: Transport
    metrics: Metrics
    services: Services | None


async def data_plane(
    values: Settings, clock: Clock | None = None, scripts: Scripts | None = None, *, listen: Listen | None = None
) -> DataPlane:
    """Build everything a request meets. Tests that move time give `clock` and `scripts`; workers, where to `listen`."""
    require(values, "postgres_dsn", "redis_url", "pepper")
    tls = TlsFiles.of(values.tls_cert_file, values.tls_key_file, values.tls_client_ca_file)
    clock, metrics = clock or SystemClock(), Metrics(__version__)
    begin_at_zero(metrics)

    # Step 3 of a request: the license.
    pool = await _pool(values)
    store = PostgresLicenseStore(pool, deadline_s=values.store_timeout_s)
    cache = _cache(values, clock, metrics, store)
    listener = ChangeListener(plain(values.postgres_dsn), store, cache, clock)

    # Step 6: the limits.
    client = redis.connect(plain(values.redis_url), deadline_s=values.limiter_timeout_s)
    counters = _counters(values, clock, metrics, scripts or Scripts())
    limiter = _leased(values, metrics, counters)

    # What is learnt on the way.
    shadows, first_uses, last_used = ShadowTally(), FirstUses(), LastUsed()
    degraded = DegradedUsage(clock, lambda result, requests: metrics.degraded_usage.add(requests, result))

    # The pipeline between them, and the wire around it.
    decider = pipeline(values, clock, cache, limiter, first_uses, degraded=degraded)
    seen = watched(values, metrics, decider, Counting(metrics, shadows, last_used), client)
    check = _check(values, metrics, seen)
    transport = adapter(values.transport)(listen or values.listen, {SERVICE_PATH: check}, tls)

    # What upstreams tell and ask. A worker, which is told where to listen, shares that port with the others.
    known = Known(clock, metrics, cache, store, limiter, first_uses)
    beside = await services(values, known, tls, is_shared=listen is not None)

    links = link(plain(values.redis_url), LinkTerms(deadline_s=values.limiter_timeout_s))
    life = Lifecycle(
        transport=transport if beside is None else Beside(transport, beside),
        background={
            "listener": listener.run,
            "monitor": _monitor(metrics, cache, listener, store, client).run,
            "event loop": LoopLag(metrics.event_loop_lag.observe).run,
            "ledger lag": lambda: every(_LAG_S, _lag(metrics, links, clock).look),
            "leases": lambda: every(_LEASES_S, limiter.tend),
            "redis policy": lambda: _watch_redis_policy(client),
            **({} if beside is None else {"outcomes": beside.run}),
            **seen.background,
            **_handing_on(store, client, shadows, first_uses, last_used, degraded=lambda: degraded.hand_on(limiter)),
        },
        prerequisites={"licenses": listener.begun},
        closers=[
            *seen.closers,
            lambda: _hand_on_at_last(first_uses, store, lambda: degraded.close(limiter)),
            *[cache.close, limiter.close, counters.close, links.close, client.aclose],
            lambda: postgres.close_pool(pool),
        ],
        drain_s=values.drain_s,
    )
    pages = probes_app(metrics.registry, life.not_ready)
    probes = HttpServer(pages, values.metrics_listen, "TALLYGATE_METRICS_LISTEN")
    return DataPlane(life, probes, transport, metrics, beside)


async def _pool(values: Settings) -> postgres.Pool:
    return await postgres.create_pool(
        plain(values.postgres_dsn),
        max_size=8,
        command_timeout_s=values.store_timeout_s,
        application_name="tallygate-serve",
    )


def _monitor(
    metrics: Metrics,
    cache: LicenseCache,
    listener: ChangeListener,
    store: PostgresLicenseStore,
    client: redis.RedisClient,
) -> Monitor:
    return Monitor(
        metrics,
        lambda: max(cache.staleness_s, listener.staleness_s),
        {"postgres": store.generation, "redis": lambda: redis.ping(client)},
    )


def _lag(metrics: Metrics, links: RedisLinks, clock: Clock) -> LedgerLag:
    return LedgerLag(metrics.usage_ledger_lag, RedisUsageBuckets(links), clock)


def _handing_on(
    store: PostgresLicenseStore,
    client: redis.RedisClient,
    shadows: ShadowTally,
    first_uses: FirstUses,
    last_used: LastUsed,
    *,
    degraded: Work,
) -> dict[str, Work]:
    """Return the tasks that hand on what was learnt from requests."""
    ledger = RedisShadowLedger(client)
    return {
        "degraded usage": lambda: every(_DEGRADED_S, degraded),
        "shadow report": lambda: every(_SHADOW_S, lambda: hand_on(shadows, ledger)),
        "first use": lambda: every(_FIRST_USE_S, lambda: first_uses.hand_on(store)),
        "last used": lambda: every(_LAST_USED_S, lambda: last_used.hand_on(store)),
    }


def _cache(values: Settings, clock: Clock, metrics: Metrics, store: PostgresLicenseStore) -> LicenseCache:
    return LicenseCache(
        store,
        clock,
        ttl_s=values.license_ttl_s,
        max_stale_s=values.license_max_stale_s,
        max_entries=values.license_cache_entries,
        max_bytes=values.license_cache_mib * 2**20,
        observe=metrics.license_cache.count,
    )


def _leased(values: Settings, metrics: Metrics, counters: RedisLimiter) -> LeasedLimiter:
    return LeasedLimiter(
        counters,
        workers=values.workers,
        observe=lambda result, requests: metrics.leased_requests.add(requests, result),
        journal=open_journal(plain(values.redis_url)),
    )


def _counters(values: Settings, clock: Clock, metrics: Metrics, scripts: Scripts) -> RedisLimiter:
    terms = LinkTerms(deadline_s=values.limiter_timeout_s, on_batch=metrics.limiter_batch_size.observe)
    return RedisLimiter(
        link(plain(values.redis_url), terms),
        clock=clock,
        observe=metrics.limiter_duration.observe,
        scripts=scripts,
    )


def _check(values: Settings, metrics: Metrics, seen: Watched) -> Check:
    writer = ResponseWriter(
        realm=values.realm, problem_base_url=values.problem_base_url, credits_status=values.credits_status
    )
    return Check(seen.decider, writer, seen.observe, lambda what: _report_failure(metrics, what))


async def _hand_on_at_last(first_uses: FirstUses, store: PostgresLicenseStore, degraded: Work) -> None:
    """Tell what is left to tell; of first uses that cannot be told another process learns from the counter store."""
    await degraded()
    with suppress(DependencyError):
        await first_uses.hand_on(store)


async def _watch_redis_policy(client: redis.RedisClient) -> None:
    """Warn, at the start and every hour, of a Redis that may evict counters."""
    while True:
        try:
            warning = await redis.eviction_warning(client)
        except DependencyError:
            await asyncio.sleep(1)
            continue
        if warning is not None:
            _log.warning("redis is not fit to count", problem=warning)
        await asyncio.sleep(_REDIS_POLICY_S)


def _report_failure(metrics: Metrics, what: str) -> None:
    metrics.checks.count("error", "internal_error", "")
    _log.error("a check failed", what=what)
