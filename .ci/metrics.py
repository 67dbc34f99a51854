"""Print docs/metrics.md, made from `metrics/`: `python .ci/metrics.py > docs/metrics.md`."""

from collections.abc import Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Gauge, Info

from tallygate.metrics import (
    GAUGES_OVER_WORKERS,
    LABELS,
    CustomerMetrics,
    Metrics,
    Spread,
    SupervisorMetrics,
    Tally,
    UsedRatio,
    WorkerMetrics,
)

Series: TypeAlias = Tally | Spread | UsedRatio | Gauge | Info

_HEAD = """# Metrics

Two kinds of process have a page for Prometheus, `/metrics` at `TALLYGATE_METRICS_LISTEN`: `tallygate serve`, one page
for all its workers, and `tallygate worker`. The same address answers `/healthz` (alive) and `/readyz` (able to decide).
Where `tallygate admin` does the worker's work, its page is at `TALLYGATE_ADMIN_METRICS_LISTEN`, and nowhere unless set.
No page asks who reads it, and the worker's says what customers pay: let Prometheus alone reach them.

```yaml
scrape_configs:
  - {job_name: tallygate, static_configs: [{targets: ["tallygate:9464"]}]}
  - {job_name: tallygate-worker, static_configs: [{targets: ["tallygate-worker:9464"]}]}
```

Of several workers, counters and histograms are summed, those of workers that are gone included, so they never go
backwards; how gauges become one is in the tables. A counter without labels begins at 0, and so do those of the cache,
leases, degraded decisions, outcomes and spans, and the checks that end in `overloaded` or `dependency_down` of each
plan that was decided on. Any other has no series until it first counts: in an expression that must have a value, write
`… or vector(0)`.

This page is made from `service/tallygate/metrics/` by `.ci/metrics.py`; a test fails when it is stale.
"""
PARTS = (
    ("`tallygate serve`", Metrics("")),
    ("`tallygate serve`, where `TALLYGATE_METRICS_CUSTOMERS` is not 0", CustomerMetrics(CollectorRegistry())),
    ("`tallygate serve`, where `TALLYGATE_WORKERS` is more than one", SupervisorMetrics()),
    ("`tallygate worker`", WorkerMetrics("")),
)
_ADVICE = """
Units are counted where requests are decided, split as the ledger splits them. What upstreams report or settle later,
and what is given back, is in the [ledger](usage.md) only. Bills are made from that, and it outlives the processes.

## Subscriptions and money

The worker that leads reads contracts, plans and the ledger once a minute. Subscriptions of the test environment are in
none of these series. `plan` is the plan in force now; of overage, the one that units were counted on.

- **Served** is who is trialing, active or in their grace, unless the customer is suspended or closed. A subscription
  that is over (canceled, or its trial ended so) is not counted at all.
- **Included and used** are of quotas that are enforced, in the period that runs for each; where a meter has several,
  of the one of the longest period, which is what is sold. One for each token (`per: token`) is left out: what it comes
  to depends on how many tokens there are. Used above included is overage, or a quota that somebody lowered.
- **Overage** is the price of usage in the billing periods that run: what the lines of `tallygate invoices preview` come
  to without the plan's fee, of all customers, to the cent; also of suspended ones, and of those who left within the
  period. It falls when a period ends: it is a bill that grows, not a sum for ever.
- **Recurring** is the fixed price of who is served and out of the trial, for a month: a year's is twelve months', a
  week's 7 of 30.4 days'. Currencies are not converted.

Usage is in them once it is in the ledger, some 70 s later. They are absent rather than old: after three rounds in vain,
and at once in a worker that does not lead any more. 10,000 live subscriptions with a token and three routes each cost
the worker 1.7 s of CPU a minute, some milliseconds at a stretch, and Postgres 0.8 s (`python -m benchmarks.revenue`).
It grows with them, and with the tokens and routes of each; a round that takes longer than a minute makes the next late.

## Single customers

`TALLYGATE_METRICS_CUSTOMERS=100` names the 100 customers with most requests; all others are `other`. Every worker of
every replica names the same, for they rank customers together in Redis, every five seconds; use of ten minutes ago
weighs half. A customer keeps the place until another is twice as busy. Then its series end, what it uses from then on
is counted under `other`, and if it is named again it begins at zero: no counter jumps, and `rate` and `increase` are
right. Sums over `customer` are those of `tallygate_units_total`, and of `tallygate_checks_total` where a license was
found. How far a limit is used is told of quotas and credits, by requests of the last window only; a rate is another one
before anybody looks.

A customer has about ten series, and a page is made on the thread that decides, at some 5 µs a series: 100 customers
cost each worker 5 ms a scrape (and, with several workers, a second). Take as many as somebody looks at.

## Exemplars

Each bucket of `tallygate_check_duration_seconds` names a decision that fell into it, the first after the last scrape,
by its `decision_id`: the one in access logs, problem bodies and traces. They are there for who asks for OpenMetrics,
as Prometheus does; it keeps them with `--enable-feature=exemplar-storage`.

## Processes

Beside them stand what the Prometheus client tells of any process: `process_cpu_seconds_total`,
`process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`, `process_max_fds`,
`process_start_time_seconds`, `python_gc_*`, and of `serve` `python_info`.
"""
_LABELS = """
## Labels

None is ever a token or a path, nor, unless switched on, a customer.

| label | values |
|---|---|
"""


def page() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_part(title, metrics) for title, metrics in PARTS) + _ADVICE + _labels()


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
        case Tally() | UsedRatio():
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
