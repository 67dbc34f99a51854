"""The series of a process that decides requests."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Gauge, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from tallygate.metrics.kinds import ExemplifiedSpread, Spread, Tally
from tallygate.metrics.shared import LEDGER_LAG

_CHECK_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
_LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


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
        spread = partial(Spread, registry=self.registry)
        self._of_decisions(tally)
        self._of_what_they_wait_for(tally, gauge, spread)
        self._of_use(tally)
        self._of_what_is_lost(tally, gauge)
        self.event_loop_lag = spread(
            "tallygate_event_loop_lag_seconds",
            "How much later than asked the event loop woke, ten times a second: what every request waits beside.",
            bounds=_LAG_BUCKETS_S,
        )
        self.usage_ledger_lag = gauge(*LEDGER_LAG)
        self.build_info = Info("tallygate_build", "The version that runs.", registry=self.registry)
        self.build_info.info({"version": version})

    def _of_decisions(self, tally: Callable[..., Tally]) -> None:
        self.checks = tally(
            "tallygate_checks",
            "Requests decided, by decision (allow, deny, error), reason and plan key.",
            ["decision", "reason", "plan"],
        )
        self.check_duration = ExemplifiedSpread(
            "tallygate_check_duration_seconds",
            "Time from a decoded request to its encoded answer.",
            bounds=_CHECK_BUCKETS_S,
            registry=self.registry,
        )

    def _of_what_they_wait_for(
        self, tally: Callable[..., Tally], gauge: Callable[..., Gauge], spread: Callable[..., Spread]
    ) -> None:
        self.license_cache = tally("tallygate_license_cache", "Look-ups in the license cache, by result.", ["result"])
        self.license_staleness = gauge(
            "tallygate_license_staleness_seconds", "Seconds since this process last knew of every license change."
        )
        self.limiter_duration = spread(
            "tallygate_limiter_duration_seconds", "Time of one call to the counter store.", bounds=_CHECK_BUCKETS_S
        )
        self.limiter_batch_size = spread(
            "tallygate_limiter_batch_size", "Calls to the counter store that shared one write.", bounds=_BATCH_BUCKETS
        )
        self.leased_requests = tally(
            "tallygate_leased_requests",
            "Requests paid for ahead of need: granted (or refused, unheard), and in the end spent, returned or lost.",
            ["result"],
        )

    def _of_use(self, tally: Callable[..., Tally]) -> None:
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

    def _of_what_is_lost(self, tally: Callable[..., Tally], gauge: Callable[..., Gauge]) -> None:
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
        self.trace_spans = tally(
            "tallygate_trace_spans",
            "Spans of traces, by what became of them (sent, failed, dropped for want of room or time).",
            ["result"],
        )
