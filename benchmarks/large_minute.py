"""One customer, one minute, very many kinds of requests: how long does its bucket take to the ledger?

A bucket is moved in one transaction, however large, and enforcement goes on meanwhile: a PING each 2 ms tells how long
Valkey keeps others waiting.

    python -m benchmarks.large_minute --fields 600000
"""

import asyncio
import resource
import time
from pathlib import Path

from benchmarks.lab import laboratory, scratch
from benchmarks.measure import arguments, keep, run, show
from redis.asyncio import Redis

from tallygate.limits import keys
from tallygate.limits.keys import Owner, usage_field
from tallygate.storage.postgres import close_pool, connect, create_pool
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link
from tallygate.usage.mover import Mover, Round
from tallygate.usage.postgres import PostgresLedger
from tallygate.usage.redis import RedisUsageBuckets

_OWNER = Owner("sub_1", "pro@3", "fam_1")
_AT_ONCE, _PING_S = 10_000, 0.002
_LONGEST_S = 1800.0


async def _fill(client: Redis, fields: int) -> None:
    """Count as enforcement does, one unit of each field, in a minute that is over."""
    minute = int(time.time()) // 60 - 3
    key = keys.usage_bucket("cus_1", minute)
    for at in range(0, fields, _AT_ONCE):
        routes = (f"GET /{number}" for number in range(at, min(fields, at + _AT_ONCE)))
        named = (usage_field(_OWNER, "requests", keys.ALLOWED, route) for route in routes)
        await client.hset(key, mapping=dict.fromkeys(named, "1"))
    await client.hset(key, keys.OPENED_FIELD, str(minute * 60_000_000))
    await client.sadd(keys.index_key("cus_1"), keys.index_member("cus_1", minute))


async def _longest_wait(client: Redis, is_over: asyncio.Event) -> float:
    """Return the longest that Valkey took to answer, s."""
    longest_s = 0.0
    while not is_over.is_set():
        began_s = time.monotonic()
        await client.ping()
        longest_s = max(longest_s, time.monotonic() - began_s)
        await asyncio.sleep(_PING_S)
    return longest_s


async def _moved(redis_url: str, dsn: str) -> Round:
    """Move what is over, as the worker does."""
    pool = await create_pool(dsn, max_size=4, command_timeout_s=30)
    links = link(redis_url, LinkTerms(deadline_s=2, max_in_flight=4096))
    try:
        return await Mover(RedisUsageBuckets(links), PostgresLedger(pool)).round()
    finally:
        await links.close()
        await close_pool(pool)


async def _measured(place: Path, fields: int) -> dict[str, object]:
    async with laboratory(place) as lab, Redis.from_url(lab.redis_url) as client:
        await _fill(client, fields)
        is_over, began_s = asyncio.Event(), time.monotonic()
        waiting = asyncio.create_task(_longest_wait(client, is_over))
        done = await _moved(lab.redis_url, lab.control_dsn)
        took_s = time.monotonic() - began_s
        is_over.set()
        connection = await connect(lab.owner_dsn, application_name="benchmark")
        units = await connection.fetchval("SELECT sum(quantity)::bigint FROM usage_hours")
        await connection.close()
        return {
            "fields": fields,
            "entries": done.entries,
            "units in the hour": units,
            "problem": done.problem,
            "took_s": round(took_s, 1),
            "longest PING, and this process, ms": round(await waiting * 1000),
            "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


async def main(fields: int, *, is_kept: bool) -> None:
    """Move, and say how long it took."""
    with scratch() as place:
        found = await _measured(place, fields)
    show("a large minute", [found])
    if is_kept:
        keep("large_minute", found)
    if found["units in the hour"] != fields:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--fields", type=int, default=600_000)
    parser.add_argument("--keep", action="store_true", help="write the result down")
    given = parser.parse_args()
    run(main(given.fields, is_kept=given.keep), _LONGEST_S)
