"""Every Prometheus series Tallygate exposes, in one place.

Labels are bounded by construction: reasons, plan keys, meters, dependencies and policies; never a
customer, a token or a path. Owns names, help and buckets. Does not own the endpoint (`probes.py`).

What requests move is kept in plain numbers, for the client library's own counters take a lock each time, and becomes
series only when somebody looks. For one event loop.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_CHECK_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
_LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

LABELS: Mapping[str, str] = {
    "decision": "`allow`, `deny`, or `error` for a check that failed inside Tallygate",
    "reason": "why, of a fixed list: reasons of [decisions](failure-modes.md), or what the meaning names",
    "plan": "the key of a plan (`pro`), empty where no license was found",
    "meter": "a meter of the plans, such as `requests`",
    "outcome": "`allowed`, or `overage` beyond a limit's amount",
    "result": "what it came to, of a fixed list",
    "shadow": "a version (`pro@4`) or limit (`pro@3:burst`) that is tried in shadow",
    "method": "a method of our own gRPC services",
    "code": "a gRPC status",
    "dependency": "`postgres` or `redis`",
    "policy": "what a limit's `fail` says: `open`, `closed`, `local`",
    "export": "the name of an export",
    "state": "a state, of a fixed list",
    "version": "Tallygate's",
}
"""What each label may hold; each is bounded by what operators write, never by who calls. docs/metrics.md prints it."""


class Tally(Collector):
    """A counter: a number for each set of label values, which begins with the first one counted.

    `labels` are their names.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        """Register `<name>_total` with these labels."""
        self._name = name
        self._documentation = documentation
        self.labels = tuple(labels)
        self._numbers: defaultdict[tuple[str, ...], int] = defaultdict(int)
        registry.register(self)

    def count(self, *values: str) -> None:
        """Count one under these label values, given in the order of the labels."""
        self._numbers[values] += 1

    def add(self, amount: int, *values: str) -> None:
        """Count `amount` under these label values."""
        self._numbers[values] += amount

    def describe(self) -> list[Metric]:
        """Return the series' name and labels."""
        return [CounterMetricFamily(self._name, self._documentation, labels=self.labels)]

    def collect(self) -> Iterator[Metric]:
        """Return what was counted."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self.labels)
        for values, number in list(self._numbers.items()):
            family.add_metric([str(value) for value in values], number)
        yield family


class Spread(Collector):
    """A histogram without labels."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        """Register it; each bucket holds what is at most its bound, and one more holds the rest."""
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(bounds)
        self._numbers = [0] * (len(bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, amount: float) -> None:
        """Take one amount."""
        self._numbers[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def describe(self) -> list[Metric]:
        """Return the series' name."""
        return [HistogramMetricFamily(self._name, self._documentation)]

    def collect(self) -> Iterator[Metric]:
        """Return the buckets, each with all that is below it."""
        names = map(floatToGoString, (*self._bounds, float("inf")))
        family = HistogramMetricFamily(self._name, self._documentation)
        family.add_metric([], list(zip(names, accumulate(self._numbers), strict=True)), self._sum)
        yield family


class OverWorkers(StrEnum):
    """How the values that several workers have for a gauge become one."""

    SUM = "sum"
    MIN = "min"
    MAX = "max"


GAUGES_OVER_WORKERS: Mapping[str, OverWorkers] = {
    "tallygate_license_staleness_seconds": OverWorkers.MAX,
    "tallygate_dependency_up": OverWorkers.MIN,
    "tallygate_build_info": OverWorkers.MAX,
    "tallygate_usage_ledger_lag_seconds": OverWorkers.MAX,
    "tallygate_workers": OverWorkers.SUM,
    "process_virtual_memory_bytes": OverWorkers.SUM,
    "process_resident_memory_bytes": OverWorkers.SUM,
    "process_start_time_seconds": OverWorkers.MIN,
    # Of the process that is nearest to its bound.
    "process_open_fds": OverWorkers.MAX,
    "process_max_fds": OverWorkers.MIN,
    "python_info": OverWorkers.MAX,
}
"""The rule of every gauge. Counters and histograms are summed, always; `_created` is that of the oldest."""


_LEDGER_LAG = (
    "tallygate_usage_ledger_lag_seconds",
    "Age of the newest instant before which all usage is in the ledger; 70 or so is as usual.",
)


