"""What does licensing add to a request through a real Envoy, at a fixed rate, and how much can be had at most?

One Envoy with three listeners, each made of the shipped `deploy/envoy/01-minimal.yaml` with Envoy's own answer in place
of an upstream: one without ext_authz, one whose authorization server answers a constant (what ext_authz costs whoever
uses it), one that asks `tallygate serve` (three limits, exact, 100 customers). All are asked in turns, several times,
by `open_loop` at 500, 2,000 and 5,000 requests a second, and as fast as 64 connections can. Latency is from when a
request was due. `added` is what is above no ext_authz at all, in the same round; medians of all rounds.

    python -m benchmarks.through_envoy
"""

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from benchmarks.contestants import answer_of, deciding, process_of, static, three_limits, tokens
from benchmarks.lab import Lab, control_plane, laboratory, scratch
from benchmarks.measure import arguments, keep, run, show
from benchmarks.open_loop import Met, Traffic, met

from tallygate.admin.operations import Operations
from tallygate.devservers.envoy import EmbeddedEnvoy
from tallygate.devservers.ports import LOOPBACK

RATES = (500, 2_000, 5_000)
_SHIPPED = Path(__file__).parents[1] / "deploy" / "envoy" / "01-minimal.yaml"
_PLAIN, _CONSTANT, _DECISION = "no ext_authz", "constant answer", "decision"
_LISTENERS = {_PLAIN: "plain", _CONSTANT: "constant", _DECISION: "decision"}
_CUSTOMERS = 100
_QUANTILES = ("p50", "p99", "p999")
_GOALS = {"p50": 1.3, "p99": 1.5}


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running Envoy: the address of each way, whose CPU is looked at, and who asks."""

    addresses: dict[str, str]
    pids: tuple[int, ...]
    tokens: list[str]


def bootstrap(constant: str, deciding_at: str) -> str:
    """Return Envoy's configuration: the shipped listener three times, answering by itself."""
    shipped: dict[str, Any] = yaml.safe_load(_SHIPPED.read_text())
    resources = shipped["static_resources"]
    pattern = resources["listeners"][0]
    cluster = next(one for one in resources["clusters"] if one["name"] == "tallygate")
    listeners = [_listener(pattern, name) for name in _LISTENERS.values()]
    servers = {"constant": constant, "decision": deciding_at}
    clusters = [_cluster(cluster, name, address) for name, address in servers.items()]
    admin = {"address": {"socket_address": {"address": LOOPBACK, "port_value": 0}}}
    return yaml.safe_dump({"admin": admin, "static_resources": {"listeners": listeners, "clusters": clusters}})


def _listener(pattern: dict[str, Any], name: str) -> dict[str, Any]:
    made = deepcopy(pattern)
    made["name"] = name
    made["address"] = {"socket_address": {"address": LOOPBACK, "port_value": 0}}
    manager = made["filter_chains"][0]["filters"][0]["typed_config"]
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
    manager["route_config"]["virtual_hosts"][0]["routes"] = [answer]
    asking = manager["http_filters"][0]["typed_config"]
    if name == "plain":
        del manager["http_filters"][0]
    else:
        asking["grpc_service"]["envoy_grpc"]["cluster_name"] = name
    return made


