"""What does a cold data plane cost: its start, the first decision, and everyone's first request at once?

- start: from the start of the process until it says that it is ready, and until it has decided a first request right
  (known by Postgres only); beside it the start of a bare interpreter, and of a server that answers a constant;
- storm: thousands of tokens that no cache holds, each asked about once, 64 at a time: what is read, how quickly, and
  how often Postgres was asked; then the same again, warm;
- herd: one token that no cache holds, asked about 256 times at once: one read.

Reads are those Postgres counts for the function that finds a license, in all the life of the data plane.

    python -m benchmarks.cold_start
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

import asyncpg
from benchmarks.caller import OK, Question, calling, read
from benchmarks.contestants import answer_of, static, three_limits, tokens, with_ids
from benchmarks.http2_load import Load, Poured, poured
from benchmarks.lab import Lab, control_plane, data_planes, laboratory, scratch
from benchmarks.measure import arguments, keep, run, show

_IN_FLIGHT, _HERD = 64, 256


async def start_s(lab: Lab, secret: str) -> tuple[float, float]:
    """Return seconds from the start of `tallygate serve` until it is ready, and until its first decision is right."""
    started = time.perf_counter()
    async with data_planes(lab, 1) as (plane,):
        ready_s = time.perf_counter() - started
        async with calling(plane.address) as caller:
            answer = read(await caller.raw(Question(secret).next()))
        if answer.reason != OK:
            raise RuntimeError(f"the first decision is wrong: {answer}")
        return ready_s, time.perf_counter() - started


async def bare_start_s() -> float:
    """Return seconds for an interpreter to start and end."""
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass")
    await process.wait()
    return time.perf_counter() - started


async def static_start_s(lab: Lab, secret: str) -> float:
    """Return seconds until a server that answers a constant has answered."""
    started = time.perf_counter()
    async with static(lab, "h2corn", b"", with_ids([secret])) as server:
        await answer_of(server)
        return time.perf_counter() - started


async def starts(lab: Lab, secret: str, rounds: int) -> list[dict[str, object]]:
    """Start everything in turns."""
    made: dict[str, list[float]] = {}
    for _ in range(rounds):
        ready_s, decided_s = await start_s(lab, secret)
        took_s = {
            "bare interpreter, to its end": await bare_start_s(),
            "constant answer, first answer": await static_start_s(lab, secret),
            "tallygate serve, ready": ready_s,
            "tallygate serve, first decision right": decided_s,
        }
        for name, seconds in took_s.items():
            made.setdefault(name, []).append(seconds)
    bare_s = median(made["bare interpreter, to its end"])
    return [
        {
            "start": name,
            "p50_ms": round(median(seconds) * 1000),
            "max_ms": round(max(seconds) * 1000),
            "x bare": round(median(seconds) / bare_s, 1),
        }
        for name, seconds in made.items()
    ]


class Reads:
    """How often Postgres was asked for a license."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Ask by a superuser's connection."""
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def of(cls, lab: Lab) -> AsyncIterator["Reads"]:
        """Have Postgres count the calls of functions."""
        connection = await asyncpg.connect(lab.owner_dsn)
        try:
            await connection.execute("ALTER SYSTEM SET track_functions = 'all'")
            await connection.execute("SELECT pg_reload_conf()")
            yield cls(connection)
        finally:
            await connection.close()

    async def so_far(self) -> int:
        """Return the number; of those backends only that have ended, for others tell of theirs when they like."""
        await self._connection.execute("SELECT pg_stat_clear_snapshot()")
        query = "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname = 'find_license_v1'"
        return int(await self._connection.fetchval(query))


async def storms(lab: Lab, secrets: list[str], rounds: int) -> list[dict[str, object]]:
    """Ask a cold data plane about every token, a warm one again, and a cold one about one token only."""
    made: dict[str, list[Poured]] = {}
    read: dict[str, list[int]] = {}
    async with Reads.of(lab) as reads:
        for number in range(rounds):
            for names, asked, in_flight in (
                (("storm, cold", "the same, warm"), secrets, _IN_FLIGHT),
                (("herd on one token, cold",), secrets[number : number + 1], _HERD),
            ):
                before = await reads.so_far()
                async with data_planes(lab, 1) as (plane,):
                    calls = max(len(asked), in_flight)
                    load = Load(plane.address, with_ids(asked), calls, in_flight, 4, 0, (plane.child.pid,))
                    for name in names:
                        made.setdefault(name, []).append(await poured(load))
                read.setdefault(names[0], []).append(await reads.so_far() - before)
    return [_row(name, those, read.get(name, [])) for name, those in made.items()]


def _row(name: str, rounds: list[Poured], reads: list[int]) -> dict[str, object]:
    return {
        "load": name,
        "calls": rounds[0].calls,
        "calls/s": round(median(one.calls_per_s for one in rounds)),
        "p50_ms": round(median(one.p50_us for one in rounds) / 1000, 2),
        "p99_ms": round(median(one.p99_us for one in rounds) / 1000, 2),
        "CPU us/call": round(median(one.cpu_us[0] for one in rounds), 1),
        "reads of Postgres": " ".join(map(str, reads)) or "none more",
        "refused": sum(one.calls - one.allowed for one in rounds),
        "why": ", ".join(sorted({why for one in rounds for why in (*one.reasons, *_errors(one))})) or "-",
    }


def _errors(one: Poured) -> list[str]:
    return [f"grpc-status {status}" for status in one.statuses if status != "0"]


async def main(number: int, rounds: int) -> None:
    """Start, ask, write down what it took."""
    with scratch() as place:
        async with laboratory(place) as lab, control_plane(lab.control_dsn) as control:
            secrets = await tokens(control.acting("benchmark"), three_limits("exact"), "exact", number)
            began = await starts(lab, secrets[0], rounds)
            asked = await storms(lab, secrets, rounds)
    show(f"Start, {rounds} rounds, load {os.getloadavg()[0]:.1f}", began)
    show(f"Cold caches, {rounds} rounds", asked)
    keep("cold_start", {"rounds": rounds, "tokens": number, "starts": began, "storms": asked})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=2_000, help="of the storm (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    run(main(chosen.tokens, chosen.rounds))
