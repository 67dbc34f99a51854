"""The limiter where Redis is a cluster, and where sentinels name the master: real processes, small ones."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError, ResponseError
from support.counting import asking, at_once, prepaid, quota
from support.limiters import PATIENT_S, limiter_to
from support.valkeys import SLOTS, cluster, cluster_url_of, command, text, until, valkey

from tallygate.core.errors import DependencyError, LimiterUnavailableError
from tallygate.devservers.ports import LOOPBACK
from tallygate.limits.amendment import AmendOutcome
from tallygate.limits.keys import due_key, index_key, usage_prefix
from tallygate.limits.limit import CountedPer
from tallygate.limits.limiter import Subject, Verdict
from tallygate.limits.receipt import amendment
from tallygate.limits.redis import RedisLimiter
from tallygate.storage.redis import connect, eviction_warning, ping

CREDIT = prepaid(9)
IMPATIENT_S = 0.5
_NUMBERS = itertools.count(1)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Redis]]:
    """Return clients of a cluster of three masters without replicas."""
    async with cluster(tmp_path) as clients:
        yield clients


async def customer_of(client: Redis, first: int, last: int) -> tuple[Subject, int]:
    """Return a customer whose slot is among these, and the slot."""
    for number in range(10_000):
        slot = int(str(await command(client, "CLUSTER", "KEYSLOT", f"{{cus_{number}}}")))
        if first <= slot <= last:
            return Subject(f"cus_{number}", "sub", "fam"), slot
    raise AssertionError("no customer found")


async def end(node: Redis) -> None:
    """Stop a node for good."""
    with suppress(RedisError):  # it does not say goodbye
        await command(node, "SHUTDOWN", "NOSAVE", "NOW")


async def until_answered(limiter: RedisLimiter, subject: Subject) -> Verdict:
    """Ask until Redis answers, which counts once; nobody else does anything about it."""
    asked = asking(CREDIT, subject=subject, request_id=f"request {next(_NUMBERS)}")
    async with asyncio.timeout(PATIENT_S):
        while True:
            try:
                return await limiter.acquire(asked)
            except DependencyError:  # an outage; or, on a starved machine, our own overload
                await asyncio.sleep(0)


async def test_a_cluster_counts_each_customer_in_one_slot(nodes: list[Redis]) -> None:
    """Through a cluster of three masters, many customers at once get exactly their amount, across several records."""
    url = cluster_url_of(nodes)
    client = connect(url, deadline_s=PATIENT_S)
    assert isinstance(client, RedisCluster)
    await ping(client)
    assert await eviction_warning(client) is None
    limiter = limiter_to(url)
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
    assert all([await node.dbsize() for node in nodes])
    assert [key async for key in client.scan_iter(f"{usage_prefix('cus_7')}:*")]
    await settles(limiter, client, subject)
    await limiter.close()
    await client.aclose()


async def settles(limiter: RedisLimiter, client: RedisCluster, subject: Subject) -> None:
    """See that receipts, what is due and the index of buckets are in the customer's slot, so one call changes all."""
    limit = quota(9, name="settled", per=CountedPer.CUSTOMER)
    asked = asking((limit, 3), usage=(("requests", 3),), subject=subject, request_id="r", receipt_s=600)
    assert (await limiter.acquire(asked._replace(unsettled=(("requests", 0),)))).is_admitted
    receipt = await limiter.receipt(subject.customer, "r")
    assert receipt is not None
    assert await client.zcard(due_key(subject.customer)) == 1
    changed = amendment(receipt, {"requests": 5}, "settlement")
    assert [await limiter.amend(changed) for _ in range(2)] == [AmendOutcome.DONE, AmendOutcome.REPEATED]
    assert await client.zcard(due_key(subject.customer)) == 0
    assert (await limiter.report(asking((limit, 9), subject=subject, request_id="r"))).states[0].remaining == 0
    open_buckets = await cast("Awaitable[set[bytes]]", client.smembers(index_key(subject.customer)))
    assert any(member.startswith(subject.customer.encode()) for member in open_buckets)


async def test_a_slot_that_moves_takes_its_counters_along(nodes: list[Redis]) -> None:
    """While a slot moves a call runs where its keys are or fails having counted nothing; then it goes on there."""
    source, target, _ = nodes
    subject, slot = await customer_of(source, *SLOTS[0])
    limiter = limiter_to(cluster_url_of(nodes[1:]))
    await limiter.acquire(asking(CREDIT, subject=subject))
    ids = [str(await command(node, "CLUSTER", "MYID")) for node in (source, target)]
    await command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    await command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    with pytest.raises(LimiterUnavailableError, match="TRYAGAIN"):  # its record is here, its new keys would be there
        await limiter.acquire(asking(CREDIT, subject=subject))
    first_used_at = await limiter.first_used_at(subject)  # one key, which is not here: asked of the target
    assert first_used_at is not None
    assert await target.dbsize() == 1
    await move(source, target, slot)
    assert await limiter.first_used_at(subject) == first_used_at
    for node in (target, source, nodes[2]):
        await command(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[1])
    verdicts = await asyncio.gather(*(limiter.acquire(asking(CREDIT, subject=subject)) for _ in range(20)))
    assert sum(verdict.is_admitted for verdict in verdicts) == 8
    await limiter.close()


