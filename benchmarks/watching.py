"""What does watching cost a request: exemplars, single customers, traces?

The data plane is that of `hot_path`, without a socket. The ways take turns, round by round; each is shown as its best
round on the CPU clock of the thread that decides, and as a ratio to `off`, which is what `serve` does by default. 200
customers ask, of whom 100 are named. Spans end in the queue; what it takes to send them is shown beside, as is how long
the thread is kept by a page with 100 customers and one with none.

    python -m benchmarks.watching
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from benchmarks.hot_path import Bench, Step, awaits
from benchmarks.measure import arguments, keep, run, show
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tallygate.decision.decision import Decision
from tallygate.envoy.check import Check, Decider
from tallygate.envoy.count_customers import CustomerCounting
from tallygate.insights.customers import BusyCustomers
from tallygate.metrics import CustomerMetrics, openmetrics
from tallygate.traces.checks import TracedChecks
from tallygate.traces.otlp import SpanQueue, tracer

_OFF, _NAMED, _SPANS = "off", 100, 128
_RATIOS = {"traces, of none": 0.0, "traces, of 1 %": 0.01, "traces, of all": 1.0}
Observe = Callable[[Decision, float], None]


class Kept(SpanExporter):
    """Keeps the last spans it was given."""

    spans: Sequence[ReadableSpan] = ()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep them."""
        self.spans = spans
        return SpanExportResult.SUCCESS


class Watching:
    """Every way to decide, of one data plane each."""

    def __init__(self) -> None:
        """Wire them."""
        self.exporter = Kept()
        self.queue = SpanQueue(self.exporter, lambda _result, _spans: None)
        self.off, self.named = Bench(), Bench()
        bare = Bench()
        observe = bare.metrics.check_duration.observe
        bare.count._observe = lambda amount, decision_id: observe(amount)  # noqa: ARG005, SLF001 - as it was
        self.benches = {_OFF: self.off, "off, and no exemplars": bare, "customers": self.named}
        self.steps = [
            _step(_OFF, self.off, self.off.pipeline, self.off.count),
            _step("off, and no exemplars", bare, bare.pipeline, bare.count),
        ]

    async def warm(self) -> None:
        """Load what is decided with, and name customers."""
        decided = await self.named.decide(self.named.questions)
        customers = BusyCustomers(_NAMED)
        ids = [decision.license.customer for decision, _ in decided if decision.license is not None]
        customers.named = frozenset(ids[:_NAMED])
        by_customer = CustomerCounting(self.named.count, CustomerMetrics(self.named.metrics.registry), customers)
        self.steps.append(_step("customers", self.named, self.named.pipeline, by_customer))
        traces = tracer(self.queue, "benchmark")
        for name, ratio in _RATIOS.items():
            bench = self.benches[name] = Bench()
            self.steps.append(_step(name, bench, TracedChecks(bench.pipeline, traces, ratio), bench.count))
        for bench in self.benches.values():
            await bench.decide(bench.questions)

    async def send_us(self) -> float:
        """Return the CPU microseconds to encode one span of a batch."""
        await self.queue.hand_on()
        batch = self.exporter.spans[:_SPANS]
        return _best_us(lambda: encode_spans(batch).SerializeToString(), 50) / len(batch)

    def pages_ms(self) -> dict[str, float]:
        """Return the CPU milliseconds of a page without customers and of one with."""
        pages = {"page": self.off, f"page of {_NAMED} customers": self.named}
        return {
            name: round(_best_us(lambda: openmetrics(bench.metrics.registry), 20) / 1000, 2)  # noqa: B023 - called at once
            for name, bench in pages.items()
        }


def _step(name: str, bench: Bench, decider: Decider, count: Observe) -> Step:
    return awaits(name, Check(decider, bench.writer, count, print), bench.questions)


def _best_us(work: Callable[[], object], rounds: int) -> float:
    return min(_took_us(work) for _ in range(rounds))


def _took_us(work: Callable[[], object]) -> float:
    began_ns = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - began_ns) / 1000


async def main(rounds: int, times: int) -> None:
    """Measure all and keep the numbers."""
    watching = Watching()
    await watching.warm()
    best: dict[str, float] = {}
    for number in range(rounds + 1):
        for step in watching.steps:
            took_us = _took_us(lambda: step.round(times)) / times  # noqa: B023 - called at once
            if number:  # the first is to warm up
                best[step.name] = min(best.get(step.name, took_us), took_us)
        await asyncio.sleep(0)
    rows = [{"way": name, "us": round(us, 2), "to off": round(us / best[_OFF], 3)} for name, us in best.items()]
    show(f"CPU of one check, the best of {rounds} rounds of {times:,}", rows)
    beside = {"encoding of a span, us": round(await watching.send_us(), 1)} | {
        f"{name}, ms": ms for name, ms in watching.pages_ms().items()
    }
    show("Beside requests", [{"what": name, "cpu": value} for name, value in beside.items()])
    keep("watching", {"rounds": rounds, "calls": times, "ways": rows, "beside": beside})
    await watching.queue.close()


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="of each way; default 60")
    parser.add_argument("--calls", type=int, default=1_000, help="in each round; default 1,000")
    options = parser.parse_args()
    run(main(options.rounds, options.calls))
