"""How does the cost of a decision grow: with limits, with tokens in the cache, with customers in Redis?

- limits: a data plane over h2corn, plans with 1, 3 and 8 limits, asked in turns by `http2_load`, 64 in flight;
- tokens: a thousand to a million licenses in the cache, read as from Postgres, one and five to a subscription, each
  number in a process of its own (`crowded_cache`): bytes a license by the resident set, and CPU us of a whole check
  without transport and counters, for a hundred tokens and for random ones among all. Goal: 1,024 bytes at a million;
- customers: so many have made one request with three limits: Valkey's memory for each, and what it is taken by;
  CPU us of Valkey for one more decision of a random one.

    python -m benchmarks.scaling
"""

import asyncio
import itertools
import json
import random
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import redis.asyncio
from benchmarks.contestants import Contestant, answer_of, deciding, process_of, static, tokens, with_ids
from benchmarks.http2_load import Poured, cpu_s, poured
from benchmarks.lab import control_plane, laboratory, scratch
from benchmarks.limiter import THREE_LIMITS
from benchmarks.measure import arguments, keep, run, show

from tallygate.core.clock import SystemClock
from tallygate.core.ids import new_id
from tallygate.devservers.valkey import EmbeddedValkey
from tallygate.limits.limiter import Acquisition, Charge, Subject
from tallygate.limits.present import Present
from tallygate.limits.script import ACQUIRE_LUA, Form

LIMITS = (1, 3, 8)
TOKENS = (1_000, 10_000, 100_000, 1_000_000)
PER_SUBSCRIPTION = (1, 5)
CUSTOMERS = (1_000, 100_000, 1_000_000)
GOAL_BYTES = 1_024
_IN_FLIGHT = 64
_TRACED = 20_000
_BATCH, _DECISIONS = 64, 12_800
_CROWD_DEADLINE_S = 400
_LONGEST_S = 1_500
"""To read a million licenses, twice, takes several minutes."""
_PLANS = """
routes: [{match: "* /v1/**", scope: things.read}]
plans:
"""
_PLAN = "  - {{key: limits-{0}, name: With {0}, scopes: [things.read], limits: [{1}]}}\n"
_EIGHT = (
    "{name: per-second, rate: 1_000_000/s, burst: 1_000_000}",
    "{name: daily, quota: 10_000_000_000, period: day}",
    "{name: monthly, quota: 100_000_000_000, period: month}",
    "{name: minutely, quota: 10_000_000_000, period: minute}",
    "{name: hourly, quota: 10_000_000_000, period: hour}",
    "{name: weekly, quota: 10_000_000_000, period: week}",
    "{name: per-token, rate: 1_000_000/s, burst: 1_000_000, per: token}",
    "{name: token-daily, quota: 10_000_000_000, period: day, per: token}",
)


async def by_limits(calls: int, rounds: int) -> list[dict[str, object]]:
    """Return the cost of a decision by number of limits."""
    plans = _PLANS + "".join(_PLAN.format(number, ", ".join(_EIGHT[:number])) for number in LIMITS)
    async with AsyncExitStack() as stack:
        place = stack.enter_context(scratch())
        lab = await stack.enter_async_context(laboratory(place))
        operations = (await stack.enter_async_context(control_plane(lab.control_dsn))).acting("benchmark")
        known = {number: await tokens(operations, plans, f"limits-{number}", 100) for number in LIMITS}
        plane = await stack.enter_async_context(deciding(lab, "h2corn", known[LIMITS[0]]))
        bare = await stack.enter_async_context(static(lab, "h2corn", await answer_of(plane), plane.questions))
        asked = {0: bare} | {number: replace(plane, questions=with_ids(known[number])) for number in LIMITS}
        return await _in_turns(asked, await process_of(lab.redis_url), calls, rounds)


async def _in_turns(asked: dict[int, Contestant], valkey: int, calls: int, rounds: int) -> list[dict[str, object]]:
    made: dict[int, list[Poured]] = {number: [] for number in asked}
    for _, (number, one) in itertools.product(range(rounds), asked.items()):
        made[number].append(await poured(one.load(calls, _IN_FLIGHT, valkey)))
    return [
        {
            "limits": number or "static answer",
            "calls/s": round(median(each.calls_per_s for each in those)),
            "CPU us/call": round(median(each.cpu_us[0] for each in those), 1),
            "Valkey us/call": round(median(each.cpu_us[1] for each in those), 1),
        }
        for number, those in made.items()
    ]


async def by_tokens(sizes: Sequence[int]) -> tuple[list[dict[str, object]], dict[int, list[dict[str, object]]]]:
    """Return what licenses take by their number, and where the memory of each goes."""
    rows, places = [], {}
    for size, per_subscription in itertools.product(sizes, PER_SUBSCRIPTION):
        rows.append(await _crowded(str(size), str(per_subscription)))
        print(rows[-1], flush=True)
    for per_subscription in PER_SUBSCRIPTION:
        traced = await _crowded(str(min(_TRACED, max(sizes))), str(per_subscription), "traced")
        places[per_subscription] = traced["by place"]
    return rows, places


