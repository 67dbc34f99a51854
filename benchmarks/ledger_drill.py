"""Everything is killed, again and again, under load: does the ledger have what callers were told?

Callers (`ledger_drill_callers`) ask `tallygate serve`, and tell it how requests ended. Meanwhile one of data plane,
worker, Valkey and Postgres, or two, gets SIGKILL, in an order drawn from a seed, and is started again; a round is over
when all are back and requests have been answered since. In the end the ledger must have, by meter and entry, what
callers were told, and its roll-ups what its entries add up to. Redis's clock runs sixty times as fast, so that buckets
are sealed and moved all the while. (What the worker gives back goes by the true clock: as if Redis's had stepped back.)

With `always` that is to the unit. With `everysec` each loss is traced to a kill of Valkey (`ledger_drill_losses`), and
must be of the last 2 s before it; `--slow-fsync` makes every fsync last, so that there are some. Only what was spent of
a slab of leased requests and never answered, because the data plane was killed, is in the ledger unknown to callers.

    python -m benchmarks.ledger_drill --rounds 200 --fsync always
    python -m benchmarks.ledger_drill --rounds 30 --fsync everysec --slow-fsync 1.5

Exits 1 when a total differs by more than that.
"""

import asyncio
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path

from benchmarks.contestants import tokens
from benchmarks.drill_process import FASTER
from benchmarks.lab import control_plane, scratch
from benchmarks.ledger_drill_callers import PLAN, Callers
from benchmarks.ledger_drill_losses import Kill, Losses, differences
from benchmarks.ledger_drill_victims import PATIENCE_S, SERVICES_KEY, Postgres, Valkey, Victim, tallygate
from benchmarks.measure import arguments, keep, run, show
from redis.asyncio import Redis

from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.limits.keys import due_keys
from tallygate.storage.migrate import migrate
from tallygate.storage.postgres import connect

_CUSTOMERS = 5
_LONGEST_S = 7200.0
_LOOK_S = 0.1
_JOURNALS, _BUCKETS = "tallygate-*/slabs-*", "tg:v1:*}:u:*"
_PROGRESS = 20
"""Requests that are answered after each round, before the next begins."""
_ENTRIES = "SELECT meter, entry, sum(quantity)::bigint AS units FROM usage_entries GROUP BY 1, 2"
_BY_METER = "SELECT meter, sum(quantity)::bigint AS units FROM {table} GROUP BY 1"
_ROLL_UPS = ("usage_hours", "usage_days", "usage_months", "usage_totals")


@dataclass(frozen=True, slots=True)
class Terms:
    """What is drilled."""

    rounds: int
    fsync: str
    seed: int
    slow_fsync_s: float


