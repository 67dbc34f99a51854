"""The kinds of series that requests move: a counter and a histogram.

Kept in plain numbers, for the client library's own take a lock each time, and made into series only when somebody
looks. For one event loop.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString


class Tally(Collector):
    """A counter: a number for each set of label values, which begins with the first one counted; without labels, at 0.

    `labels` are their names.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        """Register `<name>_total` with these labels."""
        self._name = name
        self._documentation = documentation
        self.labels = tuple(labels)
        self._numbers: defaultdict[tuple[str, ...], int] = defaultdict(int)
        if not labels:
            self.add(0)
        registry.register(self)

    def count(self, *values: str) -> None:
        """Count one under these label values, given in the order of the labels."""
        self._numbers[values] += 1

    def add(self, amount: int, *values: str) -> None:
        """Count `amount` under these label values."""
        self._numbers[values] += amount

    def keep(self, is_kept: Callable[[tuple[str, ...]], bool]) -> None:
        """Drop all whose label values are not to be kept; counted again, they begin at zero."""
        for values in [values for values in self._numbers if not is_kept(values)]:
            del self._numbers[values]

    def describe(self) -> list[Metric]:
        """Return the series' name and labels."""
        return [CounterMetricFamily(self._name, self._documentation, labels=self.labels)]

    def collect(self) -> Iterator[Metric]:
        """Return what was counted."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self.labels)
        for values, number in list(self._numbers.items()):
            family.add_metric([str(value) for value in values], number)
        yield family


class Spread(Collector):
    """A histogram without labels."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        """Register it; each bucket holds what is at most its bound, and one more holds the rest."""
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(bounds)
        self._numbers = [0] * (len(bounds) + 1)
        self._exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, amount: float) -> None:
        """Take one amount."""
        self._numbers[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def describe(self) -> list[Metric]:
        """Return the series' name."""
        return [HistogramMetricFamily(self._name, self._documentation)]

    def collect(self) -> Iterator[Metric]:
        """Return the buckets, each with all that is below it."""
        names = [floatToGoString(bound) for bound in (*self._bounds, float("inf"))]  # type: ignore[no-untyped-call]
        family = HistogramMetricFamily(self._name, self._documentation)
        buckets = zip(names, accumulate(self._numbers), self._exemplars, strict=True)
        family.add_metric(
            [], [(name, n) if exemplar is None else (name, n, exemplar) for name, n, exemplar in buckets], self._sum
        )
        yield family


class ExemplifiedSpread(Spread):
    """A histogram whose buckets each name a decision that fell into them: the first after somebody last looked.

    So an exemplar is as young as can be seen, and nearly all decisions only find that none is wanted.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Register it; `now_s` is the time of exemplars, in seconds since 1970."""
        self._is_wanted = [True] * (len(bounds) + 1)
        self._now_s = now_s
        super().__init__(name, documentation, bounds, registry)

    def observe_of(self, amount: float, decision_id: str) -> None:
        """Take one amount, which is that of this decision."""
        at = bisect_left(self._bounds, amount)
        self._numbers[at] += 1
        self._sum += amount
        if self._is_wanted[at]:
            self._is_wanted[at] = False
            self._exemplars[at] = Exemplar({"decision_id": decision_id}, amount, self._now_s())

    def collect(self) -> Iterator[Metric]:
        """Return the buckets, each with its exemplar; new ones are wanted from now on."""
        self._is_wanted = [True] * len(self._is_wanted)
        return super().collect()
