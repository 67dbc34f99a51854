"""The reference, continued: judging all charges of a request together, and what is written then.

A refused request, and a repeated one, write nothing whatsoever. A report is refused by nothing: it has happened, and
takes from limits that would have refused it too. A shadow limit takes what fits it, reports SHADOW_EXCEEDED where it
would have refused *or* billed overage, and never decides. Usage counts for admitted requests, split exactly: what
an enforced limit counts beyond its amount is `overage`, the rest `allowed`.

A record is kept at least a day longer than its counters mean anything, so that a wrong clock forgets
nothing; its expiry moves in strides of a day, so that most requests need not touch it. Pure.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tallygate.limits.algorithms import Bucket, Counter, Tally, ceil_div
from tallygate.limits.credits import Credits, balance_at
from tallygate.limits.keys import (
    ALLOWED,
    COUNTED,
    DEGRADED,
    EXPIRY_FIELD,
    NEVER,
    OVERAGE,
    REPORT,
    Owner,
    Place,
    places,
    usage_field,
)
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import Acquisition, LimitOutcome, LimitState, Verdict
from tallygate.limits.receipt_form import receipt_head, receipt_text
from tallygate.limits.slots import Slots

OUTCOMES = (LimitOutcome.OK, LimitOutcome.EXCEEDED, LimitOutcome.OVERAGE, LimitOutcome.SHADOW_EXCEEDED)
"""Outcomes by their number, in the script's replies and under idempotency keys."""

_DAY_MS = 86_400_000
_SECOND_US = 1_000_000

Read = Callable[[str], Mapping[str, str]]
"""Returns the fields of a record, none where there is no record; a set of holds is a record of its members."""


@dataclass(slots=True)
class Judgement:
    """A verdict, and everything that is written with it.

    `writes` are texts by record key and field, expiry included, None for what is removed; `usage` units by
    field of the bucket; `remembered` belongs under the idempotency key: one digit for the outcome of each
    charge. The request holds slots in the sets `held`, for `held_s` at most, and leaves `receipt`, empty for none.
    """

    verdict: Verdict
    writes: dict[str, dict[str, str | None]] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)
    remembered: str = ""
    held: tuple[str, ...] = ()
    held_s: int = 0
    receipt: bytes = b""


class _Judged:
    """One charge, judged by itself: whether it fits, and how much of it is overage, before anything is taken."""

    def __init__(self, limit: Limit, cost: int, counter: Counter, where: tuple[Place, ...]) -> None:
        self.limit, self.cost, self.counter, self.where = limit, cost, counter, where
        self.fits, self.over = counter.fits(cost), counter.over(cost)
        self.is_taken = False

    @property
    def outcome(self) -> LimitOutcome:
        if self.limit.is_shadow:
            return LimitOutcome.OK if self.fits and not self.over else LimitOutcome.SHADOW_EXCEEDED
        if not self.fits:
            return LimitOutcome.EXCEEDED
        return LimitOutcome.OVERAGE if self.over else LimitOutcome.OK


def needed_id(request_id: str | None) -> str:
    """Return the idempotency key of what cannot be without; raise ValueError where there is none."""
    if request_id is None:
        raise ValueError("a report and a receipt need an idempotency key")
    return request_id


def reported(acquisition: Acquisition) -> Acquisition:
    """Return what a report of this usage consumes: nothing is in flight, and nobody amends it."""
    charges = tuple(charge for charge in acquisition.charges if charge.limit.kind is not LimitKind.CONCURRENCY)
    return acquisition._replace(charges=charges, receipt_s=0, unsettled=())


def entry_of(report: Acquisition) -> tuple[str, int | str]:
    """Return how the usage of a report is counted, and its minute where that is told."""
    return (REPORT, "") if report.degraded_minute is None else (DEGRADED, report.degraded_minute)


def judge(
    acquisition: Acquisition, read: Read, now_us: int, earlier: str | None = None, *, is_report: bool = False
) -> Judgement:
    """Judge every charge by itself, then take all or none; of a report all, come what may.

    `earlier` is what was remembered under the idempotency key, None for a new request. A repeated request is
    admitted, takes nothing, and hears its earlier outcomes; OK if its charges are others now.
    """
    if acquisition.receipt_s:
        needed_id(acquisition.idempotency_key)
    is_repeat = earlier is not None
    charges = [
        _Judged(charge.limit, 0 if is_repeat else charge.cost, counter(charge.limit, where, read, now_us), where)
        for charge, where in zip(acquisition.charges, places(acquisition), strict=True)
    ]
    outcomes = [charge.outcome for charge in charges]
    if earlier is not None:
        digits = earlier if len(earlier) == len(outcomes) else "0" * len(outcomes)
        outcomes = [OUTCOMES[int(digit)] for digit in digits]
    is_admitted = is_report or LimitOutcome.EXCEEDED not in outcomes
    is_taking = is_admitted and not is_repeat
    taken = _take(acquisition, charges, is_report=is_report) if is_taking else []
    usage = _usage(acquisition, charges) if is_taking else []
    holds = [charge for charge in taken if charge.limit.kind is LimitKind.CONCURRENCY]
    return Judgement(
        verdict=Verdict(
            is_admitted,
            is_repeat,
            tuple(_state(charge, outcome, is_admitted) for charge, outcome in zip(charges, outcomes, strict=True)),
            now_us,
        ),
        writes=_writes(taken, read),
        usage=_fields(acquisition, usage, *(entry_of(acquisition) if is_report else (COUNTED, ""))),
        remembered="".join(str(OUTCOMES.index(outcome)) for outcome in outcomes),
        held=tuple(charge.where[0].key for charge in holds),
        held_s=max((charge.limit.hold_s for charge in holds), default=0),
        receipt=_receipt(acquisition, charges, usage, now_us) if is_taking and acquisition.receipt_s else b"",
    )


