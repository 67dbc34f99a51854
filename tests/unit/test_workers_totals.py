"""The metrics of several workers as one: what is added, what is not, and that nothing goes backwards."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tallygate.metrics import GAUGES_OVER_WORKERS, Metrics, SupervisorMetrics
from tallygate.workers.totals import Totals


def samples(exposition: bytes) -> dict[str, float]:
    """Return every sample by its name with labels; read as Prometheus would."""
    list(text_string_to_metric_families(exposition.decode()))
    lines = (line.rpartition(" ") for line in exposition.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def worker(allowed: int = 0, *, staleness_s: float = 0.0, is_redis_up: bool = True, waited_s: float = 0.003) -> Metrics:
    """Return the metrics of a worker that has allowed so many requests."""
    metrics = Metrics("1.2.3")
    for _ in range(allowed):
        metrics.checks.count("allow", "ok", "pro")
        metrics.check_duration.observe(waited_s)
    metrics.license_staleness.set(staleness_s)
    metrics.dependency_up.labels("redis").set(is_redis_up)
    return metrics


def counted(exposition: bytes) -> float:
    """Return how many requests were allowed."""
    return samples(exposition)['tallygate_checks_total{decision="allow",plan="pro",reason="ok"}']


def test_counters_and_histograms_are_summed() -> None:
    """A dashboard sees one service: requests of all workers, bucket by bucket."""
    seen = samples(Totals().exposition([worker(3).exposition(), worker(4, waited_s=0.03).exposition()]))
    assert seen['tallygate_checks_total{decision="allow",plan="pro",reason="ok"}'] == 7
    assert seen["tallygate_check_duration_seconds_count"] == 7
    assert seen['tallygate_check_duration_seconds_bucket{le="0.005"}'] == 3
    assert seen['tallygate_check_duration_seconds_bucket{le="0.05"}'] == 7
    assert round(seen["tallygate_check_duration_seconds_sum"], 6) == round(3 * 0.003 + 4 * 0.03, 6)


def test_labels_that_only_one_worker_has_are_kept() -> None:
    """A reason one worker alone has met is shown with what that one counted, however its labels are written."""
    odd, other = worker(1), worker(1)
    odd.checks.count("deny", 'with "quotes"\n and a \\', "")
    seen = samples(Totals().exposition([other.exposition(), odd.exposition()]))
    assert seen['tallygate_checks_total{decision="deny",plan="",reason="with \\"quotes\\"\\n and a \\\\"}'] == 1


def test_gauges_follow_their_rules() -> None:
    """The stalest worker, a dependency that one of them misses, one version: what an alert has to see."""
    workers = [worker(staleness_s=1.5), worker(staleness_s=9, is_redis_up=False), worker()]
    seen = samples(Totals().exposition([each.exposition() for each in workers]))
    assert seen["tallygate_license_staleness_seconds"] == 9
    assert seen['tallygate_dependency_up{dependency="redis"}'] == 0
    assert seen['tallygate_build_info{version="1.2.3"}'] == 1


def test_memory_is_summed_and_the_start_is_the_oldest() -> None:
    """Memory is that of all processes; the start time of the service does not move when one is restarted."""
    one, other = (f"process_resident_memory_bytes {n}e6\nprocess_start_time_seconds {n}\n".encode() for n in (5, 7))
    types = b"# TYPE process_resident_memory_bytes gauge\n# TYPE process_start_time_seconds gauge\n"
    seen = samples(Totals().exposition([types + one, types + other]))
    assert seen == {"process_resident_memory_bytes": 12e6, "process_start_time_seconds": 5}


def test_what_a_dead_worker_had_counted_stays() -> None:
    """A counter never goes backwards: the process that takes over begins at zero, the sum does not."""
    totals, living = Totals(), worker(10)
    assert counted(totals.exposition([living.exposition(), worker(5).exposition()])) == 15
    totals.add_gone(worker(5).exposition())
    assert counted(totals.exposition([living.exposition()])) == 15
    totals.add_gone(living.exposition())
    seen = totals.exposition([worker(1).exposition()])
    assert counted(seen) == 16
    assert samples(seen)['tallygate_check_duration_seconds_bucket{le="+Inf"}'] == 16


def test_gauges_of_the_dead_are_gone() -> None:
    """A dead worker's staleness and lost connections alarm nobody for ever."""
    totals = Totals()
    totals.add_gone(worker(1, staleness_s=99, is_redis_up=False).exposition())
    seen = samples(totals.exposition([worker(1).exposition()]))
    assert seen["tallygate_license_staleness_seconds"] == 0
    assert seen['tallygate_dependency_up{dependency="redis"}'] == 1


def test_a_worker_that_has_told_nothing_adds_nothing() -> None:
    """A process that died while starting does no harm."""
    totals = Totals()
    totals.add_gone(b"")
    assert counted(totals.exposition([b"", worker(2).exposition()])) == 2


def test_a_series_was_created_when_its_first_worker_made_it() -> None:
    """What the client library says of when a counter began is that of the oldest, the dead included."""

    def made_at(at: int) -> bytes:
        text = f"# TYPE a_total counter\na_total 1\n# TYPE a_created gauge\na_created {at}\n"
        return text.encode()

    totals = Totals()
    totals.add_gone(made_at(100))
    assert samples(totals.exposition([made_at(300), made_at(200)])) == {"a_total": 3, "a_created": 100}


def test_help_and_type_of_every_series_are_kept() -> None:
    """Aggregating changes values only: names, help and types are those of one process, in the same order."""
    one = Metrics("1").exposition()
    described = [line for line in one.decode().splitlines() if line.startswith("#")]
    merged = Totals().exposition([one, one])
    assert [line for line in merged.decode().splitlines() if line.startswith("#")] == described


def test_the_client_librarys_own_kinds_are_understood() -> None:
    """Counters, labelled histograms and gauges of the library itself come out as they went in."""
    registry = CollectorRegistry()
    Counter("c", "Help.", ["x"], registry=registry).labels("1").inc(2)
    Histogram("h", "Help.", ["x"], registry=registry).labels("1").observe(2)
    Gauge("g", "Help.", registry=registry).set(-3)
    exposition = generate_latest(registry)
    assert Totals().exposition([exposition]) == exposition


def test_every_gauge_has_a_rule() -> None:
    """Whoever adds a gauge decides, beside it, what several workers say together."""
    ours = (Metrics("1").exposition() + SupervisorMetrics().exposition()).decode()
    gauges = {family.name for family in text_string_to_metric_families(ours) if family.type == "gauge"}
    assert {name for name in gauges if not name.endswith("_created")} == set(GAUGES_OVER_WORKERS)
