"""What is watched only where it is switched on: single customers in metrics, and traces."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tallygate import __version__
from tallygate.decision.decision import Decision
from tallygate.decision.pipeline import Pipeline
from tallygate.envoy.check import Decider
from tallygate.envoy.count_customers import CustomerCounting
from tallygate.insights.customers import BusyCustomers
from tallygate.insights.redis import RedisCustomerRanks
from tallygate.lifecycle import Work, every
from tallygate.metrics import CustomerMetrics, Metrics
from tallygate.settings import Settings
from tallygate.storage.redis import RedisClient

Observe = Callable[[Decision, float], None]
_RANK_S, _SEND_S = 5.0, 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What decides and what is told of each decision; the work beside requests, and what ends it."""

    decider: Decider
    observe: Observe
    background: Mapping[str, Work] = field(default_factory=dict)
    closers: Sequence[Work] = ()


def watched(values: Settings, metrics: Metrics, pipeline: Pipeline, count: Observe, client: RedisClient) -> Watched:
    """Return `pipeline` and `count` themselves where nothing is switched on, so that it costs nothing.

    Raises InputError where traces are switched on and OpenTelemetry is not installed.
    """
    whole = Watched(pipeline, count)
    if values.metrics_customers:
        whole = _by_customer(whole, values.metrics_customers, metrics, client)
    if values.traces_endpoint is not None:
        whole = _traced(whole, pipeline, values.traces_endpoint, values.traces_ratio, metrics)
    return whole


def _by_customer(whole: Watched, most: int, metrics: Metrics, client: RedisClient) -> Watched:
    customers, series, ranks = BusyCustomers(most), CustomerMetrics(metrics.registry), RedisCustomerRanks(client)

    async def rank() -> None:
        await customers.rank(ranks)
        series.keep(customers.named)

    return replace(
        whole,
        observe=CustomerCounting(whole.observe, series, customers),
        background={**whole.background, "customers": lambda: every(_RANK_S, rank)},
    )


def _traced(whole: Watched, pipeline: Pipeline, endpoint: str, ratio: float, metrics: Metrics) -> Watched:
    # Loaded for those alone who want traces; it raises the error.
    from tallygate.traces import otlp  # noqa: PLC0415
    from tallygate.traces.checks import TracedChecks  # noqa: PLC0415

    queue = otlp.span_queue(endpoint, lambda result, spans: metrics.trace_spans.add(spans, result))
    return replace(
        whole,
        decider=TracedChecks(pipeline, otlp.tracer(queue, __version__), ratio),
        background={**whole.background, "traces": lambda: every(_SEND_S, queue.hand_on)},
        closers=[*whole.closers, queue.close],
    )


def check_traces(values: Settings) -> None:
    """Raise InputError where traces are switched on and OpenTelemetry is not installed."""
    if values.traces_endpoint is not None:
        import tallygate.traces.otlp  # noqa: F401, PLC0415