def _take(acquisition: Acquisition, charges: list[_Judged], *, is_report: bool) -> list[_Judged]:
    """Take from every limit that has room, or must; return those that are written."""
    for charge in charges:
        charge.is_taken = charge.fits or (is_report and not charge.limit.is_shadow)
    # What a receipt may change later is written from now on, even if nothing is taken of it yet.
    may_be_nothing = acquisition.receipt_s > 0
    taken = [
        charge
        for charge in charges
        if charge.is_taken and (charge.cost or (may_be_nothing and charge.limit.kind is not LimitKind.CONCURRENCY))
    ]
    for charge in taken:
        charge.counter.take(charge.cost)
    return taken


def counter(limit: Limit, where: tuple[Place, ...], read: Read, now_us: int) -> Counter:
    """Return the counter of `limit` as of `now_us`."""
    own = where[0]

    def text(place: Place) -> str | None:
        return read(place.key).get(place.field)

    match limit.kind:
        case LimitKind.RATE:
            return Bucket(limit, own, text(own), now_us)
        case LimitKind.QUOTA:
            return Tally(limit, own, text(own), now_us)
        case LimitKind.CREDITS:
            return Credits(limit, where, text, now_us)
        case LimitKind.CONCURRENCY:
            return Slots(limit, own, read(own.key), now_us)


def limit_state(
    limit: Limit, outcome: LimitOutcome, remaining: int, retry_us: int | None, reset_us: int | None
) -> LimitState:
    """Return the state, times rounded up to seconds; only an exceeded limit has a time to retry."""
    return LimitState(
        limit=limit,
        outcome=outcome,
        remaining=remaining,
        retry_after_s=None if retry_us is None else ceil_div(retry_us, _SECOND_US),
        reset_s=None if reset_us is None else ceil_div(reset_us, _SECOND_US),
    )


def next_expiry(expiry: str | None, needed_us: Iterable[int | None]) -> str | None:
    """Return a record's new expiry in ms since 1970, or None where the one it has will do.

    `needed_us` is until when each written counter means anything, None for ever; so is the answer `NEVER`.
    """
    needs = list(needed_us)
    if expiry == NEVER:
        return None
    if None in needs:
        return NEVER
    needed = ceil_div(max(need for need in needs if need is not None), 1000)
    if expiry is not None and int(expiry) >= needed + _DAY_MS:
        return None
    return str(needed + 2 * _DAY_MS)


def _state(charge: _Judged, outcome: LimitOutcome, is_admitted: bool) -> LimitState:  # noqa: FBT001 - one of three
    now = charge.counter
    is_waiting = outcome is LimitOutcome.EXCEEDED and not is_admitted
    retry_us = now.retry_us(charge.cost) if is_waiting else None
    over = charge.over if is_admitted and outcome is LimitOutcome.OVERAGE else 0
    return limit_state(charge.limit, outcome, now.remaining, retry_us, now.reset_us)._replace(over=over)


def _writes(taken: list[_Judged], read: Read) -> dict[str, dict[str, str | None]]:
    writes: dict[str, dict[str, str | None]] = {}
    needed_us: dict[str, list[int | None]] = {}
    for charge in taken:
        for place, text in charge.counter.writes.items():
            writes.setdefault(place.key, {})[place.field] = text
            needed_us.setdefault(place.key, []).append(charge.counter.needed_until_us)
    for key, fields in writes.items():
        expiry = next_expiry(read(key).get(EXPIRY_FIELD), needed_us[key])
        if expiry is not None:
            fields[EXPIRY_FIELD] = expiry
    return writes


def _usage(acquisition: Acquisition, charges: list[_Judged]) -> list[tuple[str, int, int]]:
    """Return meters, their units, and how many of these are overage."""
    over: dict[str, int] = {}
    for charge in charges:
        if not charge.limit.is_shadow:
            over[charge.limit.meter] = max(over.get(charge.limit.meter, 0), charge.over)
    return [(meter, units, min(units, over.get(meter, 0))) for meter, units in acquisition.usage]


def _fields(acquisition: Acquisition, usage: list[tuple[str, int, int]], entry: str, at: int | str) -> dict[str, int]:
    subject = acquisition.subject
    owner = Owner(subject.subscription, acquisition.plan, subject.family)
    return {
        usage_field(owner, meter, outcome, acquisition.route, entry=entry, at=at): part
        for meter, units, over in usage
        for outcome, part in ((ALLOWED, units - over), (OVERAGE, over))
        if part
    }


def _receipt(acquisition: Acquisition, charges: list[_Judged], usage: list[tuple[str, int, int]], now_us: int) -> bytes:
    """Return the receipt, once everything is taken."""
    numbers = [now_us]
    for charge in charges:
        if charge.limit.kind is not LimitKind.CONCURRENCY:
            numbers += (int(charge.is_taken), charge.over, *_spent(charge, now_us))
    numbers += (over for _, _, over in usage)
    where = [charge.where for charge in charges]
    return receipt_text(receipt_head(acquisition, where, lambda limit: balance_at(limit, now_us)), numbers)


def _spent(charge: _Judged, now_us: int) -> Iterator[int]:
    """Return when a quota's period ends, and what credits took from the balance and from each bucket; 0 for others."""
    match charge.counter:
        case Credits() as credits_:
            own, *buckets = charge.where
            yield from (0, credits_.spent(own))
            yield from (credits_.spent(buckets[number]) for number in balance_at(charge.limit, now_us).buckets)
        case Tally() as tally:
            yield from (tally.end_us, 0)
        case _:
            yield from (0, 0)
