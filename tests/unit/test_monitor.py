"""Watching dependencies: two gauges that tell the truth, and one log line per change."""

import asyncio

import pytest
import structlog
from structlog.testing import capture_logs

from tallygate.core.errors import LimiterUnavailableError, StoreUnavailableError
from tallygate.metrics import Metrics
from tallygate.monitor import LoopLag, Monitor


class Dependency:
    """Answers, or does not."""

    def __init__(self) -> None:
        """Begin answering."""
        self.failure: Exception | None = None
        self.asked = asyncio.Event()

    async def __call__(self) -> str:
        """Give a sign of life."""
        self.asked.set()
        if self.failure is not None:
            raise self.failure
        return "alive"


@pytest.fixture(autouse=True)
def fresh_logging() -> None:
    """A logger that an earlier test configured may not have been caught by `capture_logs`."""
    structlog.reset_defaults()


def up(metrics: Metrics) -> dict[str, float | None]:
    """Return the gauge of every dependency of these tests."""
    names = ("postgres", "redis")
    return {name: metrics.registry.get_sample_value("tallygate_dependency_up", {"dependency": name}) for name in names}


async def test_each_dependency_is_told_apart() -> None:
    """Losing one leaves the other's gauge at 1, and both recover by themselves."""
    metrics, postgres, redis = Metrics("1"), Dependency(), Dependency()
    monitor = Monitor(metrics, lambda: 0.0, {"postgres": postgres, "redis": redis})
    seen = []
    for failures in ((None, None), (None, LimiterUnavailableError("no")), (StoreUnavailableError("no"), None)):
        postgres.failure, redis.failure = failures
        await monitor.look()
        seen.append(up(metrics))
    assert seen == [{"postgres": 1, "redis": 1}, {"postgres": 1, "redis": 0}, {"postgres": 0, "redis": 1}]


async def test_only_changes_are_logged() -> None:
    """An outage of an hour is two lines, and a healthy start is none."""
    dependency = Dependency()
    monitor = Monitor(Metrics("1"), lambda: 0.0, {"redis": dependency})
    with capture_logs() as lines:
        for failure in (None, None, *[LimiterUnavailableError("no answer")] * 3, None, None):
            dependency.failure = failure
            await monitor.look()
    assert [(line["log_level"], line["dependency"]) for line in lines] == [("warning", "redis"), ("info", "redis")]
    assert lines[0]["problem"] == "no answer"


async def test_a_dependency_that_is_down_from_the_start_is_logged() -> None:
    """A process that never saw its Redis says so."""
    dependency = Dependency()
    dependency.failure = LimiterUnavailableError("no answer")
    with capture_logs() as lines:
        await Monitor(Metrics("1"), lambda: 0.0, {"redis": dependency}).look()
    assert [line["event"] for line in lines] == ["a dependency does not answer"]


async def test_the_age_of_what_is_known_is_told() -> None:
    """The staleness gauge shows what it was told at the last look."""
    metrics = Metrics("1")
    await Monitor(metrics, lambda: 12.5, {}).look()
    assert metrics.registry.get_sample_value("tallygate_license_staleness_seconds") == 12.5


async def test_a_busy_event_loop_shows() -> None:
    """What others held the loop for beyond the sleep is told; a loop that wakes in time, or early, has no lag."""
    now_s, held_s = [0.0], [0.0, 0.25, -0.001]
    lags: list[float] = []

    async def sleep(asked_s: float) -> None:
        if not held_s:
            raise asyncio.CancelledError
        now_s[0] += asked_s + held_s.pop(0)

    with pytest.raises(asyncio.CancelledError):
        await LoopLag(lags.append, lambda: now_s[0], sleep).run()
    assert lags == pytest.approx([0, 0.25, 0])


async def test_it_watches_until_cancelled() -> None:
    """It looks at once when it starts, and ends only with its task."""
    dependency = Dependency()
    task = asyncio.create_task(Monitor(Metrics("1"), lambda: 0.0, {"redis": dependency}).run())
    async with asyncio.timeout(10):
        await dependency.asked.wait()
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
