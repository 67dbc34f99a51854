"""The limiter in this process's memory: for `fail: local`, for simulations and for tests.

Owns counters that nobody else sees; they are gone with the process. Does not share anything between
processes: a limit holds for each of them. Every call is one step of the event loop, so it is atomic there;
not for use from several threads. Bounded: records of ended periods and drained buckets are forgotten, and
beyond `max_records` of a kind the one written longest ago is, which gives its subject a fresh start.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from tallygate.core.clock import Clock
from tallygate.limits.algorithms import instant, microseconds
from tallygate.limits.amending import SETTLED, amend, settled_until_ms
from tallygate.limits.amendment import Amendment, AmendOutcome
from tallygate.limits.judgement import Judgement, judge, needed_id, reported
from tallygate.limits.keys import (
    EXPIRY_FIELD,
    NEVER,
    Place,
    due_member,
    first_use_key,
    holder,
    holding_key,
    idempotency_key,
    receipt_key,
    report_key,
)
from tallygate.limits.limiter import REPORT_TTL_S, Acquisition, Subject, Verdict
from tallygate.limits.receipt import Receipt
from tallygate.limits.receipt_form import GIVEN_BACK_WITHIN_S

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
        self._receipts: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._held: OrderedDict[str, tuple[int, tuple[str, ...]]] = OrderedDict()
        self._first_used_us: OrderedDict[str, int] = OrderedDict()
        self.usage: dict[int, dict[str, int]] = {}
        """Units by minute since 1970 and by `keys.usage_field`."""
        self.due: OrderedDict[str, int] = OrderedDict()
        """When the receipts that are to be given back are over, ms since 1970, by `keys.due_member`."""

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge or none."""
        now_us = self._now_us()
        judgement = self._judge(acquisition, now_us)
        if judgement.verdict.is_admitted and not judgement.verdict.is_repeat:
            self._write(judgement, now_us)
            self._remember(acquisition, judgement, now_us // 1000)
        return judgement.verdict

    async def report(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge whether it fits or not."""
        now_us = self._now_us()
        now_ms, key = now_us // 1000, report_key(acquisition.subject.customer, needed_id(acquisition.idempotency_key))
        earlier = self._known(key, now_ms)
        judgement = judge(reported(acquisition), self._reader(now_ms), now_us, earlier, is_report=True)
        if earlier is None:
            self._write(judgement, now_us)
            self._keep(self._remembered, key, judgement.remembered, now_ms + REPORT_TTL_S * 1000, now_ms)
        return judgement.verdict

    async def receipt(self, customer: str, receipt_id: str) -> Receipt | None:
        """Return the receipt that a request of this customer left; None when there is none, or it was settled."""
        text = self._found(self._receipts, receipt_key(customer, receipt_id), self._now_us() // 1000)
        return Receipt.parse(customer, receipt_id, text) if text else None

    async def amend(self, amendment: Amendment) -> AmendOutcome:
        """Change what was charged, and count the difference as usage, once."""
        now_us, customer = self._now_us(), amendment.customer
        now_ms, known = now_us // 1000, self._once(amendment, now_us // 1000)

        def read(place: Place) -> str | None:
            return self._read(place.key, now_ms).get(place.field)

        amended = amend(amendment, read, now_us, known)
        if amended.is_over:
            for place, text in amended.writes.items():
                self._records.setdefault(place.key, {})[place.field] = text
            self._bound(self._records)
            self._count(amended.usage, now_us // _MINUTE_US)
            until_ms = settled_until_ms(amendment, now_ms)
            if amendment.is_slab:
                self._keep(self._remembered, idempotency_key(customer, amendment.id), SETTLED, until_ms, now_ms)
            else:
                self._keep(self._receipts, receipt_key(customer, amendment.id), b"", until_ms, now_ms)
            if amendment.is_due:
                self.due.pop(due_member(customer, amendment.id), None)
        return amended.outcome

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

    def record(self, key: str) -> dict[str, str]:
        """Return a copy of a record's fields, as Redis would hold them; of a set of holds the members."""
        return dict(self._read(key, self._now_us() // 1000))

    def _judge(self, acquisition: Acquisition, now_us: int) -> Judgement:
        now_ms = now_us // 1000
        earlier = None
        if acquisition.idempotency_key is not None:
            key = idempotency_key(acquisition.subject.customer, acquisition.idempotency_key)
            earlier = self._known(key, now_ms)
        return judge(acquisition, self._reader(now_ms), now_us, earlier)

    def _reader(self, now_ms: int) -> Callable[[str], Mapping[str, str]]:
        return lambda key: self._read(key, now_ms)

    def _once(self, amendment: Amendment, now_ms: int) -> str | bytes | None:
        """Return what is kept under the id of an amendment."""
        if amendment.is_slab:
            return self._known(idempotency_key(amendment.customer, amendment.id), now_ms)
        return self._found(self._receipts, receipt_key(amendment.customer, amendment.id), now_ms)

    def _known(self, key: str, now_ms: int) -> str | None:
        """Return what is remembered of a request, None for nothing."""
        return self._found(self._remembered, key, now_ms)

    def _found(self, kept: Mapping[str, tuple[int, _Kept]], key: str, now_ms: int) -> _Kept | None:
        found = kept.get(key)
        return None if found is None or found[0] <= now_ms else found[1]

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
        until_ms = now_ms + acquisition.known_s * 1000
        self._keep(self._remembered, idempotency_key(*request), judgement.remembered, until_ms, now_ms)
        if judgement.held:
            self._keep(self._held, holding_key(*request), judgement.held, now_ms + judgement.held_s * 1000, now_ms)
        if judgement.receipt:
            over_ms = now_ms + acquisition.receipt_s * 1000
            until_ms = over_ms + (GIVEN_BACK_WITHIN_S * 1000 if acquisition.unsettled else 0)
            self._keep(self._receipts, receipt_key(*request), judgement.receipt, until_ms, now_ms)
            if acquisition.unsettled:
                self.due[due_member(*request)] = over_ms
                self._bound(self.due)

    def _keep(
        self, kept: OrderedDict[str, tuple[int, _Kept]], key: str, what: _Kept, until_ms: int, now_ms: int
    ) -> None:
        kept[key] = (until_ms, what)
        kept.move_to_end(key)
        self._bound(kept)
        while next(iter(kept.values()))[0] <= now_ms:
            kept.popitem(last=False)

    def _bound(self, kept: OrderedDict[str, _Kept]) -> None:
        while len(kept) > self._max_records:
            kept.popitem(last=False)

    def _now_us(self) -> int:
        return microseconds(self._clock.now())
