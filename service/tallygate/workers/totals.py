"""The metrics of all workers as those of one service.

What only grows (counters, histograms) is summed, with what processes that are gone had counted: it never goes
backwards when a worker is restarted. What goes up and down is taken of the living, by the rule that stands beside the
metric (`metrics.GAUGES_OVER_WORKERS`). An exemplar is the newest of its bucket.

Workers give up the series of a customer who is busy no more (`insights/customers`), each in its own time. What one has
given up is kept as long as another has that customer, and forgotten when nobody has: so a sum never falls but to
nothing, which `rate` takes for what it is.

Pure but for what it remembers. Failure: ValueError for what is no exposition.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from tallygate.metrics import CUSTOMER, GAUGES_OVER_WORKERS, OverWorkers

Families: TypeAlias = Sequence[Metric]
_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
_JOINS: Mapping[OverWorkers, Callable[[float, float], float]]
_JOINS = {OverWorkers.SUM: operator.add, OverWorkers.MIN: min, OverWorkers.MAX: max}
_GROWING = {"counter", "histogram", "summary"}
_SINCE = "_created"


class _Value(NamedTuple):
    number: float
    exemplar: Exemplar | None


class Totals:
    """What processes that are gone have counted; grows with each."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._gone: Families = ()
        self._shown: dict[int, Families] = {}

    def add_gone(self, worker: int, exposition: bytes) -> None:
        """Keep what the process of a worker (its number) had counted, which is gone."""
        families = _read(exposition)
        self._keep(_given_up(self._shown.pop(worker, ()), families))
        self._keep([family for family in families if family.type in _GROWING])

    def of(self, own: bytes, workers: Mapping[int, bytes]) -> Collector:
        """Return the series of all processes: the supervisor's own page, and those of the workers by their numbers."""
        living = {worker: _read(exposition) for worker, exposition in workers.items()}
        for worker, families in living.items():
            self._keep(_given_up(self._shown.get(worker, ()), families))
        self._shown = living
        named = {sample.labels[CUSTOMER] for families in living.values() for _, sample in _of_customers(families)}
        self._gone = [_of(named, family) for family in self._gone]
        return _Fixed(_merged([_read(own), *living.values(), self._gone]))

    def _keep(self, families: Families) -> None:
        if families:
            self._gone = _merged([self._gone, families])


class _Fixed(Collector):
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Families:
        return self._families


def _read(exposition: bytes) -> Families:
    """Return the families of a page, none of one that was never told."""
    if not exposition:
        return []
    return list(text_string_to_metric_families(exposition.decode()))  # type: ignore[no-untyped-call]


def _of_customers(families: Families) -> Iterator[tuple[Metric, Sample]]:
    """Return the samples of single customers that only grow."""
    for family in families:
        if family.type in _GROWING:
            yield from ((family, sample) for sample in family.samples if CUSTOMER in sample.labels)


def _given_up(before: Families, after: Families) -> Families:
    """Return what a process had counted for customers and does not show, or has begun anew."""
    shown = {_key(sample): sample.value for _, sample in _of_customers(after)}
    return [
        _with(family, [sample]) for family, sample in _of_customers(before) if shown.get(_key(sample), 0) < sample.value
    ]


def _of(named: set[str], family: Metric) -> Metric:
    """Return the family without the samples of customers that are not named."""
    samples = [each for each in family.samples if CUSTOMER not in each.labels or each.labels[CUSTOMER] in named]
    return _with(family, samples)


def _with(family: Metric, samples: Sequence[Sample]) -> Metric:
    made = Metric(family.name, family.documentation, family.type)
    made.samples = list(samples)
    return made


def _key(sample: Sample) -> _Key:
    return sample.name, tuple(sorted(sample.labels.items()))


def _merged(sources: Iterable[Families]) -> Families:
    """Return the families of all sources, each once, samples of the same name and labels made one."""
    heads: dict[str, Metric] = {}
    values: dict[str, dict[_Key, _Value]] = {}
    for family in (family for source in sources for family in source):
        heads.setdefault(family.name, family)
        known = values.setdefault(family.name, {})
        for sample in family.samples:
            key, value = _key(sample), _Value(sample.value, sample.exemplar)
            known[key] = _joined(_rule(family, sample.name), known[key], value) if key in known else value
    return [_family(head, values[name]) for name, head in heads.items()]


def _joined(rule: OverWorkers, one: _Value, other: _Value) -> _Value:
    exemplars = [each for each in (one.exemplar, other.exemplar) if each is not None]
    newest = max(exemplars, key=lambda exemplar: float(exemplar.timestamp or 0), default=None)
    return _Value(_JOINS[rule](one.number, other.number), newest)


def _rule(family: Metric, name: str) -> OverWorkers:
    if name.endswith(_SINCE):
        return OverWorkers.MIN
    if family.type in _GROWING:
        return OverWorkers.SUM
    # A test holds that every gauge of ours has a rule.
    return GAUGES_OVER_WORKERS.get(name, OverWorkers.MAX)


def _family(head: Metric, values: Mapping[_Key, _Value]) -> Metric:
    family = Metric(head.name, head.documentation, head.type)
    for (name, labels), value in values.items():
        family.add_sample(name, dict(labels), value.number, exemplar=value.exemplar)
    return family
