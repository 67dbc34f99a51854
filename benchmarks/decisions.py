"""What does a decision cost, and how many a second does one process make, over the grpcio transport?

One `tallygate serve` process decides requests of a token with three limits (a rate, a day, a month), each counted in
Valkey. Beside it runs a server that answers the same bytes without deciding, over the same transport: what is between
the two is ours, the rest is gRPC's. Both are asked in turns, several times, from this process, at 1, 16 and 64 calls in
flight. CPU is what the kernel counted for the server process (and for Valkey), and it holds on a busy machine; calls a
second do not, the caller takes its share of the same processors. `undecided` calls met a deadline (of 0.15 s, for
Valkey) on a machine too busy to keep it.

    python -m benchmarks.decisions
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import redis.asyncio
from benchmarks.caller import OK, Caller, Question, calling, read
from benchmarks.lab import Lab, control_plane, data_planes, laboratory, scratch
from benchmarks.measure import arguments, keep, quantile, run, show
from benchmarks.population import catalogue_text

from tallygate.admin.operations import Operations
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.process import Child, Program, running
from tallygate.plans.parse import parse

IN_FLIGHT = (1, 16, 64)
_WARM_UP = 300
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Served:
    """One round: seconds of each call, and of all; CPU us a call of the server, and of Valkey; calls not allowed."""

    took_s: list[float]
    elapsed_s: float
    cpu_us: float
    valkey_us: float
    undecided: int


class Cpu:
    """CPU seconds the kernel has counted for two processes."""

    def __init__(self, valkey_url: str) -> None:
        """Ask the Valkey of this URL for its own."""
        self._valkey = redis.asyncio.from_url(valkey_url)

    async def used_s(self, pid: int) -> tuple[float, float]:
        """Return what process `pid` and Valkey have used."""
        valkey = await self._valkey.info("cpu")
        return _process_s(pid), valkey["used_cpu_user"] + valkey["used_cpu_sys"]

    async def close(self) -> None:
        """Close the connection."""
        await self._valkey.aclose()


def _process_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS_PER_S


@dataclass(frozen=True, slots=True)
class Server:
    """A server to ask: its name in the table, a connection to it, its process."""

    name: str
    caller: Caller
    pid: int


async def ask(server: Server, question: Question, calls: int, in_flight: int, cpu: Cpu) -> Served:
    """Send so many calls, so many at a time."""
    todo = iter(range(calls))
    took: list[float] = []
    answers: list[bytes] = []

    async def one_after_the_other() -> None:
        for _ in todo:
            started = time.perf_counter()
            answers.append(await server.caller.raw(question.next()))
            took.append(time.perf_counter() - started)

    before, started = await cpu.used_s(server.pid), time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    elapsed_s, after = time.perf_counter() - started, await cpu.used_s(server.pid)
    cpu_us, valkey_us = ((there - here) / calls * 1e6 for here, there in zip(before, after, strict=True))
    undecided = sum(read(answer).reason != OK for answer in answers)
    return Served(took, elapsed_s, cpu_us, valkey_us, undecided)


@asynccontextmanager
async def static_server(lab: Lab, answer: bytes) -> AsyncIterator[Server]:
    """Run the server that answers these bytes, whatever it is asked."""
    address, file = f"{LOOPBACK}:{free_port()}", lab.directory / "answer.bin"
    file.write_bytes(answer)
    command = (sys.executable, str(Path(__file__).with_name("static_handler.py")), address, str(file))
    program = Program("the static handler", command, lab.directory, lab.directory / "static.log")

    async def is_ready(_child: Child) -> bool:
        try:
            _, writer = await asyncio.open_connection(*address.split(":"))
        except OSError:
            return False
        writer.close()
        return True

    async with (
        running(program, is_ready, start_deadline_s=30, stop_deadline_s=10) as child,
        calling(address) as caller,
    ):
        yield Server("static", caller, child.pid)


def row(server: Server, in_flight: int, rounds: list[Served], static_us: float) -> dict[str, object]:
    """Return the line of one server at one depth: medians over its rounds."""
    cpu_us = median(one.cpu_us for one in rounds)
    return {
        "server": server.name,
        "in flight": in_flight,
        "calls/s": round(median(len(one.took_s) / one.elapsed_s for one in rounds)),
        "CPU us/call": round(cpu_us, 1),
        "x static": round(cpu_us / static_us, 2),
        "Valkey us/call": round(median(one.valkey_us for one in rounds), 1),
        "undecided": sum(one.undecided for one in rounds),
        "p50_ms": round(median(quantile(one.took_s, 0.5) for one in rounds) * 1000, 2),
        "p99_ms": round(median(quantile(one.took_s, 0.99) for one in rounds) * 1000, 2),
    }


async def compare(
    static: Server, deciding: Server, question: Question, cpu: Cpu, *, calls: int, rounds: int
) -> list[dict[str, object]]:
    """Ask both in turns, at every depth."""
    rows: list[dict[str, object]] = []
    for in_flight in IN_FLIGHT:
        served: dict[str, list[Served]] = {static.name: [], deciding.name: []}
        for server in (static, deciding):
            await ask(server, question, _WARM_UP, in_flight, cpu)
        for _ in range(rounds):
            for server in (static, deciding):
                served[server.name].append(await ask(server, question, calls, in_flight, cpu))
        static_us = median(one.cpu_us for one in served[static.name])
        rows += [row(server, in_flight, served[server.name], static_us) for server in (static, deciding)]
    return rows


async def main(calls: int, rounds: int) -> None:
    """Start both, ask, write down what it cost."""
    with scratch() as place:
        async with laboratory(place) as lab, control_plane(lab.control_dsn) as control:
            question = Question(await enterprise_token(control.acting("benchmark")))
            cpu = Cpu(lab.redis_url)
            async with data_planes(lab, 1) as (plane,), calling(plane.address) as caller:
                deciding = Server("decision, 3 limits", caller, plane.child.pid)
                async with static_server(lab, await caller.raw(question.next())) as static:
                    rows = await compare(static, deciding, question, cpu, calls=calls, rounds=rounds)
            await cpu.close()
    show(f"{rounds} rounds of {calls:,} calls each", rows)
    keep("decisions", {"rounds": rounds, "calls": calls, "rows": rows})


async def enterprise_token(operations: Operations) -> str:
    """Return a token whose three limits are never met."""
    await operations.plans.apply(parse(catalogue_text(1), "benchmark"))
    customer = await operations.customers.create("customer", None)
    subscription = await operations.subscriptions.create(customer.id, "enterprise")
    return (await operations.tokens.issue(subscription=subscription.id)).secret


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--calls", type=int, default=3000, help="in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    run(main(chosen.calls, chosen.rounds))
