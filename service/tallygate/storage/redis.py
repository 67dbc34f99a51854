"""Redis as a service: how we connect, in each of its forms, and whether it is fit to count.

Owns pools and their timeouts. Does not own URLs (`redis_url`), scripts or keys (`limits`). A client connects
when it is first used, reconnects by itself, and never sends a command twice: a charge whose answer was lost
may have been counted. Every wait has an end: for a free connection, for connecting, for an answer.

Failure: LimiterUnavailableError when Redis does not answer.
"""

from collections.abc import Awaitable
from typing import Any, TypeAlias, TypedDict, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisClusterException, RedisError

from tallygate.core.errors import LimiterUnavailableError
from tallygate.storage.redis_url import RedisAddress, RedisForm, parse_redis_url

RedisClient: TypeAlias = Redis | RedisCluster

DEFAULT_CONNECTIONS = 16
"""Enough to keep one process busy; more only make the first requests wait while all of them are opened."""
_Answer = TypeVar("_Answer")

_PATIENCE = 4
"""A connection is given up after so many deadlines. Its caller is gone after one; a reply that comes between
is read and dropped, and the connection kept, so that a hiccup is not followed by a storm of reconnections."""

_CLUSTER_CONNECTIONS = 2**16
"""A cluster's pools raise instead of waiting, so there only the caller's own bound on calls in flight counts."""


class _BlockingSentinelPool(BlockingConnectionPool, SentinelConnectionPool):
    """Connections to the master that sentinels name, waiting for a free one; neither parent does both."""

    async def aclose(self) -> None:
        """Close connections to the sentinels too, which redis-py leaves open."""
        await super().aclose()
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


def connect(url: str, *, deadline_s: float = 0.05, max_connections: int = DEFAULT_CONNECTIONS) -> RedisClient:
    """Return a client for `url`; nothing is sent yet. Raise InputError for a URL that cannot be used.

    One connection serves one call at a time. When all `max_connections` are busy a call waits `deadline_s`
    for one, in no fair order, so better ask no more at once; in a cluster it gets another. Close with `aclose`.
    """
    address = parse_redis_url(url)
    common = common_options(address, deadline_s)
    match address.form:
        case RedisForm.CLUSTER:
            seeds = [ClusterNode(host, port) for host, port in address.nodes]
            return RedisCluster(startup_nodes=seeds, ssl=address.is_tls, max_connections=_CLUSTER_CONNECTIONS, **common)
        case RedisForm.SENTINEL:
            return _behind_sentinels(address, common, deadline_s, max_connections)
        case RedisForm.SINGLE:
            ((host, port),) = address.nodes
            pool = BlockingConnectionPool(
                max_connections,
                deadline_s,
                SSLConnection if address.is_tls else Connection,
                host=host,
                port=port,
                db=address.database,
                **common,
            )
            return Redis.from_pool(pool)


async def ping(client: RedisClient) -> None:
    """Return if Redis answers; raise LimiterUnavailableError if it does not."""
    await answered(cast("Awaitable[object]", client.ping()))


async def eviction_warning(client: RedisClient) -> str | None:
    """Return what to log if Redis may evict counters, None if it will not; raise LimiterUnavailableError.

    Any policy but `noeviction` can evict a month's counter: a free month.
    """
    try:
        policies = await answered(_policies(client))
    except NoPermissionError:
        return "maxmemory-policy cannot be read with this login; it must be noeviction"
    wrong = sorted(policies - {"noeviction"})
    return f"maxmemory-policy is {', '.join(wrong)}: counters may be evicted; set it to noeviction" if wrong else None


class _Common(TypedDict, total=False):
    username: str | None
    password: str | None
    protocol: int
    driver_info: None
    retry: Retry
    socket_timeout: float
    socket_connect_timeout: float
    ssl_ca_certs: str
    ssl_certfile: str
    ssl_keyfile: str


def common_options(address: RedisAddress, deadline_s: float) -> _Common:
    """Return what every client is given. Its `retry` never does."""
    patience_s = _PATIENCE * deadline_s
    common = _Common(
        username=address.username,
        password=address.password,
        protocol=2,
        driver_info=None,  # says no CLIENT SETINFO, two round trips of each new connection
        retry=Retry(NoBackoff(), 0),
        socket_timeout=patience_s,
        socket_connect_timeout=patience_s,
    )
    common.update(cast("_Common", dict(address.tls_files)))
    return common


def sentinels_of(address: RedisAddress, deadline_s: float) -> Sentinel:
    """Return who knows where the master is. The login is Redis's, not theirs."""
    common = common_options(address, deadline_s)
    to_sentinels = {name: value for name, value in common.items() if name not in {"username", "password"}}
    return Sentinel(  # type: ignore[no-untyped-call]  # redis-py has no hints here
        address.nodes, sentinel_kwargs={"ssl": address.is_tls, **to_sentinels}
    )


def _behind_sentinels(address: RedisAddress, common: _Common, deadline_s: float, max_connections: int) -> Redis:
    """Return a client that asks the sentinels for the master, and again when the master changes."""
    pool = _BlockingSentinelPool(
        max_connections,
        deadline_s,
        SentinelManagedSSLConnection if address.is_tls else SentinelManagedConnection,
        service_name=address.master,
        sentinel_manager=sentinels_of(address, deadline_s),
        db=address.database,
        **common,
    )
    return Redis.from_pool(pool)


async def answered(answer: Awaitable[_Answer]) -> _Answer:
    """Await an answer; the client's own timeouts bound it."""
    try:
        return await answer
    except NoPermissionError:
        raise
    except (RedisError, RedisClusterException, OSError) as error:
        message = f"redis does not answer: {str(error) or type(error).__name__}"
        raise LimiterUnavailableError(message) from error


async def _policies(client: RedisClient) -> set[str]:
    if isinstance(client, Redis):
        return {_policy(await client.info("memory"))}
    await client.initialize()
    return {_policy(await client.info("memory", target_nodes=[node])) for node in client.get_primaries()}


def _policy(info: dict[str, Any]) -> str:
    return str(info.get("maxmemory_policy", "unknown"))