class Drill:
    """Servers, their callers, and what became of them."""

    def __init__(self, place: Path, terms: Terms) -> None:
        """Drill in `place`."""
        self._place = place
        self._terms = terms
        self._chance = random.Random(terms.seed)  # noqa: S311 - to be repeated, not to be secret
        self._postgres = Postgres(place / "postgres", port=free_port())
        self._valkey = Valkey(place, terms.fsync, terms.slow_fsync_s)
        self._killed: Counter[str] = Counter()
        self._losses = Losses(self._valkey.url, time.monotonic())

    async def run(self) -> dict[str, object]:
        """Kill, start again, and count."""
        async with AsyncExitStack() as left_open:
            for server in (self._postgres, self._valkey):
                left_open.push_async_callback(server.stop)
                await server.start()
            dsn = self._postgres.dsn()
            secrets = await _secrets(dsn)
            checks_at, services_at = (f"{LOOPBACK}:{free_port()}" for _ in range(2))
            common = {"postgres_dsn": dsn, "redis_url": self._valkey.url}
            services = {"services_listen": services_at, "services_key": SERVICES_KEY}
            serve = tallygate("serve", self._place, common | services | {"listen": checks_at})
            worker = tallygate("worker", self._place, common | {"usage_round_s": 0.3})
            for process in (serve, worker):
                left_open.push_async_callback(process.stop)
                await process.start()
            callers = Callers(checks_at, services_at, self._valkey.url, secrets)
            async with callers.asking():
                await callers.until(_PROGRESS)
                for number in range(1, self._terms.rounds + 1):
                    await self._round(number, callers, serve, worker)
            await self._losses.look(callers.told, None)
            await self._settled(serve)
            return await self._found(dsn, callers)

    async def _round(self, number: int, callers: Callers, serve: Victim, worker: Victim) -> None:
        victims: tuple[Victim | Postgres, ...] = (serve, worker, self._valkey, self._postgres)
        chosen = self._chance.sample(victims, self._chance.choice((1, 1, 1, 2)))
        told = await self._valkey.told() if self._valkey in chosen else {}
        kill = None
        for victim in chosen:
            self._killed[victim.name] += 1
            os.killpg(victim.pid, signal.SIGKILL)
            if victim is self._valkey:
                kill = Kill(number, " ".join(each.name for each in chosen), time.monotonic(), told)
        await asyncio.sleep(self._chance.random() * 0.3)
        for victim in sorted(chosen, key=victims.index, reverse=True):
            await victim.stop()
            await victim.start()
        if kill is not None:
            await self._losses.look(callers.told, kill)
        await callers.until(callers.told.allowed + _PROGRESS)
        await asyncio.sleep(self._chance.random() * 2 * 60 / FASTER)

    async def _settled(self, serve: Victim) -> None:
        """Wait until nothing is to be given back, settled from a journal, or moved."""
        async with asyncio.timeout(PATIENCE_S), Redis.from_url(self._valkey.url) as client:
            for _ in repeat(None):
                if len(list(self._place.glob(_JOURNALS))) <= 1 and not await client.exists(*due_keys()):
                    break
                await asyncio.sleep(_LOOK_S)
            await serve.stop()  # which gives back what it holds
            for _ in repeat(None):
                if not [key async for key in client.scan_iter(match=_BUCKETS, count=1000)]:
                    break
                await asyncio.sleep(_LOOK_S)

    async def _found(self, dsn: str, callers: Callers) -> dict[str, object]:
        ledger, by_meter = await _totals(dsn)
        told, losses = callers.told, self._losses
        wrong = differences(told, ledger, losses, self._killed)
        wrong |= {table: sums for table, sums in by_meter.items() if sums != by_meter["usage_entries"]}
        if self._terms.fsync == "always" and (losses.rows or told.unknown):
            wrong["lost"] = f"{sum(losses.units.values())} units, {told.unknown} receipts"
        if losses.too_old:
            wrong["lost, and older than it may be"] = losses.too_old
        return {
            **asdict(self._terms),
            "killed": dict(self._killed),
            "requests": told.allowed,
            "attempts": told.attempts,
            "failures": dict(told.failures),
            "decided from slabs": losses.from_slabs,
            "units": {
                "/".join(name): {"told": told.units[name], "in the ledger": ledger.get(name, 0)}
                for name in sorted({*told.units, *ledger})
            },
            "lost": losses.rows,
            "receipts gone": told.unknown,
            "wrong": wrong,
        }


async def _secrets(dsn: str) -> list[str]:
    """Make the database; return a token of each customer."""
    await migrate(dsn)
    async with control_plane(dsn) as control:
        return await tokens(control.acting("benchmark"), PLAN, "drilled", _CUSTOMERS)


async def _totals(dsn: str) -> tuple[dict[tuple[str, str], int], dict[str, dict[str, int]]]:
    """Return the ledger's units by meter and entry, and those of each table by meter."""
    connection = await connect(dsn, application_name="benchmark")
    try:
        entries = {(row["meter"], row["entry"]): row["units"] for row in await connection.fetch(_ENTRIES)}
        by_meter = {
            table: {row["meter"]: row["units"] for row in await connection.fetch(_BY_METER.format(table=table))}
            for table in ("usage_entries", *_ROLL_UPS)
        }
    finally:
        await connection.close()
    return entries, by_meter


async def main(terms: Terms, *, is_kept: bool) -> None:
    """Drill, and say what came of it."""
    with scratch() as place:
        # What a data plane writes down of its slabs lies where its files do, and goes with them.
        os.environ["TMPDIR"] = tempfile.tempdir = str(place)
        found = await Drill(place, terms).run()
    show(f"{terms.rounds} rounds, seed {terms.seed}", [{name: found[name] for name in ("fsync", "killed", "requests")}])
    for title in ("units", "decided from slabs", "lost", "receipts gone", "wrong"):
        print(f"{title}: {json.dumps(found[title], indent=2)}")
    if is_kept:
        keep(f"ledger_drill_{terms.fsync}" + ("_slow_fsync" if terms.slow_fsync_s else ""), found)
    if found["wrong"]:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--fsync", choices=("always", "everysec"), default="everysec")
    parser.add_argument("--slow-fsync", type=float, default=0.0, metavar="S", help="make each fsync last so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write the result down")
    given = parser.parse_args()
    asked = Terms(given.rounds, given.fsync, given.seed, given.slow_fsync)
    run(main(asked, is_kept=given.keep), _LONGEST_S)