async def move(source: Redis, target: Redis, slot: int) -> None:
    """Move all keys of a slot, as a cluster's administrator does."""
    keys = await command(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
    assert isinstance(keys, list)
    port = target.connection_pool.connection_kwargs["port"]
    await command(source, "MIGRATE", LOOPBACK, port, "", 0, 5_000, "KEYS", *keys)


async def test_a_cluster_that_lost_a_primary_goes_on_with_its_replica(tmp_path: Path) -> None:
    """With a primary gone, its customers' calls fail until the replica takes over, and then count on; others go on."""
    async with cluster(tmp_path, replicas=1) as nodes:
        lost, other = nodes[0], nodes[1]
        subject, _ = await customer_of(other, *SLOTS[0])
        bystander, _ = await customer_of(other, *SLOTS[1])
        limiter = limiter_to(cluster_url_of(nodes), deadline_s=IMPATIENT_S)
        for _ in range(3):
            await until_answered(limiter, subject)
        await command(lost, "WAIT", 1, 0)
        await end(lost)
        assert (await until_answered(limiter, bystander)).is_admitted
        assert (await until_answered(limiter, subject)).states[0].remaining == 5
        await limiter.close()


async def test_sentinels_name_the_master(tmp_path: Path) -> None:
    """A URL of sentinels reaches the master they name, its database included, with all calls of a worker at once."""
    async with AsyncExitStack() as stack:
        master = await stack.enter_async_context(valkey(tmp_path / "master", "port {port}\n"))
        watched = f"port {{port}}\nsentinel monitor main {LOOPBACK} {master} 1\n"
        sentinel = await stack.enter_async_context(valkey(tmp_path / "sentinel", watched, "--sentinel"))
        url = f"redis+sentinel://{LOOPBACK}:{sentinel}/main/2"
        client = connect(url, deadline_s=PATIENT_S, max_connections=2)
        stack.push_async_callback(client.aclose)
        await ping(client)
        assert await eviction_warning(client) is None
        limiter = limiter_to(url)
        stack.push_async_callback(limiter.close)
        verdicts = await asyncio.gather(*(limiter.acquire(asking(prepaid(20))) for _ in range(50)))
        assert sum(verdict.is_admitted for verdict in verdicts) == 20
        direct = Redis(host=LOOPBACK, port=master, db=2)
        assert await direct.dbsize() > 0
        await direct.aclose()


@dataclass(frozen=True, slots=True)
class Watched:
    """A master and its replica, a sentinel that watches them, and a limiter that asks it."""

    master: Redis
    replica: Redis
    sentinel: Redis
    limiter: RedisLimiter


@asynccontextmanager
async def watched(directory: Path, of_master: str = "") -> AsyncIterator[Watched]:
    """Run them all; the sentinel knows the replica."""
    async with AsyncExitStack() as stack:

        async def run(name: str, configuration: str, *options: str) -> Redis:
            port = await stack.enter_async_context(
                valkey(directory / name, f"port {{port}}\n{configuration}", *options)
            )
            client = Redis(host=LOOPBACK, port=port, decode_responses=True)
            stack.push_async_callback(client.aclose)
            return client

        master = await run("master", of_master)
        replica = await run("replica", f"replicaof {LOOPBACK} {port_of(master)}\n")
        await until(replica, "master_link_status:up", "INFO", "REPLICATION")
        terms = "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        monitored = f"sentinel monitor main {LOOPBACK} {port_of(master)} 1\n{terms}"
        sentinel = await run("sentinel", monitored, "--sentinel")
        await until(sentinel, str(port_of(replica)), "SENTINEL", "REPLICAS", "main")
        limiter = limiter_to(f"redis+sentinel://{LOOPBACK}:{port_of(sentinel)}/main", deadline_s=IMPATIENT_S)
        stack.push_async_callback(limiter.close)
        yield Watched(master, replica, sentinel, limiter)


def port_of(client: Redis) -> int:
    """Return the port a client connects to."""
    return int(client.connection_pool.connection_kwargs["port"])


async def test_the_limiter_follows_the_master(tmp_path: Path) -> None:
    """When the master is gone and sentinels make the replica master, the limiter finds it and counts on by itself."""
    async with watched(tmp_path) as servers:
        subject = Subject("cus_1", "sub", "fam")
        for _ in range(3):
            await until_answered(servers.limiter, subject)
        await command(servers.master, "WAIT", 1, 0)
        await end(servers.master)
        assert (await until_answered(servers.limiter, subject)).states[0].remaining == 5


async def test_a_master_that_was_replaced_is_left(tmp_path: Path) -> None:
    """A master that nobody could tell that it is none any more is asked no more, though it would still count."""
    async with watched(tmp_path, 'rename-command REPLICAOF ""\nrename-command SLAVEOF ""\n') as servers:
        await until_answered(servers.limiter, Subject("cus_0", "sub", "fam"))
        await fail_over(servers.sentinel)
        await until(servers.replica, "role:master", "INFO", "REPLICATION")
        keys, numbers = await servers.replica.dbsize(), itertools.count(1)
        async with asyncio.timeout(PATIENT_S):
            while await servers.replica.dbsize() == keys:
                await until_answered(servers.limiter, Subject(f"cus_{next(numbers)}", "sub", "fam"))
        assert "role:master" in await text(servers.master, "INFO", "REPLICATION")


async def fail_over(sentinel: Redis) -> None:
    """Make the replica master, as soon as the sentinel finds it fit."""
    async with asyncio.timeout(PATIENT_S):
        while True:
            with suppress(ResponseError):
                await command(sentinel, "SENTINEL", "FAILOVER", "main")
                return
