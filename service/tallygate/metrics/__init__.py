"""Every Prometheus series Tallygate exposes: names, help, labels and buckets.

`serving`, `background` and `supervising` hold the series of the three kinds of process, `customers` those of single
customers; `kinds` what a counter and a histogram are; `labels` what each label may hold; `workers` how several workers'
values become one; `exposition` how they are written. Does not own the endpoint (`probes.py`).
"""

from tallygate.metrics.background import WorkerMetrics
from tallygate.metrics.customers import CUSTOMER, OTHER, CustomerMetrics, UsedRatio
from tallygate.metrics.exposition import exposed, openmetrics
from tallygate.metrics.kinds import ExemplifiedSpread, Spread, Tally
from tallygate.metrics.labels import LABELS
from tallygate.metrics.serving import Metrics
from tallygate.metrics.supervising import SupervisorMetrics
from tallygate.metrics.workers import GAUGES_OVER_WORKERS, OverWorkers

__all__ = [
    "CUSTOMER",
    "GAUGES_OVER_WORKERS",
    "LABELS",
    "OTHER",
    "CustomerMetrics",
    "ExemplifiedSpread",
    "Metrics",
    "OverWorkers",
    "Spread",
    "SupervisorMetrics",
    "Tally",
    "UsedRatio",
    "WorkerMetrics",
    "exposed",
    "openmetrics",
]
