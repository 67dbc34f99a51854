"""Is the limit the limit, with four workers and twice the demand, at full load?

`TALLYGATE_WORKERS=4` on one shared port; 256 calls in flight over 32 connections, each call with an id of its own. In
each round a new customer has a quota of a day, beside a rate and a month that are never met, and asks for twice as
much; with counting behind the request, all that is in flight when the limit is met would be admitted too. Goal:
admitted / limit is exactly 1, and at most 1 when leased. `admitted` are answers that allow; `counted` is what the usage
in Valkey says, a moment after the end, when leases are settled. The two differ by calls whose answer came too late for
their caller: they are among those `in vain`, which met neither the limit nor an admission.

    python -m benchmarks.exactness
"""

import asyncio
import os

import redis.asyncio
from benchmarks.contestants import is_understood, tokens, with_ids
from benchmarks.http2_load import Load, poured
from benchmarks.lab import Lab, control_plane, data_planes, laboratory, scratch
from benchmarks.measure import arguments, keep, run, show

from tallygate.admin.operations import Operations
from tallygate.limits.keys import OPENED_FIELD

WORKERS = 4
_IN_FLIGHT, _CONNECTIONS = 256, 32
_SETTLED_S = 3.0
_OPENED = OPENED_FIELD.encode()
"""The one field of a bucket that is no usage."""
_PLAN = """
routes: [{match: "* /v1/**", scope: things.read}]
plans:
"""
_ONE = """
  - {key: MODE, name: MODE, scopes: [things.read], limits: [
      {name: per-second, rate: 1_000_000/s, burst: 1_000_000LEASED},
      {name: daily, quota: AMOUNT, period: dayLEASED},
      {name: monthly, quota: 100_000_000_000, period: monthLEASED}]}
"""


def catalogue(amount: int) -> dict[str, str]:
    """Return a plan file for each mode that this version knows."""
    said = {"exact": "", "leased": ", exactness: leased"}
    files = {
        mode: _PLAN + _ONE.replace("MODE", mode).replace("AMOUNT", str(amount)).replace("LEASED", more)
        for mode, more in said.items()
    }
    return {mode: text for mode, text in files.items() if is_understood(text)}


async def one_round(lab: Lab, address: str, mode: str, secret: str, amount: int) -> dict[str, object]:
    """Return what a new customer was admitted of twice the limit."""
    load = Load(address, with_ids([secret]), 2 * amount, _IN_FLIGHT, _CONNECTIONS, warm_up=0)
    made = await poured(load)
    await asyncio.sleep(_SETTLED_S)
    counted = await _counted_since_last(lab)
    return {
        "mode": mode,
        "limit": amount,
        "calls": made.calls,
        "calls/s": round(made.calls_per_s),
        "admitted": made.allowed,
        "counted": counted,
        "admitted / limit": round(made.allowed / amount, 6),
        "counted / limit": round(counted / amount, 6),
        "in vain": made.calls - made.allowed - made.reasons.get("quota_exceeded", 0),
        "load": round(os.getloadavg()[0], 1),
    }


async def _counted_since_last(lab: Lab) -> int:
    """Return the units that the usage in Valkey holds, and forget it."""
    async with redis.asyncio.from_url(lab.redis_url) as valkey:
        used = 0
        async for key in valkey.scan_iter(match="*}:u:*", count=1000):
            used += sum(int(units) for field, units in (await valkey.hgetall(key)).items() if field != _OPENED)
            await valkey.delete(key)
        return used


async def compare(lab: Lab, operations: Operations, amount: int, rounds: int) -> list[dict[str, object]]:
    """Meet the limit in each mode, in turns."""
    files = catalogue(amount)
    if "leased" not in files:
        print("leased limits are not measured: this version's plans do not know `exactness`")
    known = {mode: await tokens(operations, text, mode, rounds) for mode, text in files.items()}
    rows: list[dict[str, object]] = []
    async with data_planes(lab, 1, more={"workers": WORKERS, "worker_endpoints": "shared"}) as (plane,):
        for number in range(rounds):
            for mode, secrets in known.items():
                rows.append(await one_round(lab, plane.address, mode, secrets[number], amount))
    return rows


async def main(amount: int, rounds: int) -> None:
    """Start all, ask for too much, write down what was had."""
    with scratch() as place:
        async with laboratory(place) as lab, control_plane(lab.control_dsn) as control:
            rows = await compare(lab, control.acting("benchmark"), amount, rounds)
    show(f"{WORKERS} workers, {_IN_FLIGHT} in flight", rows)
    keep("exactness", {"workers": WORKERS, "limit": amount, "rows": rows})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=int, default=20_000, help="units of the quota (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    run(main(chosen.limit, chosen.rounds))
