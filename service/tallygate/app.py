"""The composition root: adapters are built here and handed to what needs them, in the order a request meets them.

Reads settings; nothing below does. Builds the data plane (`serve`), the control plane of the commands, the
REST API (`admin`), and `explain`. Owns nothing that runs.
"""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from pydantic import SecretStr

from tallygate import __version__
from tallygate.admin.leaks import LeakPolicy
from tallygate.admin.operations import ControlPlane, Operations
from tallygate.admin.postgres import Registry
from tallygate.core.clock import Clock, SystemClock
from tallygate.core.errors import DependencyError
from tallygate.credentials.extract import CredentialPlaces
from tallygate.decision.decision import CheckInput, Decision
from tallygate.decision.explain import Looking
from tallygate.decision.pipeline import Pipeline
from tallygate.envoy.check import SERVICE_PATH, Check
from tallygate.envoy.count import Counting
from tallygate.envoy.ratelimit_fields import ratelimit, ratelimit_policy
from tallygate.envoy.responses import ResponseWriter
from tallygate.insights.redis import RedisShadowLedger
from tallygate.insights.shadow import ShadowTally, hand_on
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.last_used import LastUsed
from tallygate.licenses.listener import ChangeListener
from tallygate.licenses.postgres import PostgresLicenseStore
from tallygate.lifecycle import Lifecycle, every, stop_on_signals
from tallygate.limits.limiter import Limiter
from tallygate.limits.memory import MemoryLimiter
from tallygate.limits.redis import RedisLimiter
from tallygate.limits.script import Scripts
from tallygate.metrics import Metrics
from tallygate.monitor import Monitor
from tallygate.probes import HttpServer, probes_app
from tallygate.settings import Settings, require
from tallygate.storage import postgres, redis
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import TokenFormat
from tallygate.transport.grpcio import GrpcioTransport

_log = structlog.get_logger("tallygate.app")
_ADMIN_CONNECTIONS = 16
_SHADOW_S, _LAST_USED_S, _REDIS_POLICY_S = 1.0, 60.0, 3600.0


@asynccontextmanager
async def control_plane(values: Settings, actor: str) -> AsyncIterator[Operations]:
    """Open the control plane for `actor`; raise InvalidSettingsError when its settings are missing."""
    require(values, "postgres_dsn", "pepper")
    pool = await postgres.create_pool(_text(values.postgres_dsn), min_size=0, max_size=4, application_name="tallygate")
    try:
        yield _control(values, pool, SystemClock()).acting(actor)
    finally:
        await postgres.close_pool(pool)


async def admin(values: Settings) -> None:
    """Run the REST API until a signal stops it. Raises InputError for settings that cannot be used."""
    stop = stop_on_signals()
    async with admin_api(values) as server:
        _log.info("ready", listen=server.address)
        await stop.wait()


