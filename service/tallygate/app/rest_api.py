"""The REST API: the control plane behind HTTP, with counters to throttle it and to explain decisions by."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import structlog

from tallygate import __version__
from tallygate.admin.leaks import LeakPolicy
from tallygate.admin.rest import app as rest
from tallygate.admin.rest import call, signatures, throttle
from tallygate.app.background import background, worker_page
from tallygate.app.control_plane import control_over
from tallygate.app.pipeline import explained
from tallygate.app.secret_settings import plain
from tallygate.app.usage import live_buckets
from tallygate.core.clock import Clock, SystemClock
from tallygate.envoy.ratelimit_fields import ratelimit, ratelimit_policy
from tallygate.insights.redis import RedisShadowLedger
from tallygate.licenses.postgres import PostgresLicenseStore
from tallygate.lifecycle import stop_on_signals
from tallygate.limits.memory import MemoryLimiter
from tallygate.limits.redis import RedisLimiter
from tallygate.metrics import WorkerMetrics
from tallygate.probes import HttpServer
from tallygate.settings import PREFIX, Settings, require
from tallygate.storage import postgres, redis
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link
from tallygate.usage.reading import UsageReader

_log = structlog.get_logger("tallygate.app")
_ADMIN_CONNECTIONS = 16


async def admin(values: Settings, *, has_worker: bool = True) -> None:
    """Run the REST API until a signal stops it. Raises InputError for settings that cannot be used."""
    stop = stop_on_signals()
    async with AsyncExitStack() as running:
        server = await running.enter_async_context(admin_api(values))
        if has_worker:
            metrics = WorkerMetrics(__version__)
            await running.enter_async_context(background(values, metrics))
            if values.admin_metrics_listen is not None:
                page = worker_page(metrics, values.admin_metrics_listen, f"{PREFIX}ADMIN_METRICS_LISTEN")
                await running.enter_async_context(page)
        _log.info("ready", listen=server.address)
        await stop.wait()


@asynccontextmanager
async def admin_api(values: Settings, clock: Clock | None = None) -> AsyncIterator[HttpServer]:
    """Serve the REST API while the block runs. `clock` is a seam for tests that move time."""
    require(values, "postgres_dsn", "redis_url", "pepper")
    clock, keys_text = clock or SystemClock(), values.leak_keys
    async with AsyncExitStack() as left_open:
        pool = await postgres.create_pool(
            plain(values.postgres_dsn), max_size=_ADMIN_CONNECTIONS, application_name="tallygate-admin"
        )
        left_open.push_async_callback(postgres.close_pool, pool)
        client = redis.connect(plain(values.redis_url), deadline_s=values.limiter_timeout_s)
        left_open.push_async_callback(client.aclose)
        limiter = RedisLimiter(link(plain(values.redis_url), LinkTerms(deadline_s=values.limiter_timeout_s)))
        left_open.push_async_callback(limiter.close)
        store = PostgresLicenseStore(pool, deadline_s=values.store_timeout_s)
        backstage = call.Backstage(
            control=control_over(values, pool, clock),
            throttle=throttle.Throttle(
                limiter,
                MemoryLimiter(clock),
                lambda states: {"RateLimit": ratelimit(states), "RateLimit-Policy": ratelimit_policy(states)},
                per_key=throttle.requests_per_second("admin-key", values.admin_requests_per_s, burst=5),
                per_address=throttle.requests_per_second("address", values.admin_strangers_per_s, burst=10),
            ),
            explain=lambda asked: explained(values, clock, store, limiter, asked),
            shadow_counts=RedisShadowLedger(client),
            usage=UsageReader(pool, await left_open.enter_async_context(live_buckets(values))),
            leak_keys=signatures.LeakKeys() if keys_text is None else signatures.read_leak_keys(plain(keys_text)),
            leak_policy=LeakPolicy(values.leak_policy),
            leak_grace=timedelta(seconds=values.leak_grace_s),
            clock=clock,
            problem_base_url=values.problem_base_url,
        )
        pages = rest.rest_app(backstage, __version__)
        server = HttpServer(pages, values.admin_listen, "TALLYGATE_ADMIN_LISTEN")
        await server.start()
        left_open.push_async_callback(server.stop)
        yield server
