"""Watching what this process depends on: whether it answers, how old our knowledge is, how far the ledger is behind.

And whether its own event loop is free. Owns these series and one log line per change. Decides nothing: readiness and
refusals do not ask it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from prometheus_client import Gauge

from tallygate.core.clock import Clock
from tallygate.core.errors import DependencyError
from tallygate.metrics import Metrics
from tallygate.usage.buckets import UsageBuckets

_INTERVAL_S = 1.0
_NAP_S = 0.1
_log = structlog.get_logger("tallygate.monitor")

Ask = Callable[[], Awaitable[object]]


class Monitor:
    """Watches what the data plane depends on, and how old what it knows of licenses is."""

    def __init__(self, metrics: Metrics, staleness_s: Callable[[], float], dependencies: Mapping[str, Ask]) -> None:
        """Take the questions by name; each raises DependencyError when there is no answer."""
        self._metrics = metrics
        self._staleness_s = staleness_s
        self._watch = Watch(metrics.dependency_up, dependencies)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_INTERVAL_S)

    async def look(self) -> None:
        """Ask everything once."""
        self._metrics.license_staleness.set(self._staleness_s())
        await self._watch.look()


class LoopLag:
    """How much later than asked the event loop wakes who sleeps: a callback that takes long makes every request wait.

    It sleeps a tenth of a second at a time; what is shorter and falls between two ends of sleep is not seen.
    """

    def __init__(
        self,
        observe: Callable[[float], None],
        now_s: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Tell `observe` seconds."""
        self._observe = observe
        self._now_s = now_s
        self._sleep = sleep

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            slept_at_s = self._now_s()
            await self._sleep(_NAP_S)
            self._observe(max(0.0, self._now_s() - slept_at_s - _NAP_S))


class LedgerLag:
    """How far the ledger is behind: since when not all usage is in it.

    The worker notes in Redis how far it has come. Where none has ever been, time counts from the first look.
    """

    def __init__(self, gauge: Gauge, buckets: UsageBuckets, clock: Clock) -> None:
        """Set `gauge` to seconds; `buckets` know how far the worker has come."""
        self._gauge = gauge
        self._buckets = buckets
        self._clock = clock
        self._known_s: float | None = None

    async def look(self) -> None:
        """Ask once; while there is no answer, raise DependencyError and count on from what was known."""
        now_s = self._clock.now().timestamp()
        try:
            moved_to_us = await self._buckets.moved_to_us()
            if moved_to_us is None:
                moved_to_us = int(now_s * 1_000_000)
                await self._buckets.tell_moved_to(moved_to_us, is_first=True)
            self._known_s = moved_to_us / 1_000_000
        finally:
            if self._known_s is not None:
                self._gauge.set(max(0.0, now_s - self._known_s))


class Watch:
    """Asks each dependency for a sign of life; every question has its own deadline."""

    def __init__(self, gauge: Gauge, dependencies: Mapping[str, Ask]) -> None:
        """Take the questions by name, and the gauge that is labelled so."""
        self._gauge = gauge
        self._dependencies = dependencies
        self._is_up: dict[str, bool] = {}

    async def look(self) -> None:
        """Ask everything once."""
        await asyncio.gather(*(self._ask(name, ask) for name, ask in self._dependencies.items()))

    async def _ask(self, name: str, ask: Ask) -> None:
        problem = ""
        try:
            await ask()
        except DependencyError as error:
            problem = str(error)
        is_up = not problem
        self._gauge.labels(name).set(is_up)
        if self._is_up.get(name, True) != is_up:
            if is_up:
                _log.info("a dependency answers again", dependency=name)
            else:
                _log.warning("a dependency does not answer", dependency=name, problem=problem)
        self._is_up[name] = is_up
