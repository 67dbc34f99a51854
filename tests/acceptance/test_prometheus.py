"""A real Prometheus beside the running system: it finds the targets, and the numbers that dashboards are drawn from."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.world import World

from tallygate.devservers.prometheus import EmbeddedPrometheus, PrometheusError, scrape_config

pytestmark = pytest.mark.usefixtures("prometheus_programs")


@pytest.fixture
async def prometheus(world: World, data_dir: Path) -> AsyncIterator[EmbeddedPrometheus]:
    """Return a Prometheus that scrapes the data plane and Envoy, and one job that nobody answers."""
    jobs = {
        "tallygate": world.system.metrics_url,
        "envoy": f"{world.system.envoy_admin_url}/stats/prometheus",
        "nobody": "http://127.0.0.1:1/metrics",
    }
    async with EmbeddedPrometheus(scrape_config(jobs), data_dir=data_dir) as server:
        yield server


async def test_it_scrapes_the_running_system(world: World, prometheus: EmbeddedPrometheus) -> None:
    """Targets that answer are up and one that does not is down; what was decided through Envoy is counted in it."""
    account = await world.account("plain")
    assert [await world.seen(account.secret) for _ in range(3)] == ["200"] * 3
    decided = await prometheus.until('tallygate_checks_total{decision="allow", plan="plain"} >= 3')
    assert decided[0].labels["job"] == "tallygate"
    assert await prometheus.until("envoy_http_downstream_rq_total > 0")
    assert await prometheus.until('up{job="nobody"} == 0')
    targets = await prometheus.targets()
    assert (targets["tallygate"], targets["envoy"]) == ("up", "up")
    assert "connection refused" in targets["nobody"]


async def test_a_request_that_crosses_its_amount_is_split(world: World, prometheus: EmbeddedPrometheus) -> None:
    """Of 3 units where 2 are included, Prometheus sees 2 allowed and 1 of overage, as the bill will."""
    account = await world.account("overage")
    before = await world.metrics()
    assert await world.seen(account.secret, "/v1/bulk") == "200"
    expected = {
        'tallygate_units_total{meter="requests",outcome="allowed",plan="overage"}': 2,
        'tallygate_units_total{meter="requests",outcome="overage",plan="overage"}': 1,
        'tallygate_overage_units_total{meter="requests",plan="overage"}': 1,
    }
    for series, units in expected.items():
        assert await prometheus.until(f"{series} == {before.get(series, 0) + units}")


async def test_the_event_loop_is_watched(prometheus: EmbeddedPrometheus) -> None:
    """The running service measures how late its event loop wakes, without anybody asking."""
    assert await prometheus.until("tallygate_event_loop_lag_seconds_count > 0")


async def test_a_wrong_expression_is_told(prometheus: EmbeddedPrometheus) -> None:
    """A query that Prometheus refuses is an error with its words, not an empty answer."""
    with pytest.raises(PrometheusError, match="parse error"):
        await prometheus.query("sum(")
    with pytest.raises(PrometheusError, match="no vector"):
        await prometheus.query("1")
