"""Comparing counters and ledger in the background: some customers each minute, and after the last the first again.

Owns whose turn it is and what is told of it: one line of the log for each difference, and three series. Mends nothing:
a difference is for a person to look at (`tallygate usage reconcile --customer …`). For the worker that leads; another
that takes over begins with the first customer. Failure: DependencyError ends a round, and the next goes on from there.
"""

from time import monotonic

import structlog

from tallygate.admin.operations import ControlPlane
from tallygate.core.errors import OverloadedError
from tallygate.metrics import WorkerMetrics
from tallygate.usage.reconcile import Comparison, Reconciler

CUSTOMERS = 50
"""In a round, so 72,000 in a day of rounds once a minute."""
_ROUND_S = 30.0
_log = structlog.get_logger("tallygate.app")


class Reconciliation:
    """Goes round the customers."""

    def __init__(self, control: ControlPlane, reconciler: Reconciler, metrics: WorkerMetrics) -> None:
        """Compare with `reconciler`; `metrics` hears what came of it."""
        self._control = control.acting("worker")
        self._reconciler = reconciler
        self._metrics = metrics
        self._after = ""
        self._differences: dict[str, int] = {}

    async def round(self) -> None:
        """Compare the next customers: `CUSTOMERS` of them at most, in half a minute at most."""
        began_s = monotonic()
        customers = await self._control.customers.list(self._after, CUSTOMERS)
        for customer in customers:
            await self._compare(customer.id)
            self._after = customer.id
            if monotonic() - began_s > _ROUND_S:
                return
        if len(customers) < CUSTOMERS:
            self._after = ""

    async def _compare(self, customer: str) -> None:
        try:
            compared = await self._control.usage.reconcile(customer, reconciler=self._reconciler)
        except OverloadedError:
            self._metrics.reconciliation_skipped.count()
            return
        largest = 0
        for each in compared:
            if each.difference is None:
                self._metrics.reconciliation_skipped.count()
                continue
            self._metrics.reconciliation_checked.count()
            largest = max(largest, abs(each.difference))
            if each.difference:
                _warn(customer, each)
        self._differences.pop(customer, None)
        if largest:
            self._differences[customer] = largest
        self._metrics.reconciliation_difference.set(max(self._differences.values(), default=0))


def _warn(customer: str, found: Comparison) -> None:
    _log.warning(
        "a counter and the ledger differ",
        customer=customer,
        limit=found.limit,
        owner=found.owner,
        counter=found.counter,
        ledger=found.ledger,
        difference=found.difference,
    )