async def _crowded(*words: str) -> dict[str, Any]:
    command = (sys.executable, "-m", "benchmarks.crowded_cache", *words)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    async with asyncio.timeout(_CROWD_DEADLINE_S):
        printed, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    found: dict[str, Any] = json.loads(printed)
    return found


async def by_customers(sizes: Sequence[int]) -> list[dict[str, object]]:
    """Return what customers take in Valkey by their number."""
    with scratch() as place:
        server = EmbeddedValkey(place / "valkey", is_durable=False)
        async with server, redis.asyncio.from_url(server.url) as valkey:
            crowd = _Customers(valkey, await process_of(server.url))
            await crowd.begin()
            return [await crowd.grow_to(size) for size in sizes]


class _Customers:
    """Customers with counters in one Valkey."""

    def __init__(self, valkey: redis.asyncio.Redis, pid: int) -> None:
        self._valkey = valkey
        self._pid = pid
        self._digest = ""
        self._subjects: list[Subject] = []
        self._present = Present(SystemClock())
        self._empty_bytes = 0
        self._ids = itertools.count(10**18)

    async def begin(self) -> None:
        """Load the script and look at the empty store."""
        self._digest = str(await self._valkey.script_load(ACQUIRE_LUA))
        self._empty_bytes = await self._used_bytes()

    async def grow_to(self, size: int) -> dict[str, object]:
        """Let customers come until there are so many; return what each takes."""
        at = SystemClock().now()
        more = [
            Subject(*(new_id(kind, at) for kind in ("cus", "sub", "fam"))) for _ in range(size - len(self._subjects))
        ]
        self._subjects += more
        await self._decide(more)
        grown_bytes = await self._used_bytes() - self._empty_bytes
        sizes = {kind: await self._usage_bytes(kind) for kind in ("record", "usage", "id")}
        chance = random.Random(3)  # noqa: S311 - who asks next is no secret
        cpu_us = [await self._decide(chance.choices(self._subjects, k=_DECISIONS)) for _ in range(3)]
        return {
            "customers": size,
            "bytes a customer": round(grown_bytes / size),
            "counters": sizes["record"],
            "usage of a minute": sizes["usage"],
            "request id": sizes["id"],
            "Valkey us/decision": round(median(cpu_us), 1),
        }

    async def _used_bytes(self) -> int:
        return int((await self._valkey.info("memory"))["used_memory"])

    async def _usage_bytes(self, kind: str) -> int:
        """Return the mean of MEMORY USAGE of a few keys of a kind."""
        found = [key async for key in self._valkey.scan_iter(match="*", count=1000) if _kind(key) == kind][:100]
        return round(mean([await self._valkey.memory_usage(key, samples=0) or 0 for key in found] or [0]))

    async def _decide(self, subjects: Sequence[Subject]) -> float:
        """Let each make a request, many in one write; return Valkey's CPU us for one."""
        charges = tuple(Charge(limit, 1) for limit in THREE_LIMITS)
        before = cpu_s(self._pid)
        for first in range(0, len(subjects), _BATCH):
            pipeline = self._valkey.pipeline(transaction=False)
            for subject in subjects[first : first + _BATCH]:
                acquisition = Acquisition(subject, charges, (("requests", 1),), "GET /v1/things")
                keys, rest = Form(acquisition).call("acquire", str(next(self._ids)), self._present)
                pipeline.evalsha(self._digest, len(keys), *keys, *rest)
            await pipeline.execute()
        return (cpu_s(self._pid) - before) / len(subjects) * 1e6


def _kind(key: bytes) -> str:
    """Return what is under a key: the id of a request, usage of a minute, or a record of counters."""
    return {b"i": "id", b"u": "usage"}.get(key.partition(b"}:")[2][:1], "record")


async def main(sizes: Sequence[int], customers: Sequence[int], calls: int, rounds: int) -> None:
    """Measure all three and keep the numbers."""
    limits = await by_limits(calls, rounds)
    show(f"Number of limits, {_IN_FLIGHT} in flight, {rounds} rounds of {calls:,} calls", limits)
    in_redis = await by_customers(customers)
    show("Customers in Valkey", in_redis)
    cached, places = await by_tokens(sizes)
    show(f"Licenses in the cache; goal: {GOAL_BYTES:,} bytes at a million", cached)
    for per_subscription, where in places.items():
        show(f"Where the bytes go, by tracemalloc, {per_subscription} to a subscription", where)
    found = {"limits": limits, "customers": in_redis, "tokens": cached, "goal_bytes": GOAL_BYTES}
    keep("scaling", found | {f"where_{number}": where for number, where in places.items()})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--tokens", nargs="+", type=int, default=TOKENS)
    parser.add_argument("--customers", nargs="+", type=int, default=CUSTOMERS)
    parser.add_argument("--calls", type=int, default=10_000, help="in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    run(main(chosen.tokens, chosen.customers, chosen.calls, chosen.rounds), longest_s=_LONGEST_S)
