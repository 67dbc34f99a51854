"""What is not switched on is not there: no layer between a request and what decides it or counts it."""

import pytest
from prometheus_client import generate_latest
from redis.asyncio import Redis
from support.pipelines import Desk

from tallygate.app.observing import watched
from tallygate.decision.decision import Decision
from tallygate.envoy.count_customers import CustomerCounting
from tallygate.metrics import Metrics
from tallygate.settings import InvalidSettingsError, load
from tallygate.traces.checks import TracedChecks


def count(_decision: Decision, _seconds: float) -> None:
    """Count nothing."""


@pytest.fixture
def client() -> Redis:
    """A client that is never connected."""
    return Redis()


def test_by_default_a_request_meets_the_pipeline_itself(client: Redis) -> None:
    """Nothing is asked of each request whether something is on: the same objects, and no work beside."""
    pipeline, metrics = Desk().pipeline, Metrics("1")
    seen = watched(load({}).values, metrics, pipeline, count, client)
    assert seen.decider is pipeline
    assert seen.observe is count
    assert (dict(seen.background), list(seen.closers)) == ({}, [])
    assert b"tallygate_customer" not in generate_latest(metrics.registry)


async def test_customers_and_traces_are_switched_on_apart(client: Redis) -> None:
    """Each adds its own part, and its own work beside requests; traces are closed at the end."""
    pipeline, metrics = Desk().pipeline, Metrics("1")
    named = {"TALLYGATE_METRICS_CUSTOMERS": "10"}
    seen = watched(load(named).values, metrics, pipeline, count, client)
    assert (seen.decider, list(seen.background)) == (pipeline, ["customers"])
    assert isinstance(seen.observe, CustomerCounting)
    assert b"tallygate_customer_checks_total" in generate_latest(metrics.registry)

    traced = {"TALLYGATE_TRACES_ENDPOINT": "http://127.0.0.1:1"}
    seen = watched(load(traced).values, Metrics("1"), pipeline, count, client)
    assert isinstance(seen.decider, TracedChecks)
    assert (seen.observe, list(seen.background)) == (count, ["traces"])
    for close in seen.closers:
        await close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("METRICS_CUSTOMERS", "-1"),
        ("METRICS_CUSTOMERS", "1001"),
        ("TRACES_RATIO", "1.1"),
        ("TRACES_ENDPOINT", "collector:4318"),
        ("TRACES_ENDPOINT", "http://user:secret@collector:4318"),
        ("TRACES_ENDPOINT", "grpc://collector:4317"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(name: str, value: str) -> None:
    """Too many customers, a ratio above 1, an address without a scheme or with a password in it."""
    with pytest.raises(InvalidSettingsError, match=f"TALLYGATE_{name}"):
        load({f"TALLYGATE_{name}": value})
