"""What Prometheus's own judge says of our pages: of every series there can be, and of real processes."""

import math
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from support.background_process import process
from support.servers import Database
from support.supervised import UNASKED, ask, supervised

from tallygate.devservers.ports import LOOPBACK, free_ports
from tallygate.devservers.prometheus import promtool
from tallygate.metrics import CustomerMetrics, Metrics, Spread, SupervisorMetrics, Tally, UsedRatio, WorkerMetrics

pytestmark = pytest.mark.usefixtures("prometheus_programs")


async def assert_clean(exposition: str) -> None:
    """Have `promtool check metrics` find nothing to say."""
    assert exposition.count("# TYPE tallygate_") > 1
    assert await promtool("check", "metrics", given=exposition) == (0, "")


@pytest.mark.parametrize(
    "metrics",
    [Metrics("1"), CustomerMetrics(CollectorRegistry()), WorkerMetrics("1"), SupervisorMetrics()],
    ids=lambda m: type(m).__name__,
)
async def test_every_series_is_named_as_it_should_be(
    metrics: Metrics | CustomerMetrics | WorkerMetrics | SupervisorMetrics,
) -> None:
    """Names, units, suffixes, types and help of all, those included that have no samples until something happens."""
    for series in vars(metrics).values():
        match series:
            case Tally():
                series.add(3, *["a"] * len(series.labels))
            case Spread():
                series.observe(0.01)
            case UsedRatio():
                series.set(0.5, math.inf, "sub_1", *["a"] * len(series.labels))
            case Gauge():
                (series.labels(*["a"] * len(series._labelnames)) if series._labelnames else series).set(1)
    await assert_clean(generate_latest(metrics.registry).decode())


async def test_promtool_finds_what_is_wrong() -> None:
    """The judge is real: a counter without `_total` and without help is told."""
    status, said = await promtool("check", "metrics", given="# TYPE bad counter\nbad 1\n")
    assert status != 0
    assert "_total" in said
    assert "help" in said


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_page_of_serve_is_clean(tmp_path: Path, database: Database, redis_url: str, workers: int) -> None:
    """Of one process, and of several workers whose series are added up."""
    first = free_ports(workers)
    listen = f"{LOOPBACK}:{first}"
    async with supervised(tmp_path, database.data_plane_dsn, redis_url, workers=workers, listen=listen) as service:
        for number in range(workers):
            await ask(f"{LOOPBACK}:{first + number}")
        assert (await service.metrics())[UNASKED] == workers
        await assert_clean((await service.http.get("/metrics")).text)


async def test_the_page_of_a_worker_is_clean(tmp_path: Path, database: Database, redis_url: str) -> None:
    """`tallygate worker` has a page of its own."""
    async with process(tmp_path, database, redis_url, "worker") as (_, url), httpx.AsyncClient(trust_env=False) as http:
        await assert_clean((await http.get(f"{url}/metrics")).text)
