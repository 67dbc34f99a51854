"""The reference, continued: judging all charges of a request together, and what is written then.

A refused request, and a repeated one, write nothing whatsoever. A shadow limit takes what fits it, reports
SHADOW_EXCEEDED where it would have refused *or* billed overage, and never decides. Usage counts for admitted
requests, split exactly: what an enforced limit counts beyond its amount is `overage`, the rest `allowed`.

A record is kept at least a day longer than its counters mean anything, so that a wrong clock forgets
nothing; its expiry moves in strides of a day, so that most requests need not touch it. Pure.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tallygate.limits.algorithms import Bucket, Counter, Tally, ceil_div
from tallygate.limits.credits import Credits
from tallygate.limits.keys import ALLOWED, EXPIRY_FIELD, OVERAGE, Place, places, usage_field
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import Acquisition, LimitOutcome, LimitState, Verdict
from tallygate.limits.slots import Slots

OUTCOMES = (LimitOutcome.OK, LimitOutcome.EXCEEDED, LimitOutcome.OVERAGE, LimitOutcome.SHADOW_EXCEEDED)
"""Outcomes by their number, in the script's replies and under idempotency keys."""

NEVER = "0"
_DAY_MS = 86_400_000
_SECOND_US = 1_000_000

Read = Callable[[str], Mapping[str, str]]
"""Returns the fields of a record, none where there is no record; a set of holds is a record of its members."""


@dataclass(slots=True)
class Judgement:
    """A verdict, and everything that is written with it.

    `writes` are texts by record key and field, expiry included, None for what is removed; `usage` units by
    field of the bucket; `remembered` belongs under the idempotency key: one digit for the outcome of each
    charge. The request holds slots in the sets `held`, for `held_s` at most.
    """

    verdict: Verdict
    writes: dict[str, dict[str, str | None]] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)
    remembered: str = ""
    held: tuple[str, ...] = ()
    held_s: int = 0


@dataclass(slots=True)
class _Judged:
    """One charge, judged by itself."""

    limit: Limit
    cost: int
    counter: Counter
    key: str

    @property
    def fits(self) -> bool:
        return self.counter.fits(self.cost)

    @property
    def over(self) -> int:
        return self.counter.over(self.cost)

    @property
    def outcome(self) -> LimitOutcome:
        if self.limit.is_shadow:
            return LimitOutcome.OK if self.fits and not self.over else LimitOutcome.SHADOW_EXCEEDED
        if not self.fits:
            return LimitOutcome.EXCEEDED
        return LimitOutcome.OVERAGE if self.over else LimitOutcome.OK


def judge(acquisition: Acquisition, read: Read, now_us: int, earlier: str | None = None) -> Judgement:
    """Judge every charge by itself, then take all or none.

    `earlier` is what was remembered under the idempotency key, None for a new request. A repeated request is
    admitted, takes nothing, and hears its earlier outcomes; OK if its charges are others now.
    """
    is_repeat = earlier is not None
    charges = [
        _Judged(charge.limit, 0 if is_repeat else charge.cost, counter(charge.limit, where, read, now_us), where[0].key)
        for charge, where in zip(acquisition.charges, places(acquisition), strict=True)
    ]
    outcomes = [charge.outcome for charge in charges]
    if earlier is not None:
        digits = earlier if len(earlier) == len(outcomes) else "0" * len(outcomes)
        outcomes = [OUTCOMES[int(digit)] for digit in digits]
    is_admitted = LimitOutcome.EXCEEDED not in outcomes
    usage = _usage(acquisition, charges) if is_admitted and not is_repeat else {}
    taken = [charge for charge in charges if is_admitted and charge.cost and charge.fits]
    for charge in taken:
        charge.counter.take(charge.cost)
    states = tuple(_state(charge, outcome) for charge, outcome in zip(charges, outcomes, strict=True))
    holds = [charge for charge in taken if charge.limit.kind is LimitKind.CONCURRENCY]
    return Judgement(
        verdict=Verdict(is_admitted, is_repeat, states, now_us),
        writes=_writes(taken, read),
        usage=usage,
        remembered="".join(str(OUTCOMES.index(outcome)) for outcome in outcomes),
        held=tuple(charge.key for charge in holds),
        held_s=max((charge.limit.hold_s for charge in holds), default=0),
    )


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


def _state(charge: _Judged, outcome: LimitOutcome) -> LimitState:
    now = charge.counter
    retry_us = now.retry_us(charge.cost) if outcome is LimitOutcome.EXCEEDED else None
    return limit_state(charge.limit, outcome, now.remaining, retry_us, now.reset_us)


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


def _usage(acquisition: Acquisition, charges: list[_Judged]) -> dict[str, int]:
    over: dict[str, int] = {}
    for charge in charges:
        if not charge.limit.is_shadow:
            over[charge.limit.meter] = max(over.get(charge.limit.meter, 0), charge.over)
    usage: dict[str, int] = {}
    for meter, units in acquisition.usage:
        name = usage_field(acquisition.subject, meter, acquisition.route)
        beyond = min(units, over.get(meter, 0))
        for outcome, part in ((ALLOWED, units - beyond), (OVERAGE, beyond)):
            if part:
                usage[f"{name}|{outcome}"] = part
    return usage
