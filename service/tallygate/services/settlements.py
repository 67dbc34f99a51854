"""Outcomes of requests, waiting to be settled: a bounded queue between access logs and the counters.

Owns how many wait, and that one which cannot be settled now is tried again. Does not own what settling is (`settling`).
For one event loop. While the counter store is away up to `WAITING` outcomes wait and are tried again; more are dropped,
and counted. One that is refused goes to the end of the queue each time, and holds up no other. While the store answers,
a full queue makes whoever brings outcomes wait: Envoy then buffers, and drops.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tallygate.core.errors import DependencyError
from tallygate.decision.outcomes import Outcome

_log = structlog.get_logger("tallygate.services")
WAITING = 10_000
AT_ONCE = 64
DROPPED = "dropped"
NO_RECEIPT = "none"
_PAUSE_S = 0.5


class Settlements:
    """The queue, and the tasks that empty it."""

    def __init__(
        self,
        settle: Callable[[Outcome], Awaitable[str]],
        observe: Callable[[str], None],
        *,
        waiting: int = WAITING,
        at_once: int = AT_ONCE,
        pause_s: float = _PAUSE_S,
    ) -> None:
        """Settle by `settle`, which returns how it went, and tell `observe` of each.

        At most `waiting` outcomes wait and `at_once` are under way; one that met a lost dependency waits again after
        `pause_s`, if there is room.
        """
        self._settle = settle
        self._observe = observe
        self._queue: asyncio.Queue[Outcome] = asyncio.Queue(waiting)
        self._at_once = at_once
        self._pause_s = pause_s
        self._is_away = False

    def __len__(self) -> int:
        return self._queue.qsize()

    async def put(self, outcome: Outcome | None) -> None:
        """Take an outcome to be settled; None is a request without a receipt, of which there is nothing to settle."""
        if outcome is None:
            self._observe(NO_RECEIPT)
        elif self._queue.full() and self._is_away:
            self._observe(DROPPED)
        else:
            await self._queue.put(outcome)

    async def run(self) -> None:
        """Settle what comes, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._at_once):
                tasks.create_task(self._work(), name="settle outcomes")

    async def drain(self, deadline_s: float) -> None:
        """Wait until all that has come is settled, `deadline_s` seconds at most; what is left then is lost."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._queue.join()
        except TimeoutError:
            _log.warning("outcomes are left unsettled", waiting=len(self))

    async def _work(self) -> None:
        while True:
            outcome = await self._queue.get()
            result = await self._settled(outcome)
            if result is None:
                await asyncio.sleep(self._pause_s)
                result = self._put_back(outcome)
            if result is not None:
                self._observe(result)
            self._queue.task_done()

    def _put_back(self, outcome: Outcome) -> str | None:
        try:
            self._queue.put_nowait(outcome)
        except asyncio.QueueFull:
            return DROPPED
        return None

    async def _settled(self, outcome: Outcome) -> str | None:
        """Return how it went, None when it is to be tried again."""
        try:
            result = await self._settle(outcome)
        except DependencyError:
            self._is_away = True
            return None
        except Exception:  # noqa: BLE001 - one outcome must not end the settling of all others
            _log.exception("an outcome cannot be settled")
            return DROPPED
        self._is_away = False
        return result
