"""Redis's URL in every form: what is read from it, and what is refused without showing a password."""

import pytest
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, SSLConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection

from tallygate.core.errors import InputError
from tallygate.storage.redis import connect
from tallygate.storage.redis_url import RedisAddress, RedisForm, parse_redis_url

GOOD = {
    "redis://localhost": RedisAddress(RedisForm.SINGLE, (("localhost", 6379),)),
    "redis://10.0.0.1:7000/2": RedisAddress(RedisForm.SINGLE, (("10.0.0.1", 7000),), database=2),
    "redis://[::1]:7000/": RedisAddress(RedisForm.SINGLE, (("::1", 7000),)),
    "redis://:p%40ss@h/0": RedisAddress(RedisForm.SINGLE, (("h", 6379),), password="p@ss"),
    "redis://user:a%3Ab@h": RedisAddress(RedisForm.SINGLE, (("h", 6379),), username="user", password="a:b"),
    "rediss://h?ssl_ca_certs=/etc/ca.pem": RedisAddress(
        RedisForm.SINGLE, (("h", 6379),), is_tls=True, tls_files=(("ssl_ca_certs", "/etc/ca.pem"),)
    ),
    "redis+cluster://u:p@a:1,b,[::1]:3": RedisAddress(
        RedisForm.CLUSTER, (("a", 1), ("b", 6379), ("::1", 3)), username="u", password="p"
    ),
    "rediss+cluster://a": RedisAddress(RedisForm.CLUSTER, (("a", 6379),), is_tls=True),
    "redis+sentinel://a:1,b/main/3": RedisAddress(
        RedisForm.SENTINEL, (("a", 1), ("b", 26379)), master="main", database=3
    ),
    "redis+sentinel://a/main": RedisAddress(RedisForm.SENTINEL, (("a", 26379),), master="main"),
}
BAD = {
    "": "scheme",
    "localhost:6379": "scheme",
    "http://h": "scheme",
    "redis+proxy://h": "scheme",
    "redis+://h": "scheme",
    "unix:///run/redis.sock": "scheme",
    "redis://": "host is missing",
    "redis://:secret@": "host is missing",
    "redis://h:0": "port",
    "redis://h:65536": "port",
    "redis://h:port": "port",
    "redis://:sec:ret@h:1:2": "port",
    "redis://[::1": "URL",
    "redis://[::1]7000": "IPv6",
    "redis://h/one": "database",
    "redis://h/1/2": "database",
    "redis://h/-1": "database",
    "redis://a,b": "several hosts",
    "redis://h#secret": "fragment",
    "redis://h?db=2": "option",
    "redis://h?ssl_ca_certs=x": "option",
    "rediss://h?ssl_ca_certs=": "option",
    "redis+cluster://h/1": "database 0",
    "redis+cluster://a,,b": "host is missing",
    "redis+sentinel://h": "master",
    "redis+sentinel://h/main/x": "database",
}


@pytest.mark.parametrize(("url", "address"), GOOD.items(), ids=GOOD.keys())
def test_a_url_says_where_redis_is(url: str, address: RedisAddress) -> None:
    """Each form is read as documented, percent-encoding and IPv6 included."""
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(("url", "problem"), BAD.items(), ids=BAD.keys())
def test_a_url_that_cannot_be_used_is_explained(url: str, problem: str) -> None:
    """What is wrong is said with the setting's name and a right example, at start and not at the first request."""
    with pytest.raises(InputError, match=problem) as raised:
        connect(url)
    assert raised.value.field == "TALLYGATE_REDIS_URL"
    assert "redis://host:6379/0" in raised.value.mend


@pytest.mark.parametrize("url", ["http://:s3cret@h", "redis://:s3cret@h:x", "redis://h?password=s3cret", "s3cret://h"])
def test_an_error_shows_no_password(url: str) -> None:
    """Neither errors nor the address's own representation repeat a password."""
    with pytest.raises(InputError) as raised:
        parse_redis_url(url)
    assert "s3cret@" not in str(raised.value)
    assert "=s3cret" not in str(raised.value)
    assert "s3cret" not in repr(parse_redis_url("redis://:s3cret@h"))


async def test_connecting_is_lazy_and_bounded() -> None:
    """A client is made while Redis is down; its pool waits instead of raising, and no wait is without end."""
    client = connect("redis://127.0.0.1:1/3", deadline_s=0.05, max_connections=7)
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, BlockingConnectionPool)
    assert (pool.max_connections, pool.timeout) == (7, 0.05)
    asked = pool.connection_kwargs
    assert (asked["socket_timeout"], asked["socket_connect_timeout"], asked["db"]) == (0.2, 0.2, 3)
    assert asked["retry"].get_retries() == 0
    await client.aclose()


async def test_tls_is_used_where_the_scheme_says_so() -> None:
    """`rediss` encrypts and verifies in each form."""
    single = connect("rediss://h")
    sentinel = connect("rediss+sentinel://h/main")
    cluster = connect("rediss+cluster://h")
    assert isinstance(single, Redis)
    assert isinstance(sentinel, Redis)
    assert isinstance(cluster, RedisCluster)
    assert single.connection_pool.connection_class is SSLConnection
    assert sentinel.connection_pool.connection_class is SentinelManagedSSLConnection
    assert cluster.connection_kwargs["ssl_cert_reqs"] == "required"
    for client in (single, sentinel, cluster):
        await client.aclose()


async def test_no_client_sends_a_command_twice() -> None:
    """A charge whose answer was lost may have been counted, so nothing below us retries."""
    cluster = connect("redis+cluster://h")
    assert isinstance(cluster, RedisCluster)
    assert cluster.retry.get_retries() == 0
    await cluster.aclose()
