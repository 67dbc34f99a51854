"""Which counters of the data plane are there from the start, at 0, before anything is counted.

Those whose labels have few values, and whose first event matters: a counter that begins with its first event has, for
Prometheus, not grown by it, and a graph of what did not happen yet would be empty instead of 0. Does not own series.
"""

from tallygate.licenses.cache import CacheResult
from tallygate.limits.degraded import DegradedResult
from tallygate.limits.leased import LeaseResult
from tallygate.limits.limit import FailPolicy
from tallygate.metrics import Metrics
from tallygate.services.settlements import DROPPED
from tallygate.services.settling import Settled


def begin_at_zero(metrics: Metrics) -> None:
    """Make these series."""
    for tally, values in (
        (metrics.license_cache, CacheResult),
        (metrics.leased_requests, LeaseResult),
        (metrics.degraded_decisions, FailPolicy),
        (metrics.degraded_usage, DegradedResult),
        (metrics.outcomes, (*Settled, DROPPED)),
        (metrics.trace_spans, ("sent", "failed", "dropped")),
    ):
        for value in values:
            tally.add(0, value)
