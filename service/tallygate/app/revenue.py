"""What all subscriptions come to, as series: told once a minute by the worker that leads.

Owns what becomes of them when they cannot be read: after three rounds without an answer there are none, rather than
old ones; so too when another worker leads. Does not own what they are (`insights.revenue`).
"""

from collections.abc import Mapping
from typing import Any

import structlog
from prometheus_client import Gauge

from tallygate.core.clock import Clock
from tallygate.core.errors import DependencyError
from tallygate.insights.postgres import PostgresRevenue
from tallygate.insights.revenue import Revenue
from tallygate.metrics import WorkerMetrics

ROUND_S = 60.0
_ROUNDS_KEPT = 3
_log = structlog.get_logger("tallygate.worker")


class RevenueSeries:
    """Rounds of reading, shown."""

    def __init__(self, source: PostgresRevenue, metrics: WorkerMetrics, clock: Clock) -> None:
        """Show on `metrics` what `source` has."""
        self._source = source
        self._metrics = metrics
        self._clock = clock
        self._failed = 0

    async def round(self) -> None:
        """Read and show; what goes wrong is logged once, not each round."""
        try:
            found = await self._source.read(self._clock.now())
        except DependencyError as error:
            self._miss(str(error))
        except Exception:  # noqa: BLE001 - else a contract that cannot be read would be tried again each second
            _log.exception("what subscriptions come to cannot be reckoned")
            self._miss("see the log before")
        else:
            if self._failed:
                _log.info("what subscriptions come to is told again")
            self._failed = 0
            self._show(found)

    def _miss(self, problem: str) -> None:
        self._failed += 1
        if self._failed == 1:
            _log.warning("what subscriptions come to is not told", problem=problem)
        if self._failed >= _ROUNDS_KEPT:
            forget(self._metrics)

    def _show(self, found: Revenue) -> None:
        """Replace all series at once: nobody scrapes in between, for nothing here waits."""
        for gauge, values in _shown(self._metrics, found):
            gauge.clear()
            for labels, value in values.items():
                gauge.labels(*labels).set(float(value))


def forget(metrics: WorkerMetrics) -> None:
    """Show nothing: what is not known any more, or is for another worker to tell."""
    for gauge, _ in _shown(metrics, Revenue()):
        gauge.clear()


def _shown(metrics: WorkerMetrics, found: Revenue) -> tuple[tuple[Gauge, Mapping[tuple[str, ...], Any]], ...]:
    return (
        (metrics.subscriptions, found.subscriptions),
        (metrics.customers, found.customers),
        (metrics.included_units, found.included),
        (metrics.used_units, found.used),
        (metrics.overage_amount, found.overage),
        (metrics.recurring_amount, found.recurring),
    )
