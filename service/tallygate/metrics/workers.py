"""How the values that several workers have for a gauge become one; `workers/totals.py` does it."""

from collections.abc import Mapping
from enum import StrEnum


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
    # Of one counter, whose newest value is the highest until its window is over.
    "tallygate_customer_limit_used_ratio": OverWorkers.MAX,
    "process_virtual_memory_bytes": OverWorkers.SUM,
    "process_resident_memory_bytes": OverWorkers.SUM,
    "process_start_time_seconds": OverWorkers.MIN,
    # Of the process that is nearest to its bound.
    "process_open_fds": OverWorkers.MAX,
    "process_max_fds": OverWorkers.MIN,
    "python_info": OverWorkers.MAX,
}
"""The rule of every gauge. Counters and histograms are summed, always; `_created` is that of the oldest."""
