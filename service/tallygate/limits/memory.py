"""The limiter in this process's memory: for `fail: local`, for simulations and for tests.

Owns counters that nobody else sees; they are gone with the process. Does not share anything between
processes: a limit holds for each of them. Every call is one step of the event loop, so it is atomic there;
not for use from several threads. Bounded: records of ended periods and drained buckets are forgotten, and
beyond `max_records` of a kind the one written longest ago is, which gives its subject a fresh start.
"""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from tallygate.core.clock import Clock
from tallygate.limits.algorithms import instant, microseconds
from tallygate.limits.judgement import NEVER, Judgement, judge
from tallygate.limits.keys import EXPIRY_FIELD, Place, first_use_key, holder, holding_key, idempotency_key
from tallygate.limits.leases import SETTLED, Settlement, settle
from tallygate.limits.limiter import IDEMPOTENCY_TTL_S, Acquisition, Subject, Verdict

_MINUTE_US = 60_000_000
_Kept = TypeVar("_Kept")


class MemoryLimiter:
    """Counters in memory, with the same promises as in Redis."""

    def __init__(self, clock: Clock, *, max_records: int = 10_000, max_minutes: int = 60) -> None:
        """Keep at most `max_records` subjects, as many requests to recognise, and the usage of `max_minutes`."""
        self._clock = clock
        self._max_records = max_records
        self._max_minutes = max_minutes
        self._records: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._remembered: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._held: OrderedDict[str, tuple[int, tuple[str, ...]]] = OrderedDict()
        self._first_used_us: OrderedDict[str, int] = OrderedDict()
        self.usage: dict[int, dict[str, int]] = {}
        """Units by minute since 1970 and by `subscription|family|meter|route|outcome`."""

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge or none."""
        now_us = self._now_us()
        judgement = self._judge(acquisition, now_us)
        if judgement.verdict.is_admitted and not judgement.verdict.is_repeat:
            self._write(judgement, now_us)
            self._remember(acquisition, judgement, now_us // 1000)
        return judgement.verdict

    async def peek(self, acquisition: Acquisition) -> Verdict:
        """Say what `acquire` would answer now, and change nothing."""
        return self._judge(acquisition, self._now_us()).verdict

    async def release(self, subject: Subject, request_id: str) -> None:
        """End the request's holds on all its concurrency limits."""
        until_ms, held = self._held.pop(holding_key(subject.customer, request_id), (0, ()))
        if until_ms <= self._now_us() // 1000:
            return
        for key in held:
            fields = self._records.get(key, {})
            fields.pop(holder(request_id), None)
            if fields.keys() == {EXPIRY_FIELD}:
                del self._records[key]

    async def first_used_at(self, subject: Subject, *, is_look: bool = False) -> datetime | None:
        """Return when the subject's subscription was first used: now, unless it was before."""
        key = first_use_key(subject)
        if not is_look and key not in self._first_used_us:
            self._first_used_us[key] = self._now_us()
            self._bound(self._first_used_us)
        return instant(self._first_used_us[key]) if key in self._first_used_us else None

    async def settle(self, settlement: Settlement) -> bool:
        """Settle a slab, once; return False when it was before."""
        now_us = self._now_us()
        now_ms, key = now_us // 1000, idempotency_key(settlement.customer, settlement.lease)

        def read(place: Place) -> str | None:
            return self._read(place.key, now_ms).get(place.field)

        settled = settle(settlement, read, now_us, self._known(key, now_ms))
        if settled.is_new:
            for place, text in settled.writes.items():
                self._records[place.key][place.field] = text
            self._count(settled.usage, settlement.minute)
            self._keep(self._remembered, key, SETTLED, IDEMPOTENCY_TTL_S, now_ms)
        return settled.is_new

    def record(self, key: str) -> dict[str, str]:
        """Return a copy of a record's fields, as Redis would hold them; of a set of holds the members."""
        return dict(self._read(key, self._now_us() // 1000))

    def _judge(self, acquisition: Acquisition, now_us: int) -> Judgement:
        now_ms = now_us // 1000
        earlier = None
        if acquisition.idempotency_key is not None:
            key = idempotency_key(acquisition.subject.customer, acquisition.idempotency_key)
            earlier = self._known(key, now_ms)
        return judge(acquisition, lambda key: self._read(key, now_ms), now_us, earlier)

    def _known(self, key: str, now_ms: int) -> str | None:
        """Return what is remembered of a request, None for nothing."""
        until_ms, outcomes = self._remembered.get(key, (0, ""))
        return outcomes if until_ms > now_ms else None

    def _read(self, key: str, now_ms: int) -> Mapping[str, str]:
        """Return a record, and forget it if its time is over."""
        expiry = self._records.get(key, {}).get(EXPIRY_FIELD, NEVER)
        if expiry != NEVER and int(expiry) <= now_ms:
            del self._records[key]
        return self._records.get(key, {})

    def _write(self, judgement: Judgement, now_us: int) -> None:
        for key, texts in judgement.writes.items():
            fields = self._records.setdefault(key, {})
            fields.update({field: text for field, text in texts.items() if text is not None})
            for field in (field for field, text in texts.items() if text is None):
                fields.pop(field, None)
            self._records.move_to_end(key)
        self._bound(self._records)
        self._count(judgement.usage, now_us // _MINUTE_US)

    def _count(self, usage: Mapping[str, int], at_minute: int) -> None:
        minute = self.usage.setdefault(at_minute, {}) if usage else {}
        for field, units in usage.items():
            minute[field] = minute.get(field, 0) + units
        while len(self.usage) > self._max_minutes:
            del self.usage[min(self.usage)]

    def _remember(self, acquisition: Acquisition, judgement: Judgement, now_ms: int) -> None:
        if acquisition.idempotency_key is None:
            return
        request = acquisition.subject.customer, acquisition.idempotency_key
        self._keep(self._remembered, idempotency_key(*request), judgement.remembered, IDEMPOTENCY_TTL_S, now_ms)
        if judgement.held:
            self._keep(self._held, holding_key(*request), judgement.held, judgement.held_s, now_ms)

    def _keep(
        self, kept: OrderedDict[str, tuple[int, _Kept]], key: str, what: _Kept, lasts_s: int, now_ms: int
    ) -> None:
        kept[key] = (now_ms + lasts_s * 1000, what)
        kept.move_to_end(key)
        self._bound(kept)
        while next(iter(kept.values()))[0] <= now_ms:
            kept.popitem(last=False)

    def _bound(self, kept: OrderedDict[str, _Kept]) -> None:
        while len(kept) > self._max_records:
            kept.popitem(last=False)

    def _now_us(self) -> int:
        return microseconds(self._clock.now())
