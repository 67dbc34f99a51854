"""Every Prometheus series Tallygate exposes, in one place.

Labels are bounded by construction: reasons, plan keys, meters, dependencies and policies; never a
customer, a token or a path. Owns names, help and buckets. Does not own the endpoint (`probes.py`).
"""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_CHECK_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip


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
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        duration = partial(Histogram, buckets=_CHECK_BUCKETS_S, registry=self.registry)
        self.checks = counter(
            "tallygate_checks",
            "Requests decided, by decision (allow, deny, error), reason and plan key.",
            ["decision", "reason", "plan"],
        )
        self.check_duration = duration(
            "tallygate_check_duration_seconds", "Time from a decoded request to its encoded answer."
        )
        self.license_cache = counter("tallygate_license_cache", "Look-ups in the license cache, by result.", ["result"])
        self.license_staleness = gauge(
            "tallygate_license_staleness_seconds", "Seconds since this process last knew of every license change."
        )
        self.limiter_duration = duration("tallygate_limiter_duration_seconds", "Time of one call to the counter store.")
        self.units = counter(
            "tallygate_units",
            "Units admitted, by plan key, meter and outcome (allowed, overage).",
            ["plan", "meter", "outcome"],
        )
        self.shadow_decisions = counter(
            "tallygate_shadow_decisions",
            "Allowed requests a plan version in shadow looked at, by what it would have said (ok, or the reason).",
            ["plan", "shadow", "reason"],
        )
        self.dependency_up = gauge(
            "tallygate_dependency_up", "1 while the dependency answers, 0 while it does not.", ["dependency"]
        )
        self.degraded_decisions = counter(
            "tallygate_degraded_decisions",
            "Decisions made without the counter store, by the fail policy that stood in.",
            ["policy"],
        )
        self.build_info = Info("tallygate_build", "The version that runs.", registry=self.registry)
        self.build_info.info({"version": version})

    def exposition(self) -> bytes:
        """Return all series in the Prometheus text format."""
        return generate_latest(self.registry)
