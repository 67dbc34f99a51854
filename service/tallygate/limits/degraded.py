"""Usage that was admitted while the counters were away: kept here, and told to the ledger when they are back.

Owns what is not told yet, and that it is told once. Does not own which requests these are (`decision/pipeline`). It
goes to the ledger alone, as entry `degraded` of its minute: no counter is charged for what a fail policy let through.

Requests of a kind in one minute are added up until they are first sent; from then on a batch is what it is, under an id
of its own, so that a reply that is lost doubles nothing. Bounded by `max_fields`; what finds no room is lost, and so is
all of it when the process ends before the counters are back. For one event loop.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from tallygate.core.clock import Clock
from tallygate.core.errors import DependencyError
from tallygate.limits.limiter import Acquisition, Limiter

_AT_ONCE = 64


class DegradedResult(StrEnum):
    """What becomes of requests that were admitted without the counters."""

    TOLD = "told"
    LOST = "lost"
    UNCLEAR = "unclear"


@dataclass(slots=True)
class _Batch:
    """So many requests of a kind in one minute."""

    acquisition: Acquisition
    minute: int
    id: str
    requests: int = 0

    def report(self) -> Acquisition:
        """Return what tells of them."""
        asked = self.acquisition
        return Acquisition(
            asked.subject,
            (),
            tuple((meter, units * self.requests) for meter, units in asked.usage),
            asked.route,
            self.id,
            asked.plan,
            degraded_minute=self.minute,
        )


class DegradedUsage:
    """What is not told yet."""

    def __init__(
        self, clock: Clock, observe: Callable[[DegradedResult, int], None], *, max_fields: int = 10_000
    ) -> None:
        """Keep nothing yet; `observe` hears what became of so many requests."""
        self._clock = clock
        self._observe = observe
        self._max_fields = max_fields
        self._fields = 0
        self._open: dict[tuple[int, int], _Batch] = {}
        self._sent: list[_Batch] = []
        self._ids = (f"degraded:{secrets.token_hex(8)}:{number}" for number in count())

    def add(self, acquisition: Acquisition, *, may_have_run: bool) -> None:
        """Count a request that was admitted without the counters.

        One that they may have counted all the same (`may_have_run`) is not told: nothing is billed twice.
        """
        if may_have_run:
            self._observe(DegradedResult.UNCLEAR, 1)
            return
        # Requests of a kind share their usage, and a batch keeps it alive: nothing else has its identity.
        minute = int(self._clock.now().timestamp()) // 60
        batch = self._open.get((id(acquisition.usage), minute))
        if batch is None:
            if self._fields + len(acquisition.usage) > self._max_fields:
                self._observe(DegradedResult.LOST, 1)
                return
            self._fields += len(acquisition.usage)
            batch = self._open[id(acquisition.usage), minute] = _Batch(acquisition, minute, next(self._ids))
        batch.requests += 1

    async def hand_on(self, limiter: Limiter) -> None:
        """Tell all there is to tell, or as much as is heard: one batch first, to see that the counters are back."""
        at_once = 1
        while self._sent or self._open:
            while self._open and len(self._sent) < at_once:
                self._sent.append(self._open.pop(next(iter(self._open))))
            told = await asyncio.gather(*(self._tell(limiter, batch) for batch in self._sent))
            self._sent = [batch for batch, is_told in zip(self._sent, told, strict=True) if not is_told]
            if self._sent:
                return
            at_once = _AT_ONCE

    async def close(self, limiter: Limiter) -> None:
        """Tell what can be told; the rest is lost."""
        await self.hand_on(limiter)
        lost = sum(batch.requests for batch in (*self._sent, *self._open.values()))
        if lost:
            self._observe(DegradedResult.LOST, lost)

    async def _tell(self, limiter: Limiter, batch: _Batch) -> bool:
        try:
            await limiter.report(batch.report())
        except DependencyError:
            return False
        self._fields -= len(batch.acquisition.usage)
        self._observe(DegradedResult.TOLD, batch.requests)
        return True
