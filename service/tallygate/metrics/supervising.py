"""The series of the process that keeps several workers running."""

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.process_collector import ProcessCollector

from tallygate.metrics.kinds import Tally


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
