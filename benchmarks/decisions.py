"""What does a decision cost, and how many a second does one process make, over both transports?

One `tallygate serve` process for each transport decides requests of 100 customers' tokens, with three limits (a rate,
a day, a month), each counted in Valkey. Beside it runs a server that answers the same bytes without deciding, over
the same transport: what is between the two is ours. All are asked in turns, several times, by `http2_load` in a
process of its own, at 1, 16, 64 and 256 calls in flight on up to four connections. Each call has an id of its own, as
Envoy's have; `no ids` is what is left without. `one CPU` is a server that keeps its threads on one, with
`TALLYGATE_WORKER_CPUS=one`. CPU is the kernel's for all threads of a process, and holds on a busy machine; calls a
second do not: generator, server and Valkey share the processors.
`refused`: calls that were not allowed, because they met a deadline (of 0.15 s for Valkey, of 0.2 s for the call) on a
machine too busy to keep it.

    python -m benchmarks.decisions
"""

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import median

from benchmarks.contestants import (
    LEASED,
    Contestant,
    answer_of,
    deciding,
    is_understood,
    process_of,
    static,
    three_limits,
    tokens,
    with_ids,
    without_ids,
)
from benchmarks.http2_load import Poured, poured
from benchmarks.lab import Lab, control_plane, laboratory, scratch
from benchmarks.measure import arguments, keep, run, show

from tallygate.admin.operations import Operations

TRANSPORTS = ("h2corn", "grpcio")
IN_FLIGHT = (1, 16, 64, 256)
CUSTOMERS = 100
_DEADLINE_EXCEEDED = "4"
_SLOWER = {("grpcio", 1): 8, ("grpcio", 16): 3, ("grpcio", 64): 3, ("grpcio", 256): 3, ("h2corn", 1): 4}
"""Where calls take longer, so many times fewer are made."""


async def contestants(
    lab: Lab, operations: Operations, transports: Sequence[str], stack: AsyncExitStack
) -> list[Contestant]:
    """Start all servers; leased limits are asked about where plans can have them."""
    exact = await tokens(operations, three_limits("exact"), "exact", CUSTOMERS)
    leased: list[str] = []
    if is_understood(three_limits("leased", LEASED)):
        leased = await tokens(operations, three_limits("leased", LEASED), "leased", CUSTOMERS)
    else:
        print("leased limits are not measured: this version's plans do not know `exactness`")
    made: list[Contestant] = []
    for transport in transports:
        plane = await stack.enter_async_context(deciding(lab, transport, exact))
        constant = await stack.enter_async_context(static(lab, transport, await answer_of(plane), plane.questions))
        made += [constant, replace(plane, name="exact")]
        made.append(replace(plane, name="exact, no ids", questions=without_ids(exact)))
        if leased:
            made.append(replace(plane, name="leased", questions=with_ids(leased)))
        if transport == "h2corn":
            kept = await stack.enter_async_context(deciding(lab, transport, exact, {"worker_cpus": "one"}))
            made.append(replace(kept, name="exact, one CPU"))
            if leased:
                made.append(replace(kept, name="leased, one CPU", questions=with_ids(leased)))
    return made


def is_bare(one: Contestant, server: Contestant) -> bool:
    """Return whether a server is what another is compared with."""
    return one.name == "static" and one.transport == server.transport


def row(one: Contestant, in_flight: int, rounds: list[Poured], bare: list[Poured]) -> dict[str, object]:
    """Return the line of one server at one depth: medians over its rounds, and ratios to the static one."""
    cpu_us, static_us = (median(each.cpu_us[0] for each in those) for those in (rounds, bare))
    per_s, static_per_s = (median(each.calls_per_s for each in those) for those in (rounds, bare))
    return {
        "transport": one.transport,
        "server": one.name,
        "in flight": in_flight,
        "calls/s": round(per_s),
        "/ static": round(per_s / static_per_s, 2),
        "CPU us/call": round(cpu_us, 1),
        "over static, us": round(cpu_us - static_us, 1),
        "Valkey us/call": round(median(each.cpu_us[1] for each in rounds), 1),
        "generator us/call": round(median(each.own_cpu_us for each in rounds), 1),
        "p50_us": round(median(each.p50_us for each in rounds)),
        "p99_us": round(median(each.p99_us for each in rounds)),
        "refused": sum(each.calls - each.allowed for each in rounds),
    }


async def compare(
    servers: list[Contestant], valkey: int, calls: int, rounds: int, depths: Sequence[int]
) -> list[dict[str, object]]:
    """Ask all in turns, at every depth."""
    rows: list[dict[str, object]] = []
    for in_flight in depths:
        made: dict[Contestant, list[Poured]] = {server: [] for server in servers}
        for _ in range(rounds):
            for server in servers:
                number = calls // _SLOWER.get((server.transport, in_flight), 1)
                made[server].append(await poured(server.load(number, in_flight, valkey)))
        for server in servers:
            bare = next(each for each in servers if is_bare(each, server))
            _see_statuses(server, made[server])
            rows.append(row(server, in_flight, made[server], made[bare]))
        show(f"{in_flight} in flight, load {os.getloadavg()[0]:.1f}", rows[-len(servers) :])
    return rows


def _see_statuses(server: Contestant, rounds: list[Poured]) -> None:
    """Raise for an error of gRPC other than a deadline that has passed: a refusal is an answer, that is none."""
    wrong = {status for each in rounds for status in each.statuses} - {"0", _DEADLINE_EXCEEDED}
    if wrong:
        raise RuntimeError(f"{server.name} over {server.transport} ended calls with grpc-status {wrong}")


async def main(calls: int, rounds: int, transports: Sequence[str], depths: Sequence[int]) -> None:
    """Start all, ask, write down what it cost."""
    with scratch() as place:
        async with laboratory(place) as lab, control_plane(lab.control_dsn) as control, AsyncExitStack() as stack:
            servers = await contestants(lab, control.acting("benchmark"), transports, stack)
            rows = await compare(servers, await process_of(lab.redis_url), calls, rounds, depths)
    show(f"{rounds} rounds of {calls:,} calls each, fewer where they are slow", rows)
    keep("decisions", {"rounds": rounds, "calls": calls, "customers": CUSTOMERS, "rows": rows})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--calls", type=int, default=12_000, help="in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transports", nargs="+", choices=TRANSPORTS, default=TRANSPORTS)
    parser.add_argument("--in-flight", nargs="+", type=int, default=IN_FLIGHT)
    chosen = parser.parse_args()
    run(main(chosen.calls, chosen.rounds, chosen.transports, chosen.in_flight))
