"""The series of single customers, which exist only where they are switched on.

At most as many customers are named as the operator says; all others are `other`. Who is named changes with use
(`insights/customers`): the series of who is named no more are dropped, what is used from then on counts as `other`, and
who is named again begins at zero. So no counter ever jumps. Bounded. For one event loop.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tallygate.metrics.kinds import Tally

CUSTOMER = "customer"
OTHER = "other"
"""The label, and what it holds for everybody who is not named."""
_MOST_COUNTERS = 20


class CustomerMetrics:
    """Checks, units and limits of the customers that are named."""

    def __init__(self, registry: CollectorRegistry, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Register the series beside the others of the process."""
        self.registry = registry
        self.checks = Tally(
            "tallygate_customer_checks",
            "Requests of a customer's tokens decided, by decision (allow, deny), reason and plan key.",
            [CUSTOMER, "plan", "decision", "reason"],
            registry,
        )
        self.units = Tally(
            "tallygate_customer_units",
            "Units admitted, by customer, plan key, meter and outcome, as tallygate_units_total has them.",
            [CUSTOMER, "plan", "meter", "outcome"],
            registry,
        )
        self.limit_used = UsedRatio(
            "tallygate_customer_limit_used_ratio",
            "Share of a quota or of credits that is used, of the fullest counter seen: 1 is all, in overage too.",
            [CUSTOMER, "plan", "limit"],
            registry,
            monotonic_s,
        )

    def keep(self, named: Collection[str]) -> None:
        """Drop the series of all customers but these and `other`."""
        for each in (self.checks, self.units, self.limit_used):
            each.keep(lambda values: values[0] == OTHER or values[0] in named)


class UsedRatio(Collector):
    """A gauge of how far limits are used. One that several subscriptions or tokens have shows the fullest.

    A value is gone when its time is over. Of each limit the counters that were used last are known. Whoever sets values
    may wait until somebody looks: `on_look` is called then.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        monotonic_s: Callable[[], float],
    ) -> None:
        """Register it with these labels."""
        self._name = name
        self._documentation = documentation
        self.labels = tuple(labels)
        self.monotonic_s = monotonic_s
        self.on_look: Callable[[], None] = lambda: None
        self._known: defaultdict[tuple[str, ...], dict[str, tuple[float, float]]] = defaultdict(dict)
        registry.register(self)

    def set(self, ratio: float, ends_at_s: float, counter: str, *values: str) -> None:
        """Note how far one counter of the limit with these label values is used, until that reading of the clock."""
        counters = self._known[values]
        counters.pop(counter, None)  # the last one noted stands last
        counters[counter] = ratio, ends_at_s
        if len(counters) > _MOST_COUNTERS:
            del counters[next(iter(counters))]

    def keep(self, is_kept: Callable[[tuple[str, ...]], bool]) -> None:
        """Drop all whose label values are not to be kept."""
        for values in [values for values in self._known if not is_kept(values)]:
            del self._known[values]

    def describe(self) -> list[Metric]:
        """Return the series' name and labels."""
        return [GaugeMetricFamily(self._name, self._documentation, labels=self.labels)]

    def collect(self) -> Iterator[Metric]:
        """Return what is known and not over."""
        self.on_look()
        family = GaugeMetricFamily(self._name, self._documentation, labels=self.labels)
        now_s = self.monotonic_s()
        for values, counters in list(self._known.items()):
            living = [ratio for ratio, ends_at_s in counters.values() if now_s < ends_at_s]
            if living:
                family.add_metric(values, max(living))
        yield family
