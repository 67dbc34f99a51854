"""What does a call cost before anything is decided, by the transports `h2corn` and `grpcio`?

Each serves, in a process of its own, a handler that answers 300 bytes at once. `h2load` (Debian: nghttp2-client) asks
both in turns, several times, with a request of 1,000 bytes and the deadline that Envoy sends, at 1, 16, 64 and 256
calls in flight on up to four connections. CPU is what the kernel counted for all threads of the server, to the
nanosecond, and holds on a busy machine; calls a second do not.

    python -m benchmarks.transport
"""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import grpc
from benchmarks.lab import scratch
from benchmarks.measure import arguments, keep, run, show

from tallygate.core.errors import InputError
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.process import Child, Program, running
from tallygate.envoy.check import SERVICE_PATH

ADAPTERS = ("h2corn", "grpcio")
IN_FLIGHT = (1, 16, 64, 256)
_CONNECTIONS = 4
_REQUEST, _ANSWER = bytes(range(250)) * 4, bytes(range(100)) * 3
_ROUND_S = 120


@dataclass(frozen=True, slots=True)
class Server:
    """A server to ask: its name in the table, where it is, its process."""

    name: str
    address: str
    pid: int


@dataclass(frozen=True, slots=True)
class Served:
    """One round: calls a second, and CPU us a call of the server."""

    calls_per_s: float
    cpu_us: float


@asynccontextmanager
async def served_by(name: str, place: Path) -> AsyncIterator[Server]:
    """Run a static server over the adapter of this name, and see that it answers as it should."""
    address, answer = f"{LOOPBACK}:{free_port()}", place / "answer.bin"
    answer.write_bytes(_ANSWER)
    command = (sys.executable, str(Path(__file__).with_name("static_handler.py")), address, str(answer), name)
    program = Program(f"the static handler over {name}", command, place, place / f"{name}.log")

    async def is_ready(_child: Child) -> bool:
        async with grpc.aio.insecure_channel(address) as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SERVICE_PATH)
            try:
                return await method(_REQUEST, timeout=1) == _ANSWER
            except grpc.aio.AioRpcError:
                return False

    async with running(program, is_ready, start_deadline_s=30, stop_deadline_s=10) as child:
        yield Server(name, address, child.pid)


async def ask(server: Server, body: Path, calls: int, in_flight: int) -> Served:
    """Send so many calls, so many at a time."""
    connections = min(in_flight, _CONNECTIONS)
    command = [
        *("h2load", "-n", str(calls), "-c", str(connections), "-m", str(in_flight // connections), "-d", str(body)),
        *("-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 200m"),
        f"http://{server.address}{SERVICE_PATH}",
    ]
    before_s, started = _cpu_s(server.pid), time.perf_counter()
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(_ROUND_S):
        printed, _ = await process.communicate()
    took_s = time.perf_counter() - started
    if f"status codes: {calls} 2xx".encode() not in printed:
        raise RuntimeError(printed.decode())
    return Served(calls / took_s, (_cpu_s(server.pid) - before_s) / calls * 1e6)


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def row(server: Server, in_flight: int, rounds: list[Served], least_us: float) -> dict[str, object]:
    """Return the line of one server at one depth: medians over its rounds."""
    cpu_us = median(one.cpu_us for one in rounds)
    return {
        "transport": server.name,
        "in flight": in_flight,
        "calls/s": round(median(one.calls_per_s for one in rounds)),
        "CPU us/call": round(cpu_us, 1),
        "x h2corn": round(cpu_us / least_us, 2),
    }


async def compare(servers: list[Server], body: Path, calls: int, rounds: int) -> list[dict[str, object]]:
    """Ask all in turns, at every depth."""
    rows: list[dict[str, object]] = []
    for in_flight in IN_FLIGHT:
        served: dict[str, list[Served]] = {server.name: [] for server in servers}
        for server in servers:
            await ask(server, body, calls // 10, in_flight)
        for _ in range(rounds):
            for server in servers:
                served[server.name].append(await ask(server, body, calls, in_flight))
        first_us = median(one.cpu_us for one in served[servers[0].name])
        rows += [row(server, in_flight, served[server.name], first_us) for server in servers]
    return rows


async def main(calls: int, rounds: int) -> None:
    """Start both, ask, write down what it cost."""
    if shutil.which("h2load") is None:
        raise InputError("h2load", "is not installed", "apt-get install nghttp2-client")
    with scratch() as place:
        body = place / "body.bin"
        body.write_bytes(b"\0" + len(_REQUEST).to_bytes(4, "big") + _REQUEST)
        async with AsyncExitStack() as left_open:
            servers = [await left_open.enter_async_context(served_by(name, place)) for name in ADAPTERS]
            rows = await compare(servers, body, calls, rounds)
    show(f"{rounds} rounds of {calls:,} calls each", rows)
    keep("transport", {"rounds": rounds, "calls": calls, "rows": rows})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--calls", type=int, default=20_000, help="in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    run(main(chosen.calls, chosen.rounds))
