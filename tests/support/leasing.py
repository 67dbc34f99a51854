"""Workers that lease from one store, whose way to it fails as told, and whose time the test moves."""

import asyncio
import fcntl
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from tallygate.core.errors import LimiterUnavailableError
from tallygate.limits.amendment import Amendment, AmendOutcome
from tallygate.limits.journal_files import FileJournal
from tallygate.limits.leased import LeasedLimiter, LeaseResult
from tallygate.limits.limiter import Acquisition, Limiter, Verdict


class Fault(StrEnum):
    """What becomes of a call for a slab, or for its end."""

    NONE = "none"
    UNSENT = "unsent"
    UNHEARD = "unheard"
    LATE = "late"
    SLOW = "slow"


class FaultyStore:
    """A store, but for what goes wrong on the way; asking for a single request goes wrong only while it `is_away`."""

    def __init__(self, store: Limiter) -> None:
        """Have no fault yet."""
        self._store = store
        self.peek, self.release, self.first_used_at = store.peek, store.release, store.first_used_at
        self.report, self.receipt = store.report, store.receipt
        self.fault = Fault.NONE
        self.is_away = False
        self.asked: list[Acquisition] = []
        self.late: list[Acquisition] = []
        self.held_back = 0
        self._gate = asyncio.Event()

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Ask, or fail; a late call is one that arrives after it was given up, by `arrive`."""
        self.asked.append(acquisition)
        if self.is_away:
            raise LimiterUnavailableError("it is away")
        fault = self.fault if (acquisition.idempotency_key or "").startswith("lease:") else Fault.NONE
        if fault is Fault.LATE:
            self.late.append(acquisition)
        if fault in (Fault.LATE, Fault.UNSENT):
            raise LimiterUnavailableError("it was not sent")
        verdict = await self._store.acquire(acquisition)
        if fault is Fault.UNHEARD:
            raise LimiterUnavailableError("its reply was lost")
        if fault is Fault.SLOW:
            await self._hold_back()
        return verdict

    async def amend(self, amendment: Amendment) -> AmendOutcome:
        """Amend, or fail."""
        if self.fault in (Fault.LATE, Fault.UNSENT):
            raise LimiterUnavailableError("it was not sent")
        outcome = await self._store.amend(amendment)
        if self.fault is Fault.UNHEARD:
            raise LimiterUnavailableError("its reply was lost")
        return outcome

    async def arrive(self) -> None:
        """Let the late calls arrive now."""
        for acquisition in self.late:
            await self._store.acquire(acquisition)
        self.late.clear()

    def let_through(self) -> None:
        """Let the slow replies come now."""
        self._gate.set()
        self._gate = asyncio.Event()
        self.held_back = 0

    async def _hold_back(self) -> None:
        self.held_back += 1
        await self._gate.wait()


def abandon(journal: FileJournal) -> None:
    """Let go of a journal as a process does that is killed: what was written stays."""
    fcntl.flock(journal._file._fd, fcntl.LOCK_UN)


class Worker:
    """A worker that leases. Its clock runs at a pace of its own beside `now_s`."""

    def __init__(
        self,
        store: Limiter,
        now_s: Callable[[], float],
        pace: float = 1.0,
        workers: int = 1,
        journal: FileJournal | None = None,
    ) -> None:
        """Begin with nothing held; size slabs as one of so many workers."""
        self._journal = journal
        self.store = FaultyStore(store)
        self.became: Counter[LeaseResult] = Counter()
        began_s = now_s()
        self.limiter = LeasedLimiter(
            self.store,
            workers=workers,
            now_s=lambda: 77 + (now_s() - began_s) * pace,
            observe=lambda result, requests: self.became.update({result: requests}),
            journal=journal,
        )

    async def quiet(self) -> None:
        """Wait until all that this worker began is done, or held back."""
        while len(self.limiter._tasks) > self.store.held_back:  # noqa: ASYNC110 - each turn may hold back one more
            await asyncio.sleep(0)

    async def crash(self) -> None:
        """End without a word."""
        for task in list(self.limiter._tasks):
            task.cancel()
        await asyncio.gather(*self.limiter._tasks, return_exceptions=True)
        if self._journal is not None:
            abandon(self._journal)

    @property
    def held(self) -> int:
        """Return the requests paid for and not yet spent."""
        slabs = (slab for kind in self.limiter._kinds.values() for slab in (kind.slab, kind.ahead) if slab)
        return sum(slab.left for slab in slabs)