@asynccontextmanager
async def admin_api(values: Settings, clock: Clock | None = None) -> AsyncIterator[HttpServer]:
    """Serve the REST API while the block runs. `clock` is a seam for tests that move time."""
    # Imported here: FastAPI takes 0.3 s, which no other command should wait for.
    from tallygate.admin.rest import app as rest  # noqa: PLC0415
    from tallygate.admin.rest import call, signatures, throttle  # noqa: PLC0415

    require(values, "postgres_dsn", "redis_url", "pepper")
    clock, keys_text = clock or SystemClock(), values.leak_keys
    async with AsyncExitStack() as left_open:
        pool = await postgres.create_pool(
            _text(values.postgres_dsn), max_size=_ADMIN_CONNECTIONS, application_name="tallygate-admin"
        )
        left_open.push_async_callback(postgres.close_pool, pool)
        client = redis.connect(_text(values.redis_url), deadline_s=values.limiter_timeout_s)
        left_open.push_async_callback(client.aclose)
        limiter = RedisLimiter(client, deadline_s=values.limiter_timeout_s)
        left_open.push_async_callback(limiter.close)
        store = PostgresLicenseStore(pool, deadline_s=values.store_timeout_s)
        backstage = call.Backstage(
            control=_control(values, pool, clock),
            throttle=throttle.Throttle(
                limiter,
                MemoryLimiter(clock),
                lambda states: {"RateLimit": ratelimit(states), "RateLimit-Policy": ratelimit_policy(states)},
                per_key=throttle.requests_per_second("admin-key", values.admin_requests_per_s, burst=5),
                per_address=throttle.requests_per_second("address", values.admin_strangers_per_s, burst=10),
            ),
            explain=lambda asked: _explained(values, clock, store, limiter, asked),
            shadow_report=RedisShadowLedger(client).report,
            leak_keys=signatures.LeakKeys() if keys_text is None else signatures.read_leak_keys(_text(keys_text)),
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


async def serve(values: Settings) -> None:
    """Run the data plane until a signal stops it. Raises InputError for settings that cannot be used."""
    plane = await data_plane(values)
    # What exists by now stays. A full collection that went through all of it would stall every request.
    gc.collect()
    gc.freeze()
    await plane.life.run(plane.probes, stop_on_signals())


@dataclass(frozen=True, slots=True)
class DataPlane:
    """A data plane, wired and not yet started: `life.run(probes, stop)` runs it."""

    life: Lifecycle
    probes: HttpServer
    transport: GrpcioTransport
    metrics: Metrics


async def data_plane(values: Settings, clock: Clock | None = None, scripts: Scripts | None = None) -> DataPlane:
    """Build everything a request meets. `clock` and `scripts` are seams for tests that move time."""
    require(values, "postgres_dsn", "redis_url", "pepper")
    clock, metrics = clock or SystemClock(), Metrics(__version__)

    # Step 3 of a request: the license.
    dsn = _text(values.postgres_dsn)
    pool = await postgres.create_pool(
        dsn, max_size=8, command_timeout_s=values.store_timeout_s, application_name="tallygate-serve"
    )
    store = PostgresLicenseStore(pool, deadline_s=values.store_timeout_s)
    cache = _cache(values, clock, metrics, store)
    listener = ChangeListener(dsn, store, cache, clock)

    # Step 6: the limits.
    client = redis.connect(_text(values.redis_url), deadline_s=values.limiter_timeout_s)
    limiter = RedisLimiter(
        client,
        deadline_s=values.limiter_timeout_s,
        clock=clock,
        observe=metrics.limiter_duration.observe,
        scripts=scripts or Scripts(),
    )

    # What is learnt on the way.
    shadows, shadow_ledger, last_used = ShadowTally(), RedisShadowLedger(client), LastUsed()

    # The pipeline between them, and the wire around it.
    check = Check(
        _pipeline(values, clock, cache, limiter),
        _writer(values),
        observe=Counting(metrics, shadows, last_used),
        report=lambda what: _report_failure(metrics, what),
    )
    transport = GrpcioTransport(values.listen, {SERVICE_PATH: check})
    monitor = Monitor(
        metrics,
        lambda: max(cache.staleness_s, listener.staleness_s),
        {"postgres": store.generation, "redis": lambda: redis.ping(client)},
    )
    life = Lifecycle(
        transport=transport,
        background={
            "listener": listener.run,
            "monitor": monitor.run,
            "shadow report": lambda: every(_SHADOW_S, lambda: hand_on(shadows, shadow_ledger)),
            "last used": lambda: every(_LAST_USED_S, lambda: last_used.hand_on(store)),
            "redis policy": lambda: _watch_redis_policy(client),
        },
        prerequisites={"licenses": listener.begun},
        closers=[cache.close, limiter.close, client.aclose, lambda: postgres.close_pool(pool)],
        drain_s=values.drain_s,
    )
    pages = probes_app(metrics.exposition, life.not_ready)
    return DataPlane(life, HttpServer(pages, values.metrics_listen, "TALLYGATE_METRICS_LISTEN"), transport, metrics)


async def explain(values: Settings, asked: CheckInput) -> Decision:
    """Decide a request as `serve` would, looking at the counters instead of consuming."""
    require(values, "postgres_dsn", "redis_url", "pepper")
    clock = SystemClock()
    client = redis.connect(_text(values.redis_url), deadline_s=values.store_timeout_s)
    pool = await postgres.create_pool(_text(values.postgres_dsn), min_size=0, max_size=1)
    limiter = RedisLimiter(client, deadline_s=values.store_timeout_s)
    try:
        store = PostgresLicenseStore(pool, deadline_s=values.store_timeout_s)
        return await _explained(values, clock, store, limiter, asked)
    finally:
        await limiter.close()
        await client.aclose()
        await postgres.close_pool(pool)


async def _explained(
    values: Settings, clock: Clock, store: PostgresLicenseStore, limiter: Limiter, asked: CheckInput
) -> Decision:
    """Decide with a cache that knows nothing yet, so that what was changed a moment ago is seen."""
    cache = LicenseCache(store, clock)
    try:
        await cache.load_routes()
        return await _pipeline(values, clock, cache, Looking(limiter)).check(asked)
    finally:
        await cache.close()


def _control(values: Settings, pool: postgres.Pool, clock: Clock) -> ControlPlane:
    return ControlPlane(Registry(pool), clock, TokenFormat(values.token_prefix), _peppers(values))


def _cache(values: Settings, clock: Clock, metrics: Metrics, store: PostgresLicenseStore) -> LicenseCache:
    return LicenseCache(
        store,
        clock,
        ttl_s=values.license_ttl_s,
        max_stale_s=values.license_max_stale_s,
        max_entries=values.license_cache_entries,
        max_bytes=values.license_cache_mib * 2**20,
        observe=lambda result: metrics.license_cache.labels(result).inc(),
    )


def _writer(values: Settings) -> ResponseWriter:
    return ResponseWriter(
        realm=values.realm, problem_base_url=values.problem_base_url, credits_status=values.credits_status
    )


def _pipeline(values: Settings, clock: Clock, cache: LicenseCache, limiter: Limiter) -> Pipeline:
    return Pipeline(
        licenses=cache,
        limiter=limiter,
        local=MemoryLimiter(clock),
        token_format=TokenFormat(values.token_prefix),
        peppers=_peppers(values),
        clock=clock,
        places=CredentialPlaces(values.query_parameter, values.cookie),
    )


def _peppers(values: Settings) -> Peppers:
    previous = None if values.pepper_previous is None else Pepper(_text(values.pepper_previous))
    return Peppers(Pepper(_text(values.pepper)), previous)


def _text(secret: SecretStr | None) -> str:
    assert secret is not None  # noqa: S101 - `require` has seen to it
    return secret.get_secret_value()


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
    metrics.checks.labels("error", "internal_error", "").inc()
    _log.error("a check failed", what=what)
