"""Plain numbers are exposed as the client library exposes its own counters and histograms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tallygate.metrics import ExemplifiedSpread, Metrics, Spread, Tally, openmetrics

BOUNDS = (0.0001, 0.25, 1, 8)
VALUES = st.sampled_from(["ok", "", 'a "b"\\\n', "ü"])


def exposed(registry: CollectorRegistry) -> str:
    """Return the text without the instants at which the library's series were created, which are another time."""
    lines = generate_latest(registry).decode().splitlines()
    return "\n".join(line for line in lines if "_created" not in line)


@given(st.lists(st.tuples(VALUES, VALUES, st.integers(0, 2**40)), max_size=8))
def test_a_tally_reads_like_a_counter(counted: list[tuple[str, str, int]]) -> None:
    """Names, types, help, labels and numbers, in the order they first came."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally, counter = Tally("a_b", "Help.", ["z", "a"], ours), Counter("a_b", "Help.", ["z", "a"], registry=theirs)
    for first, second, amount in counted:
        tally.add(amount, first, second)
        tally.count(first, second)
        counter.labels(first, second).inc(amount + 1)
    assert exposed(ours) == exposed(theirs)


@given(st.lists(st.sampled_from([0.0, *BOUNDS]) | st.floats(0, 20), max_size=20))
def test_a_spread_reads_like_a_histogram(amounts: list[float]) -> None:
    """Every bucket holds what is at most its bound; without any amount all are there and empty."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    spread, histogram = Spread("a_b", "Help.", BOUNDS, ours), Histogram("a_b", "Help.", buckets=BOUNDS, registry=theirs)
    for amount in amounts:
        spread.observe(amount)
        histogram.observe(amount)
    assert exposed(ours) == exposed(theirs)


def test_two_series_of_one_name_are_refused() -> None:
    """A name given twice would be two series that nobody can tell apart: it fails when the process starts."""
    registry = CollectorRegistry()
    Tally("a", "Help.", [], registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Tally("a", "Help.", [], registry)


def test_looking_changes_nothing() -> None:
    """Two scrapes of a still system read the same, and what is counted between them is in the second."""
    metrics = Metrics("1")
    metrics.checks.count("allow", "ok", "pro")

    def counts() -> dict[str, float]:
        families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
        return {sample.name: sample.value for family in families for sample in family.samples if "check" in sample.name}

    assert counts() == counts()
    before = counts()["tallygate_checks_total"]
    metrics.checks.count("allow", "ok", "pro")
    assert counts()["tallygate_checks_total"] == before + 1


def test_a_bucket_names_the_first_decision_after_a_look() -> None:
    """Each look shows decisions as young as can be, and between two looks only the first is noted: it costs nothing."""
    registry, now_s = CollectorRegistry(), iter(range(100))
    spread = ExemplifiedSpread("a", "Help.", BOUNDS, registry, lambda: next(now_s))

    def shown() -> dict[str, str]:
        lines = (line.partition(" # ") for line in openmetrics(registry).decode().splitlines())
        return {series: exemplar for series, found, exemplar in lines if found}

    spread.observe_of(0.2, "d1")
    spread.observe_of(0.1, "d2")
    spread.observe_of(9, "d3")
    assert shown() == {
        'a_bucket{le="0.25"} 2.0': '{decision_id="d1"} 0.2 0',
        'a_bucket{le="+Inf"} 3.0': '{decision_id="d3"} 9.0 1',
    }
    spread.observe_of(0.2, "d4")
    assert shown() == {
        'a_bucket{le="0.25"} 3.0': '{decision_id="d4"} 0.2 2',
        'a_bucket{le="+Inf"} 4.0': '{decision_id="d3"} 9.0 1',
    }


@given(st.lists(st.sampled_from([0.0, *BOUNDS]) | st.floats(0, 20), max_size=20))
def test_exemplars_change_no_number(amounts: list[float]) -> None:
    """The histogram that names decisions counts as the one that does not."""
    plain, named = CollectorRegistry(), CollectorRegistry()
    spread, exemplified = Spread("a", "Help.", BOUNDS, plain), ExemplifiedSpread("a", "Help.", BOUNDS, named)
    for amount in amounts:
        spread.observe(amount)
        exemplified.observe_of(amount, "d")
    assert exposed(plain) == exposed(named)
