"""The metrics of all workers as those of one service.

What only grows (counters, histograms) is summed, with what processes that are gone had counted: it never goes
backwards when a worker is restarted. What goes up and down is taken of the living, by the rule that stands beside the
metric (`metrics.GAUGES_OVER_WORKERS`). Pure. Failure: ValueError for what is no exposition.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tallygate.metrics import GAUGES_OVER_WORKERS, OverWorkers

Families: TypeAlias = Sequence[Metric]
_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
_JOINS: Mapping[OverWorkers, Callable[[float, float], float]]
_JOINS = {OverWorkers.SUM: operator.add, OverWorkers.MIN: min, OverWorkers.MAX: max}
_GROWING = {"counter", "histogram", "summary"}
_SINCE = "_created"


class Totals:
    """What processes that are gone have counted; grows with each."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._gone: Families = ()

    def add_gone(self, exposition: bytes) -> None:
        """Keep what a process that is gone had counted."""
        grown = [family for family in _read(exposition) if family.type in _GROWING or family.name.endswith(_SINCE)]
        self._gone = _merged([self._gone, grown])

    def exposition(self, living: Iterable[bytes]) -> bytes:
        """Return the series of all processes, in the Prometheus text format."""
        families = _merged([*map(_read, living), self._gone])
        return generate_latest(_Fixed(families))


class _Fixed(Collector):
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Families:
        return self._families


def _read(exposition: bytes) -> Families:
    return list(text_string_to_metric_families(exposition.decode()))


def _merged(sources: Iterable[Families]) -> Families:
    """Return the families of all sources, each once, samples of the same name and labels made one."""
    heads: dict[str, Metric] = {}
    values: dict[str, dict[_Key, float]] = {}
    for family in (family for source in sources for family in source):
        heads.setdefault(family.name, family)
        known = values.setdefault(family.name, {})
        join = _JOINS[_rule(family)]
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            known[key] = join(known[key], sample.value) if key in known else sample.value
    return [_family(head, values[name]) for name, head in heads.items()]


def _rule(family: Metric) -> OverWorkers:
    if family.type in _GROWING:
        return OverWorkers.SUM
    if family.name.endswith(_SINCE):
        return OverWorkers.MIN
    # A test holds that every gauge of ours has a rule.
    return GAUGES_OVER_WORKERS.get(family.name, OverWorkers.MAX)


def _family(head: Metric, values: dict[_Key, float]) -> Metric:
    family = Metric(head.name, head.documentation, head.type)
    for (name, labels), value in values.items():
        family.add_sample(name, dict(labels), value)
    return family