def _cluster(pattern: dict[str, Any], name: str, address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    made = deepcopy(pattern)
    made["name"] = made["load_assignment"]["cluster_name"] = name
    endpoint = made["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["address"] = {"socket_address": {"address": host, "port_value": int(port)}}
    return made


async def gateway(lab: Lab, operations: Operations, transport: str, stack: AsyncExitStack) -> Gateway:
    """Start Envoy and both servers behind it."""
    secrets = await tokens(operations, three_limits("exact"), "exact", _CUSTOMERS)
    plane = await stack.enter_async_context(deciding(lab, transport, secrets))
    constant = await stack.enter_async_context(static(lab, transport, await answer_of(plane), plane.questions))
    configuration = bootstrap(constant.address, plane.address)
    envoy = EmbeddedEnvoy(configuration, run_dir=lab.directory / "envoy", concurrency=1)
    await stack.enter_async_context(envoy)
    addresses = {way: f"{LOOPBACK}:{envoy.port(name)}" for way, name in _LISTENERS.items()}
    return Gateway(addresses, (plane.pid, constant.pid, _child("envoy"), await process_of(lab.redis_url)), secrets)


def _child(program: str) -> int:
    """Return the process id of the child that runs this program."""
    pids = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return next(int(pid) for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == program)


async def compare(gate: Gateway, rates: Sequence[int], seconds: float, rounds: int) -> list[dict[str, object]]:
    """Ask all ways in turns at every rate; the last is as fast as can be."""
    rows: list[dict[str, object]] = []
    for rate in (*rates, 0):
        made: dict[str, list[Met]] = {way: [] for way in _LISTENERS}
        for _ in range(rounds):
            for way, address in gate.addresses.items():
                made[way].append(await met(Traffic(address, gate.tokens, rate, seconds, pids=gate.pids)))
        rows += [row(way, rate, made) for way in _LISTENERS]
        show(f"{rate or 'as many as can be'} a second, load {os.getloadavg()[0]:.1f}", rows[-len(_LISTENERS) :])
    return rows


def row(way: str, rate: int, made: dict[str, list[Met]]) -> dict[str, object]:
    """Return the line of one way at one rate."""
    rounds = made[way]
    used = {_DECISION: 0, _CONSTANT: 1}.get(way)
    return {
        "way": way,
        "rate": rate or "maximum",
        "calls/s": round(median(one.calls_per_s for one in rounds)),
        **{f"{name}_us": round(median(_us(one, name) for one in rounds)) for name in _QUANTILES},
        **{f"added {name}_us": round(added_us(way, name, made)) for name in _QUANTILES},
        "x constant p50": _ratio(way, "p50", made),
        "x constant p99": _ratio(way, "p99", made),
        "authz CPU us": "-" if used is None else round(median(one.cpu_us[used] for one in rounds), 1),
        "Envoy CPU us": round(median(one.cpu_us[2] for one in rounds), 1),
        "client CPU us": round(median(one.own_cpu_us for one in rounds), 1),
        "late p99_us": round(median(one.late_p99_us for one in rounds)),
        "not 200": sum(count for one in rounds for status, count in one.statuses.items() if status != "200"),
    }


def added_us(way: str, name: str, made: dict[str, list[Met]]) -> float:
    """Return the median, over the rounds, of what this way took more than none did in the same round."""
    pairs = zip(made[way], made[_PLAIN], strict=True)
    return median(_us(one, name) - _us(bare, name) for one, bare in pairs)


def _us(one: Met, name: str) -> float:
    return {"p50": one.p50_us, "p99": one.p99_us, "p999": one.p999_us}[name]


def _ratio(way: str, name: str, made: dict[str, list[Met]]) -> float | str:
    """Return what a decision adds over what a constant answer adds."""
    if way != _DECISION:
        return "-"
    constant = added_us(_CONSTANT, name, made)
    return round(added_us(way, name, made) / constant, 2) if constant > 0 else "-"


async def main(rates: Sequence[int], seconds: float, rounds: int, transport: str) -> None:
    """Start all, ask, write down what it took."""
    with scratch() as place:
        async with laboratory(place) as lab, control_plane(lab.control_dsn) as control, AsyncExitStack() as stack:
            gate = await gateway(lab, control.acting("benchmark"), transport, stack)
            rows = await compare(gate, rates, seconds, rounds)
    show(f"{rounds} rounds of {seconds:g} s each, over {transport}", rows)
    keep("through_envoy", {"rounds": rounds, "seconds": seconds, "transport": transport, "goals": _GOALS, "rows": rows})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--rates", nargs="+", type=int, default=RATES)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transport", choices=("h2corn", "grpcio"), default="h2corn")
    chosen = parser.parse_args()
    run(main(chosen.rates, chosen.seconds, chosen.rounds, chosen.transport))
