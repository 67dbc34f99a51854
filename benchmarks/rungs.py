"""Where do the microseconds of a decision go, rung by rung, in a server under load?

Four servers over h2corn, each with more of a decision than the last, asked in turns by `http2_load`, 64 in flight:

- static: a constant answer, so what the transport costs;
- spin: 18 us of nothing, to see what it costs the transport that Python is busy meanwhile;
- check: read, decide, write, count, with counters that answer at once;
- all of it: the same with three limits counted in Valkey.

CPU is split by thread, for HTTP/2 has one of its own; `sleeps` are how often a call that thread went to sleep, to be
woken for the next answer. Needs Linux.

    python -m benchmarks.rungs
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.contestants import process_of
from benchmarks.http2_load import Load, Poured, poured
from benchmarks.lab import scratch
from benchmarks.measure import arguments, keep, run, show

from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.process import Child, Program, running
from tallygate.devservers.valkey import EmbeddedValkey

RUNGS = ("static", "spin", "check", "all of it")
_IN_FLIGHT, _WARM_UP = 64, 500


@dataclass(frozen=True, slots=True, eq=False)
class Rung:
    """A running server."""

    name: str
    address: str
    pid: int
    questions: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Threads:
    """CPU us of Python's thread and of the others, and how often these went to sleep."""

    python_us: float
    others_us: float
    sleeps: float

    @classmethod
    def of(cls, pid: int) -> "Threads":
        """Return what the threads of a process have used so far."""
        python_us = others_us = sleeps = 0.0
        for task in Path(f"/proc/{pid}/task").iterdir():
            used_us = int((task / "schedstat").read_text().split()[0]) / 1000
            if int(task.name) == pid:
                python_us += used_us
            else:
                others_us += used_us
                found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)
                sleeps += int(found[1]) if found else 0
        return cls(python_us, others_us, sleeps)

    def since(self, before: "Threads", calls: int) -> "Threads":
        """Return what was used since, for each of so many calls."""
        pairs = (
            (self.python_us, before.python_us),
            (self.others_us, before.others_us),
            (self.sleeps, before.sleeps),
        )
        return Threads(*((now - then) / calls for now, then in pairs))


async def started(name: str, redis_url: str, place: Path, stack: AsyncExitStack) -> Rung:
    """Start the server of a rung."""
    address, ready = f"{LOOPBACK}:{free_port()}", place / f"{name.replace(' ', '-')}.json"
    command = (sys.executable, "-m", "benchmarks.rungs_handler", address, name, redis_url, str(ready))
    program = Program(f"the rung {name}", command, Path(__file__).parents[1], ready.with_suffix(".log"))

    async def is_ready(_child: Child) -> bool:
        return ready.exists() and ready.stat().st_size > 0

    child = await stack.enter_async_context(running(program, is_ready, start_deadline_s=30, stop_deadline_s=10))
    questions: list[tuple[str, str]] = json.loads(ready.read_text())
    return Rung(name, address, child.pid, questions)


async def climb(rungs: Sequence[Rung], valkey: int, calls: int, rounds: int) -> list[dict[str, object]]:
    """Ask all in turns."""
    made: dict[Rung, list[tuple[Poured, Threads]]] = {rung: [] for rung in rungs}
    for _ in range(rounds):
        for rung in rungs:
            before = Threads.of(rung.pid)
            load = Load(rung.address, rung.questions, calls, _IN_FLIGHT, 4, _WARM_UP, (rung.pid, valkey))
            answered = await poured(load)
            made[rung].append((answered, Threads.of(rung.pid).since(before, calls + _WARM_UP)))
    return [_row(rung, those) for rung, those in made.items()]


def _row(rung: Rung, made: Sequence[tuple[Poured, Threads]]) -> dict[str, object]:
    return {
        "rung": rung.name,
        "calls/s": round(median(one.calls_per_s for one, _ in made)),
        "CPU us/call": round(median(one.cpu_us[0] for one, _ in made), 1),
        "Python's thread": round(median(threads.python_us for _, threads in made), 1),
        "HTTP/2's thread": round(median(threads.others_us for _, threads in made), 1),
        "its sleeps": round(median(threads.sleeps for _, threads in made), 2),
        "Valkey us/call": round(median(one.cpu_us[1] for one, _ in made), 1),
    }


async def main(calls: int, rounds: int) -> None:
    """Start all, ask, write down where it went."""
    async with AsyncExitStack() as stack:
        place = stack.enter_context(scratch())
        valkey = await stack.enter_async_context(EmbeddedValkey(place / "valkey"))
        rungs = await asyncio.gather(*(started(name, valkey.url, place, stack) for name in RUNGS))
        rows = await climb(rungs, await process_of(valkey.url), calls, rounds)
    show(f"{rounds} rounds of {calls:,} calls, {_IN_FLIGHT} in flight, load {os.getloadavg()[0]:.1f}", rows)
    keep("rungs", {"rounds": rounds, "calls": calls, "in flight": _IN_FLIGHT, "rows": rows})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--calls", type=int, default=15_000, help="in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    run(main(chosen.calls, chosen.rounds))
