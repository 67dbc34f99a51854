"""Print docs/metrics.md, made from `metrics.py`: `python .ci/metrics.py > docs/metrics.md`."""

from collections.abc import Iterator
from typing import TypeAlias

from prometheus_client import Gauge, Info

from tallygate.metrics import GAUGES_OVER_WORKERS, LABELS, Metrics, Spread, SupervisorMetrics, Tally, WorkerMetrics

Series: TypeAlias = Tally | Spread | Gauge | Info

_HEAD = """# Metrics

Two kinds of process have a page for Prometheus, `/metrics` at `TALLYGATE_METRICS_LISTEN`: `tallygate serve`, one page
for all its workers, and `tallygate worker`. The same address answers `/healthz` (alive) and `/readyz` (able to decide).

```yaml
scrape_configs:
  - {job_name: tallygate, static_configs: [{targets: ["tallygate:9464"]}]}
  - {job_name: tallygate-worker, static_configs: [{targets: ["tallygate-worker:9464"]}]}
```

Of several workers, counters and histograms are summed, those of workers that are gone included, so they never go
backwards; how gauges become one is in the tables. A counter with labels has no series until it first counts: in an
expression that must have a value, write `… or vector(0)`.

This page is made from `service/tallygate/metrics.py` by `.ci/metrics.py`; a test fails when it is stale.
"""
_PARTS = (
    ("`tallygate serve`", Metrics("")),
    ("`tallygate serve`, where `TALLYGATE_WORKERS` is more than one", SupervisorMetrics()),
    ("`tallygate worker`", WorkerMetrics("")),
)
_ADVICE = """
Units are counted where requests are decided, split as the ledger splits them. What upstreams report or settle later,
and what is given back, is in the [ledger](usage.md) only. Bills are made from that, and it outlives the processes.

Beside them stand what the Prometheus client tells of any process: `process_cpu_seconds_total`,
`process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`, `process_max_fds`,
`process_start_time_seconds`, `python_gc_*`, and of `serve` `python_info`.
"""
_LABELS = """
## Labels

None is ever a customer, a token or a path.

| label | values |
|---|---|
"""


def page() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_part(title, metrics) for title, metrics in _PARTS) + _ADVICE + _labels()


def _part(title: str, metrics: object) -> str:
    is_joined = not isinstance(metrics, WorkerMetrics)
    head = f"\n## {title}\n\n| series | labels | type | {'of workers | ' if is_joined else ''}meaning |\n"
    rows = (_row(each, is_joined=is_joined) for each in series(metrics))
    return head + f"|---|---|---|---|{'---|' if is_joined else ''}\n" + "".join(rows)


def series(metrics: object) -> Iterator[Series]:
    """Return the series that are ours, in the order in which they are made."""
    for each in vars(metrics).values():
        if isinstance(each, Series):
            yield each


def _row(each: Series, *, is_joined: bool) -> str:
    family = next(iter(each.describe()))
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    name, kind = family.name + suffix, "gauge" if family.type == "info" else family.type
    joined = f"{GAUGES_OVER_WORKERS[name] if kind == 'gauge' else 'sum'} | " if is_joined else ""
    named = ", ".join(f"`{label}`" for label in labels(each))
    return f"| `{name}` | {named} | {kind} | {joined}{family.documentation} |\n"


def labels(each: Series) -> tuple[str, ...]:
    """Return the names of the labels of a series of ours."""
    match each:
        case Tally():
            return each.labels
        case Gauge():
            return tuple(each._labelnames)  # noqa: SLF001 - the library tells it nowhere else
        case Info():
            return ("version",)
        case _:
            return ()


def _labels() -> str:
    rows = (f"| `{name}` | {meaning} |\n" for name, meaning in LABELS.items())
    return _LABELS + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
