"""Counters of what should not happen are there before it happens."""

from prometheus_client import generate_latest

from tallygate.app.beginnings import begin_at_zero
from tallygate.metrics import Metrics


def test_what_did_not_happen_is_zero() -> None:
    """Degraded decisions, lost requests and dropped outcomes can be read, and seen to grow by their first event."""
    metrics = Metrics("1")
    begin_at_zero(metrics)
    expected = {
        'tallygate_degraded_decisions_total{policy="closed"}',
        'tallygate_degraded_requests_total{result="lost"}',
        'tallygate_leased_requests_total{result="lost"}',
        'tallygate_outcomes_total{result="dropped"}',
        'tallygate_license_cache_total{result="miss"}',
        'tallygate_trace_spans_total{result="failed"}',
    }
    assert {f"{series} 0.0" for series in expected} <= set(generate_latest(metrics.registry).decode().splitlines())
