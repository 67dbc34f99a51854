"""Watching what this process depends on: once a second, whether it answers and how old our knowledge is.

Owns two gauges and one log line per change. Decides nothing: readiness and refusals do not ask it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from tallygate.core.errors import DependencyError
from tallygate.metrics import Metrics

_INTERVAL_S = 1.0
_log = structlog.get_logger("tallygate.monitor")

Ask = Callable[[], Awaitable[object]]


class Monitor:
    """Asks each dependency for a sign of life; every question has its own deadline."""

    def __init__(self, metrics: Metrics, staleness_s: Callable[[], float], dependencies: Mapping[str, Ask]) -> None:
        """Take the questions by name; each raises DependencyError when there is no answer."""
        self._metrics = metrics
        self._staleness_s = staleness_s
        self._dependencies = dependencies
        self._is_up: dict[str, bool] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_INTERVAL_S)

    async def look(self) -> None:
        """Ask everything once."""
        self._metrics.license_staleness.set(self._staleness_s())
        await asyncio.gather(*(self._ask(name, ask) for name, ask in self._dependencies.items()))

    async def _ask(self, name: str, ask: Ask) -> None:
        problem = ""
        try:
            await ask()
        except DependencyError as error:
            problem = str(error)
        is_up = not problem
        self._metrics.dependency_up.labels(name).set(is_up)
        if self._is_up.get(name, True) != is_up:
            if is_up:
                _log.info("a dependency answers again", dependency=name)
            else:
                _log.warning("a dependency does not answer", dependency=name, problem=problem)
        self._is_up[name] = is_up
