"""The metrics of several workers as one: what is added, what is not, and that nothing goes backwards."""

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tallygate.metrics import (
    GAUGES_OVER_WORKERS,
    CustomerMetrics,
    ExemplifiedSpread,
    Metrics,
    SupervisorMetrics,
    openmetrics,
)
from tallygate.workers.totals import Totals


def samples(exposition: bytes) -> dict[str, float]:
    """Return every sample by its name with labels; read as Prometheus would."""
    list(text_string_to_metric_families(exposition.decode()))
    lines = (line.rpartition(" ") for line in exposition.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def page(*workers: bytes, totals: Totals | None = None) -> bytes:
    """Return what is served of these workers, in plain text."""
    return generate_latest((totals or Totals()).of(b"", dict(enumerate(workers))))


def told(metrics: Metrics) -> bytes:
    """Return what a worker tells its supervisor."""
    return openmetrics(metrics.registry)


def worker(allowed: int = 0, *, staleness_s: float = 0.0, is_redis_up: bool = True, waited_s: float = 0.003) -> Metrics:
    """Return the metrics of a worker that has allowed so many requests."""
    metrics = Metrics("1.2.3")
    for _ in range(allowed):
        metrics.checks.count("allow", "ok", "pro")
        metrics.check_duration.observe_of(waited_s, "d1")
    metrics.license_staleness.set(staleness_s)
    metrics.dependency_up.labels("redis").set(is_redis_up)
    return metrics


def counted(exposition: bytes) -> float:
    """Return how many requests were allowed."""
    return samples(exposition)['tallygate_checks_total{decision="allow",plan="pro",reason="ok"}']


def test_counters_and_histograms_are_summed() -> None:
    """A dashboard sees one service: requests of all workers, bucket by bucket."""
    seen = samples(page(told(worker(3)), told(worker(4, waited_s=0.03))))
    assert seen['tallygate_checks_total{decision="allow",plan="pro",reason="ok"}'] == 7
    assert seen["tallygate_check_duration_seconds_count"] == 7
    assert seen['tallygate_check_duration_seconds_bucket{le="0.005"}'] == 3
    assert seen['tallygate_check_duration_seconds_bucket{le="0.05"}'] == 7
    assert round(seen["tallygate_check_duration_seconds_sum"], 6) == round(3 * 0.003 + 4 * 0.03, 6)


def test_labels_that_only_one_worker_has_are_kept() -> None:
    """A reason one worker alone has met is shown with what that one counted, however its labels are written."""
    odd, other = worker(1), worker(1)
    odd.checks.count("deny", 'with "quotes"\n and a \\', "")
    seen = samples(page(told(other), told(odd)))
    assert seen['tallygate_checks_total{decision="deny",plan="",reason="with \\"quotes\\"\\n and a \\\\"}'] == 1


def test_gauges_follow_their_rules() -> None:
    """The stalest worker, a dependency that one of them misses, one version: what an alert has to see."""
    workers = [worker(staleness_s=1.5), worker(staleness_s=9, is_redis_up=False), worker()]
    seen = samples(page(*map(told, workers)))
    assert seen["tallygate_license_staleness_seconds"] == 9
    assert seen['tallygate_dependency_up{dependency="redis"}'] == 0
    assert seen['tallygate_build_info{version="1.2.3"}'] == 1


def test_memory_is_summed_and_the_start_is_the_oldest() -> None:
    """Memory is that of all processes; the start time of the service does not move when one is restarted."""
    memory, start = "process_resident_memory_bytes", "process_start_time_seconds"
    one, other = (
        f"# TYPE {memory} gauge\n{memory} {n}e6\n# TYPE {start} gauge\n{start} {n}\n# EOF\n".encode() for n in (5, 7)
    )
    seen = samples(page(one, other))
    assert seen == {"process_resident_memory_bytes": 12e6, "process_start_time_seconds": 5}


def test_what_a_dead_worker_had_counted_stays() -> None:
    """A counter never goes backwards: the process that takes over begins at zero, the sum does not."""
    totals, living = Totals(), worker(10)
    assert counted(page(told(living), told(worker(5)), totals=totals)) == 15
    totals.add_gone(1, told(worker(5)))
    assert counted(page(told(living), totals=totals)) == 15
    totals.add_gone(0, told(living))
    seen = page(told(worker(1)), totals=totals)
    assert counted(seen) == 16
    assert samples(seen)['tallygate_check_duration_seconds_bucket{le="+Inf"}'] == 16


def test_gauges_of_the_dead_are_gone() -> None:
    """A dead worker's staleness and lost connections alarm nobody for ever."""
    totals = Totals()
    totals.add_gone(0, told(worker(1, staleness_s=99, is_redis_up=False)))
    seen = samples(page(told(worker(1)), totals=totals))
    assert seen["tallygate_license_staleness_seconds"] == 0
    assert seen['tallygate_dependency_up{dependency="redis"}'] == 1


def test_a_worker_that_has_told_nothing_adds_nothing() -> None:
    """A process that died while starting does no harm."""
    totals = Totals()
    totals.add_gone(0, b"")
    assert counted(page(b"", told(worker(2)), totals=totals)) == 2


def test_a_series_was_created_when_its_first_worker_made_it() -> None:
    """What the client library says of when a counter began is that of the oldest, the dead included."""

    def made_at(at: int) -> bytes:
        return f"# TYPE a counter\na_total 1\na_created {at}\n# EOF\n".encode()

    totals = Totals()
    totals.add_gone(0, made_at(100))
    assert samples(page(made_at(300), made_at(200), totals=totals)) == {"a_total": 3, "a_created": 100}


def test_help_and_type_of_every_series_are_kept() -> None:
    """Aggregating changes values only: names, help and types are those of one process, in the same order."""
    one = Metrics("1")
    described = [line for line in generate_latest(one.registry).decode().splitlines() if line.startswith("#")]
    merged = page(told(one), told(one))
    assert [line for line in merged.decode().splitlines() if line.startswith("#")] == described


def test_the_client_librarys_own_kinds_are_understood() -> None:
    """Counters, labelled histograms and gauges of the library itself come out as they went in."""
    registry = CollectorRegistry()
    Counter("c", "Help.", ["x"], registry=registry).labels("1").inc(2)
    Histogram("h", "Help.", ["x"], registry=registry).labels("1").observe(2)
    Gauge("g", "Help.", registry=registry).set(-3)
    assert page(openmetrics(registry)) == generate_latest(registry)


def test_every_gauge_has_a_rule() -> None:
    """Whoever adds a gauge decides, beside it, what several workers say together."""
    metrics = Metrics("1")
    CustomerMetrics(metrics.registry)
    ours = (generate_latest(metrics.registry) + generate_latest(SupervisorMetrics().registry)).decode()
    gauges = {family.name for family in text_string_to_metric_families(ours) if family.type == "gauge"}
    assert {name for name in gauges if not name.endswith("_created")} == set(GAUGES_OVER_WORKERS)


def named(*counted: tuple[str, int], limit: float | None = None) -> bytes:
    """Return what a worker tells that has decided so many requests of each of these customers."""
    metrics = Metrics("1")
    customers = CustomerMetrics(metrics.registry)
    for customer, requests in counted:
        customers.units.add(requests, customer, "pro", "requests", "allowed")
        if limit is not None:
            customers.limit_used.set(limit, math.inf, "sub", customer, "pro", "daily")
    return told(metrics)


def shares(exposition: bytes) -> dict[str, float]:
    """Return the units of each customer."""
    lines = (line for line in exposition.decode().splitlines() if line.startswith("tallygate_customer_units_total{"))
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}