class Metrics:
    """The series of one process, in a registry of its own so that tests do not share them."""

    def __init__(self, version: str) -> None:
        """Register every series; `version` is Tallygate's own."""
        self.registry = CollectorRegistry()
        self._process = (
            ProcessCollector(registry=self.registry),
            PlatformCollector(registry=self.registry),
            GCCollector(registry=self.registry),
        )
        tally, gauge = partial(Tally, registry=self.registry), partial(Gauge, registry=self.registry)
        duration = partial(Spread, bounds=_CHECK_BUCKETS_S, registry=self.registry)
        self.checks = tally(
            "tallygate_checks",
            "Requests decided, by decision (allow, deny, error), reason and plan key.",
            ["decision", "reason", "plan"],
        )
        self.check_duration = duration(
            "tallygate_check_duration_seconds", "Time from a decoded request to its encoded answer."
        )
        self.license_cache = tally("tallygate_license_cache", "Look-ups in the license cache, by result.", ["result"])
        self.license_staleness = gauge(
            "tallygate_license_staleness_seconds", "Seconds since this process last knew of every license change."
        )
        self.limiter_duration = duration("tallygate_limiter_duration_seconds", "Time of one call to the counter store.")
        self.limiter_batch_size = Spread(
            "tallygate_limiter_batch_size",
            "Calls to the counter store that shared one write.",
            bounds=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self.leased_requests = tally(
            "tallygate_leased_requests",
            "Requests paid for ahead of need: granted (or refused, unheard), and in the end spent, returned or lost.",
            ["result"],
        )
        self.units = tally(
            "tallygate_units",
            "Units admitted, by plan key, meter and outcome (allowed, overage), as the ledger splits them.",
            ["plan", "meter", "outcome"],
        )
        self.overage_units = tally(
            "tallygate_overage_units",
            "Units admitted beyond the amount of a limit of their meter, by plan key and meter.",
            ["plan", "meter"],
        )
        self.shadow_decisions = tally(
            "tallygate_shadow_decisions",
            "Allowed requests a version (pro@4) or limit (pro@3:burst) in shadow saw, by what it would have said.",
            ["plan", "shadow", "reason"],
        )
        self.outcomes = tally(
            "tallygate_outcomes",
            "Outcomes told by access logs, by what they came to (settled, refunded, repeated, unknown, none, dropped).",
            ["result"],
        )
        self.services_calls = tally(
            "tallygate_services_calls", "Calls to the services beside Check that ended, by status.", ["method", "code"]
        )
        self.dependency_up = gauge(
            "tallygate_dependency_up", "1 while the dependency answers, 0 while it does not.", ["dependency"]
        )
        self.degraded_decisions = tally(
            "tallygate_degraded_decisions",
            "Decisions made without the counter store, by the fail policy that stood in.",
            ["policy"],
        )
        self.degraded_usage = tally(
            "tallygate_degraded_requests",
            "Requests admitted without the counter store: told to the ledger later, lost, or unclear (maybe counted).",
            ["result"],
        )
        self.event_loop_lag = Spread(
            "tallygate_event_loop_lag_seconds",
            "How much later than asked the event loop woke, ten times a second: what every request waits beside.",
            bounds=_LAG_BUCKETS_S,
            registry=self.registry,
        )
        self.usage_ledger_lag = gauge(*_LEDGER_LAG)
        self.build_info = Info("tallygate_build", "The version that runs.", registry=self.registry)
        self.build_info.info({"version": version})

    def exposition(self) -> bytes:
        """Return all series in the Prometheus text format."""
        return generate_latest(self.registry)


class WorkerMetrics:
    """The series of the process that does the work in the background."""

    def __init__(self, version: str) -> None:
        """Register every series; `version` is Tallygate's own."""
        self.registry = CollectorRegistry()
        self._process = ProcessCollector(registry=self.registry), GCCollector(registry=self.registry)
        tally, gauge = partial(Tally, registry=self.registry), partial(Gauge, registry=self.registry)
        self.leads = gauge("tallygate_worker_leads", "1 in the worker that does the work, 0 in those that stand by.")
        self.usage_ledger_lag = gauge(*_LEDGER_LAG)
        self.usage_backlog = gauge(
            "tallygate_usage_backlog_buckets",
            "Buckets of minutes that are over, still to be moved when the last round had ended.",
        )
        self.usage_entries = tally("tallygate_usage_entries", "Entries that were added to the ledger.", [])
        self.usage_unmoved = tally(
            "tallygate_usage_unmoved_buckets",
            "Buckets the ledger did not get as they were: kept_aside in Redis to be looked at, or expired, and lost.",
            ["reason"],
        )
        self.reconciliation_difference = gauge(
            "tallygate_usage_reconciliation_difference_units",
            "The most units by which a quota's counter and the ledger differed when last compared; 0 is right.",
        )
        self.reconciliation_checked = tally(
            "tallygate_usage_reconciliation_checked", "Counters that were compared with the ledger.", []
        )
        self.reconciliation_skipped = tally(
            "tallygate_usage_reconciliation_skipped", "Counters that could not be compared just then.", []
        )
        self.receipts_given_back = tally(
            "tallygate_receipts_given_back", "Requests charged ahead that nobody settled in time: refunded.", []
        )
        self.export_lag = gauge(
            "tallygate_export_lag_seconds", "Age of the oldest entry of the ledger that is not exported.", ["export"]
        )
        self.exported_rows = tally(
            "tallygate_exported_rows",
            "Entries of the ledger by what became of them (sent, repeated, aside, skipped).",
            ["export", "result"],
        )
        self.export_aside = gauge(
            "tallygate_export_aside_rows", "Entries that are put aside, for somebody to look at.", ["export"]
        )
        self.tokens = gauge("tallygate_tokens", "Tokens, by state.", ["state"])
        self.dependency_up = gauge(
            "tallygate_dependency_up", "1 while the dependency answers, 0 while it does not.", ["dependency"]
        )
        self.build_info = Info("tallygate_build", "The version that runs.", registry=self.registry)
        self.build_info.info({"version": version})

    def exposition(self) -> bytes:
        """Return all series in the Prometheus text format."""
        return generate_latest(self.registry)


class SupervisorMetrics:
    """The series of the process that keeps several workers running; its memory and CPU are added to theirs."""

    def __init__(self) -> None:
        """Register every series."""
        self.registry = CollectorRegistry()
        self._process = ProcessCollector(registry=self.registry)
        self.workers = Gauge(
            "tallygate_workers",
            "Worker processes, by state (starting, ready, draining, waiting: to be started again).",
            ["state"],
            registry=self.registry,
        )
        self.restarts = Tally(
            "tallygate_worker_restarts", "Workers that ended unasked and were started again.", [], self.registry
        )
        self.restarts.add(0)

    def exposition(self) -> bytes:
        """Return all series in the Prometheus text format."""
        return generate_latest(self.registry)
