"""The limiter where Redis is a cluster, and where sentinels name the master: real processes, small ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError
from support.counting import asking, at_once, prepaid, quota

from tallygate.devservers.binaries import valkey_binary
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.process import Child, Program, running
from tallygate.limits.keys import usage_prefix
from tallygate.limits.limit import CountedPer
from tallygate.limits.limiter import Subject
from tallygate.limits.redis import RedisLimiter
from tallygate.storage.redis import connect, eviction_warning, ping

PATIENT_S = 30.0
SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))


@asynccontextmanager
async def valkey(directory: Path, configuration: str, *options: str) -> AsyncIterator[int]:
    """Run a Valkey with a configuration that names `{port}` and `{bus}`; yield its port once it answers."""
    port = free_port()
    path = configured(directory, configuration.format(port=port, bus=free_port()))
    program = Program("Valkey", (str(valkey_binary()), str(path), *options), directory, directory / "log")

    async def answers(_: Child) -> bool:
        client = Redis(host=LOOPBACK, port=port)
        try:
            return bool(await command(client, "PING"))
        except RedisError:
            return False
        finally:
            await client.aclose()

    async with running(program, answers, start_deadline_s=20, stop_deadline_s=10):
        yield port


def configured(directory: Path, configuration: str) -> Path:
    """Make a directory with a configuration in it."""
    directory.mkdir()
    path = directory / "valkey.conf"
    path.write_text(f"bind {LOOPBACK}\ndir {directory}\nsave ''\n{configuration}")
    return path


@pytest.fixture
async def cluster_url(tmp_path: Path) -> AsyncIterator[str]:
    """Return the URL of a cluster of three masters without replicas."""
    configuration = "port {port}\ncluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 1500\n"
    async with AsyncExitStack() as stack:
        nodes = [valkey(tmp_path / str(number), configuration) for number in range(3)]
        ports = [await stack.enter_async_context(node) for node in nodes]
        clients = [Redis(host=LOOPBACK, port=port, decode_responses=True) for port in ports]
        for client in clients:
            stack.push_async_callback(client.aclose)
        await form(clients)
        yield "redis+cluster://" + ",".join(f"{LOOPBACK}:{port}" for port in ports)


async def form(clients: list[Redis]) -> None:
    """Make a cluster of empty nodes and wait until each of them says it is one."""
    for epoch, (client, (first, last)) in enumerate(zip(clients, SLOTS, strict=True), start=1):
        await command(client, "CLUSTER", "ADDSLOTSRANGE", first, last)
        await command(client, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
    for client in clients[1:]:
        node = await client.config_get("port", "cluster-port")
        await command(clients[0], "CLUSTER", "MEET", LOOPBACK, str(node["port"]), str(node["cluster-port"]))
    async with asyncio.timeout(PATIENT_S):
        for client in clients:
            while "cluster_state:ok" not in str(await command(client, "CLUSTER", "INFO")):
                pass


async def command(client: Redis, *words: str | int) -> object:
    """Send a command redis-py has no name for on a single node."""
    return await client.execute_command(*words)  # type: ignore[no-untyped-call]


async def test_a_cluster_counts_each_customer_in_one_slot(cluster_url: str) -> None:
    """Through a cluster of three masters, many customers at once get exactly their amount, across several records."""
    client = connect(cluster_url, deadline_s=PATIENT_S)
    assert isinstance(client, RedisCluster)
    await ping(client)
    assert await eviction_warning(client) is None
    limiter = RedisLimiter(client, deadline_s=PATIENT_S)
    limits = (prepaid(5), quota(9, per=CountedPer.CUSTOMER), quota(9, per=CountedPer.TOKEN), at_once(7))
    requests = [
        asking(*limits, subject=Subject(f"cus_{customer}", "sub", "fam"), request_id=str(number))
        for number in range(8)
        for customer in range(30)
    ]
    verdicts = await asyncio.gather(*(limiter.acquire(request) for request in requests))
    admitted = [
        request.subject.customer for request, verdict in zip(requests, verdicts, strict=True) if verdict.is_admitted
    ]
    assert {customer: admitted.count(customer) for customer in admitted} == {f"cus_{n}": 5 for n in range(30)}
    subject = Subject("cus_7", "sub", "fam")
    for number in range(8):
        await limiter.release(subject, str(number))
    assert (await limiter.peek(asking((at_once(7), 0), subject=subject))).states[0].remaining == 7
    assert await limiter.first_used_at(subject) == await limiter.first_used_at(subject)
    sizes = [await client.dbsize(target_nodes=[node]) for node in client.get_primaries()]
    assert all(sizes)
    assert [key async for key in client.scan_iter(f"{usage_prefix('cus_7')}:*")]
    await limiter.close()
    await client.aclose()


async def test_sentinels_name_the_master(tmp_path: Path) -> None:
    """A URL of sentinels reaches the master they name, and more calls than connections wait there too."""
    async with AsyncExitStack() as stack:
        master = await stack.enter_async_context(valkey(tmp_path / "master", "port {port}\n"))
        watched = f"port {{port}}\nsentinel monitor main {LOOPBACK} {master} 1\n"
        sentinel = await stack.enter_async_context(valkey(tmp_path / "sentinel", watched, "--sentinel"))
        client = connect(f"redis+sentinel://{LOOPBACK}:{sentinel}/main/2", deadline_s=PATIENT_S, max_connections=2)
        stack.push_async_callback(client.aclose)
        await ping(client)
        assert await eviction_warning(client) is None
        limiter = RedisLimiter(client, deadline_s=PATIENT_S)
        verdicts = await asyncio.gather(*(limiter.acquire(asking(prepaid(20))) for _ in range(50)))
        assert sum(verdict.is_admitted for verdict in verdicts) == 20
        direct = Redis(host=LOOPBACK, port=master, db=2)
        assert await direct.dbsize() > 0
        await direct.aclose()
