"""The limiter that pays ahead: requests of leased limits are decided in memory while a slab lasts.

Owns when slabs are taken, spent and settled, and what this worker remembers of the requests it admitted out of them.
Does not own counting (`redis`), the terms (`leases`), or what is held of a kind (`slabs`). Whatever is not leased, and
every request that no slab is there for, is the store's to decide, exactly and as before.

For one event loop: a decision in memory has no await in it, so it is one step. Bounds: kinds of requests, ids
remembered, settlements waiting. Slabs are taken in the background, one at a time for each kind.

Failure: a slab in hand is spent though the store is away; then its errors are the caller's. A grant that is not heard
of is settled as unspent. Settlements are tried again by `tend` while the store remembers slabs, then given up and
counted as lost. A worker that is killed leaves its slabs in the `journal`; another settles them.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import count, islice
from time import monotonic
from typing import Any

from tallygate.core.errors import DependencyError
from tallygate.limits.amendment import Amendment, AmendOutcome
from tallygate.limits.journal import Entry, Journal, NoJournal
from tallygate.limits.leases import SLAB_KNOWN_S, settlement
from tallygate.limits.limiter import IDEMPOTENCY_TTL_S, Acquisition, Limiter, Subject, Verdict
from tallygate.limits.receipt import Receipt
from tallygate.limits.slabs import Kind, Slab

LATE_S = IDEMPOTENCY_TTL_S - 5.0
"""After so long the store may have forgotten that a slab was settled, if it was and its reply got lost."""

_ORPHANS_S = 1.0
_MOST_WAITING = 10_000
_AT_ONCE = 128
_IDS = 16_384
_ID_AGE_S = IDEMPOTENCY_TTL_S / 2


class LeaseResult(StrEnum):
    """What became of a slab, or of the requests in it."""

    GRANTED = "granted"
    REFUSED = "refused"
    UNHEARD = "unheard"
    SPENT = "spent"
    RETURNED = "returned"
    LOST = "lost"


@dataclass(slots=True)
class _Ending:
    """A settlement that is waiting since `first_s`; `requests` are lost if it cannot be."""

    entry: Entry
    terms: Amendment
    spent: int
    unspent: int
    requests: int
    first_s: float
    is_orphan: bool = False

    def amendment(self, now_s: float) -> Amendment:
        """Return it as it is told now."""
        is_late = self.is_orphan or now_s - self.first_s > LATE_S
        return settlement(self.terms, spent=self.spent, unspent=self.unspent, is_late=is_late)


def _uncounted(_result: LeaseResult, _requests: int) -> None:
    """Take what became of so many requests and do nothing with it."""


class LeasedLimiter:
    """Counters in a store, and slabs of them here."""

    def __init__(
        self,
        store: Limiter,
        *,
        workers: int = 1,
        now_s: Callable[[], float] = monotonic,
        observe: Callable[[LeaseResult, int], None] = _uncounted,
        max_kinds: int = 10_000,
        journal: Journal | None = None,
    ) -> None:
        """Take slabs from `store`, which others close; of what is left, `workers` share.

        `observe` hears what became of so many requests: of a slab when it is asked for, and again when it is over.
        `journal`, which `close` closes, has what is held for whoever comes after this worker.
        """
        self._store = store
        self._workers = workers
        self._now_s = now_s
        self._observe = observe
        self._max_kinds = max_kinds
        self._kinds: dict[int, Kind] = {}
        self._holding: dict[int, Kind] = {}
        self._recent = _Recent(now_s())
        self._ids = (f"lease:{secrets.token_hex(8)}:{number}" for number in count())
        self._waiting: dict[str, _Ending] = {}
        self._journal = journal or NoJournal()
        self._looks_at_s = now_s()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge or none: out of a slab where there is one."""
        # There is one empty tuple: kinds without charges, never leased, are told apart by their subject.
        kind = self._kinds.get(id(acquisition.charges or acquisition.subject))
        if kind is None or not kind.is_of(acquisition):
            kind = self._known(acquisition)
        if not kind.is_leased:
            return await self._store.acquire(acquisition)
        now_s, request_id = self._now_s(), acquisition.idempotency_key
        if request_id is not None:
            found = self._recent.of(request_id)
            if found is kind:
                return kind.verdict(now_s, is_repeat=True)
            if found is kind.mark:
                return await self._asked(kind, acquisition)
        kind.asked += 1
        slab = kind.slab
        if slab is None or slab.left == 0 or now_s >= slab.ends_s:
            slab = self._turned(kind, now_s)
            if slab is None:
                self._recent.remember(request_id, kind.mark, now_s)
                return await self._asked(kind, acquisition)
        slab.left -= 1
        slab.counts[slab.at] = slab.left
        if slab.left <= slab.low:
            self._take_ahead(kind, now_s)
        self._recent.remember(request_id, kind, now_s)
        return kind.verdict(now_s, is_repeat=False)

    async def peek(self, acquisition: Acquisition) -> Verdict:
        """Say what the store would answer now, and change nothing; what is held in slabs is used, to it."""
        return await self._store.peek(acquisition)

    async def report(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge whether it fits or not; what is held in slabs is used, to the store."""
        return await self._store.report(acquisition)

    async def receipt(self, customer: str, receipt_id: str) -> Receipt | None:
        """Return a receipt; requests that leave one are never leased."""
        return await self._store.receipt(customer, receipt_id)

    async def amend(self, amendment: Amendment) -> AmendOutcome:
        """Change what was charged, once."""
        return await self._store.amend(amendment)

    async def release(self, subject: Subject, request_id: str) -> None:
        """End the request's holds on all its concurrency limits, which are never leased."""
        await self._store.release(subject, request_id)

    async def first_used_at(self, subject: Subject, *, is_look: bool = False) -> datetime | None:
        """Return when the subject's subscription was first used: now, unless it was before."""
        return await self._store.first_used_at(subject, is_look=is_look)

    async def tend(self) -> None:
        """Settle slabs whose time is over, and try again what could not be settled; to be done every 100 ms or so.

        What workers left behind is looked for every second.
        """
        now_s = self._now_s()
        if now_s >= self._looks_at_s:
            self._looks_at_s = now_s + _ORPHANS_S
            self._adopt(now_s)
        for key, kind in list(self._holding.items()):
            self._turned(kind, now_s)
            if kind.slab is None:
                del self._holding[key]
        for lease, ending in list(self._waiting.items()):
            if now_s - ending.first_s > SLAB_KNOWN_S:
                self._lose(lease)
        await self._settle_all(islice(list(self._waiting), _AT_ONCE))

    async def settled(self) -> None:
        """Wait until nothing that was begun is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Give everything back. Whatever comes from now on is asked for."""
        self._is_closed = True
        self._drop(self._holding.values())
        self._holding.clear()
        await self.settled()
        while self._waiting:
            batch = list(islice(self._waiting, _AT_ONCE))
            await self._settle_all(batch)
            for lease in batch:
                if lease in self._waiting and self._journal.is_lasting:
                    del self._waiting[lease]  # for others to find
                elif lease in self._waiting:
                    self._lose(lease)
        self._journal.close()

    async def _asked(self, kind: Kind, acquisition: Acquisition) -> Verdict:
        verdict = await self._store.acquire(acquisition)
        now_s = self._now_s()
        kind.hear(verdict, now_s)
        if kind.slab is None:
            self._take_ahead(kind, now_s)
        return verdict

    def _known(self, acquisition: Acquisition) -> Kind:
        """Return the kind of a request that is seen for the first time."""
        if len(self._kinds) >= self._max_kinds:
            oldest = list(islice(self._kinds, self._max_kinds // 2))
            self._drop(self._kinds[key] for key in oldest)
            for key in oldest:
                del self._kinds[key]
                self._holding.pop(key, None)
        kind = self._kinds[id(acquisition.charges or acquisition.subject)] = Kind(acquisition, self._now_s())
        return kind

    def _turned(self, kind: Kind, now_s: float) -> Slab | None:
        """Return a slab that can be spent from, if there is one, and settle those that are over."""
        for slab in kind.turn(now_s):
            self._end(slab)
        return kind.slab

    def _take_ahead(self, kind: Kind, now_s: float) -> None:
        size = 0 if self._is_closed else kind.wanted(now_s, self._workers)
        if size:
            kind.is_taking = True
            self._begin(self._take(kind, size))

    async def _take(self, kind: Kind, size: int) -> None:
        lease, sent_s = next(self._ids), self._now_s()
        terms = kind.terms(lease, kind.store_us(sent_s))
        entry = self._journal.enter(terms, size)
        if entry is None:
            kind.is_taking = False
            self._refused(kind, LeaseResult.REFUSED, size)
            return
        try:
            verdict = await self._store.acquire(kind.asking(size, lease))
        except DependencyError:
            self._refused(kind, LeaseResult.UNHEARD, size)
            self._wait(_Ending(entry, terms, 0, size, size, self._now_s()))
            return
        finally:
            kind.is_taking = False
        if not verdict.is_admitted or verdict.is_repeat:
            entry.clear()
            self._refused(kind, LeaseResult.REFUSED, size)
            return
        self._observe(LeaseResult.GRANTED, size)
        entry, terms = self._confirmed(entry, terms, kind.terms(lease, verdict.at_us), size)
        slab = Slab(kind, terms, entry, size, sent_s=sent_s, granted_us=verdict.at_us)
        if self._is_closed or self._kinds.get(id(kind.acquisition.charges)) is not kind:
            self._end(slab)
            return
        kind.keep(slab, verdict, self._now_s())
        self._holding[id(kind.acquisition.charges)] = kind

    def _confirmed(self, entry: Entry, asked: Amendment, granted: Amendment, size: int) -> tuple[Entry, Amendment]:
        """Enter a slab on the terms it was granted on, where others were expected when it was asked for."""
        if granted == asked:
            return entry, asked
        better = self._journal.enter(granted, size)
        if better is None:
            return entry, granted
        entry.clear()
        return better, granted

    def _refused(self, kind: Kind, result: LeaseResult, size: int) -> None:
        kind.waits_until_s = self._now_s() + kind.horizon_s
        self._observe(result, size)

    def _drop(self, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            for slab in (kind.slab, kind.ahead):
                if slab is not None:
                    self._end(slab)
            kind.slab = kind.ahead = None

    def _end(self, slab: Slab) -> None:
        self._observe(LeaseResult.SPENT, slab.spent)
        self._observe(LeaseResult.RETURNED, slab.left)
        self._wait(_Ending(slab.entry, slab.terms, slab.spent, slab.left, slab.spent, self._now_s()))
        self._begin(self._settle(slab.terms.id))

    def _adopt(self, now_s: float) -> None:
        """Take over what workers left behind that are no more."""
        for entry, terms, spent, unspent in self._journal.orphans():
            self._wait(_Ending(entry, terms, spent, unspent, spent, now_s, is_orphan=True))

    def _wait(self, ending: _Ending) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self._lose(next(iter(self._waiting)))
        self._waiting[ending.terms.id] = ending

    async def _settle_all(self, leases: Iterable[str]) -> None:
        await asyncio.gather(*(self._settle(lease) for lease in leases))

    async def _settle(self, lease: str) -> None:
        ending = self._waiting.get(lease)
        if ending is None:
            return
        try:
            outcome = await self._store.amend(ending.amendment(self._now_s()))
        except DependencyError:
            return
        if self._waiting.get(lease) is not ending:  # somebody else was told so meanwhile
            return
        if outcome is AmendOutcome.UNKNOWN and ending.spent:
            self._lose(lease)
            return
        if ending.is_orphan and outcome is AmendOutcome.DONE:
            self._observe(LeaseResult.SPENT, ending.spent)
            self._observe(LeaseResult.RETURNED, ending.unspent)
        del self._waiting[lease]
        ending.entry.clear()

    def _lose(self, lease: str) -> None:
        ending = self._waiting.pop(lease)
        ending.entry.clear()
        self._observe(LeaseResult.LOST, ending.requests)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Recent:
    """The ids of requests seen lately, in two generations, and what was done with each."""

    __slots__ = ("_ids", "_older", "_since_s")

    def __init__(self, now_s: float) -> None:
        """Remember none."""
        self._ids: dict[str, object] = {}
        self._older: dict[str, object] = {}
        self._since_s = now_s

    def of(self, request_id: str) -> object:
        """Return what was done with a request, None for one that is new."""
        return self._ids.get(request_id) or self._older.get(request_id)

    def remember(self, request_id: str | None, done: object, now_s: float) -> None:
        """Remember it, for some seconds or as many requests."""
        if request_id is None:
            return
        if len(self._ids) >= _IDS or now_s - self._since_s > _ID_AGE_S:
            self._ids, self._older, self._since_s = {}, self._ids, now_s
        self._ids[request_id] = done