def test_customers_add_up_over_workers() -> None:
    """Each customer has one series, and how far a limit is used is what the worker knows that saw it last."""
    both = page(named(("acme", 3), ("other", 2), limit=0.25), named(("acme", 4), limit=0.5))
    assert shares(both) == {"acme": 7, "other": 2}
    assert samples(both)['tallygate_customer_limit_used_ratio{customer="acme",limit="daily",plan="pro"}'] == 0.5


def test_a_customer_that_workers_give_up_one_by_one_never_counts_backwards() -> None:
    """The sum falls only to nothing: a sum that fell to a rest would read as a burst that never was."""
    totals = Totals()
    seen = [
        page(named(("acme", 100), ("other", 1)), named(("acme", 50)), totals=totals),
        page(named(("other", 1)), named(("acme", 51)), totals=totals),
        page(named(("other", 2)), named(("other", 1)), totals=totals),
        page(named(("other", 2), ("acme", 3)), named(("other", 1)), totals=totals),
    ]
    assert list(map(shares, seen)) == [
        {"acme": 150, "other": 1},
        {"acme": 151, "other": 1},
        {"other": 3},
        {"acme": 3, "other": 3},
    ]


def test_a_customer_named_again_between_two_looks_goes_on() -> None:
    """A worker that gave a customer up and has it again counts on from where the sum was."""
    totals = Totals()
    page(named(("acme", 100)), named(("acme", 50)), totals=totals)
    assert shares(page(named(("acme", 3)), named(("acme", 50)), totals=totals)) == {"acme": 153}


def test_a_dead_workers_customers_stay_while_another_has_them() -> None:
    """What it had given up before its end counts too; whom nobody living has is forgotten, so memory is bounded."""
    totals = Totals()
    page(named(("acme", 100), ("gone", 7)), named(("acme", 50)), totals=totals)
    totals.add_gone(0, named(("gone", 8)))
    assert shares(page(b"", named(("acme", 50)), totals=totals)) == {"acme": 150}
    assert "gone" not in str(totals._gone)


def test_exemplars_are_the_newest_of_each_bucket() -> None:
    """Who looks at a slow bucket finds the latest decision of all workers, the dead included, in OpenMetrics alone."""

    def slow(decision: str, at_s: float) -> bytes:
        registry = CollectorRegistry()
        spread = ExemplifiedSpread("took_seconds", "Help.", (0.1, 1), registry, lambda: at_s)
        spread.observe_of(0.5, decision)
        return openmetrics(registry)

    totals = Totals()
    totals.add_gone(0, slow("d1", 10))
    series = totals.of(b"", {0: slow("d3", 30), 1: slow("d2", 20)})
    lines = openmetrics(series).decode().splitlines()
    assert 'took_seconds_bucket{le="1.0"} 3.0 # {decision_id="d3"} 0.5 30.000000000' in lines
    assert 'took_seconds_bucket{le="0.1"} 0.0' in lines
    assert b"decision_id" not in generate_latest(series)
