"""What changes between the limits of two versions of a plan.

Owns how each word of a limit is weighed. Limits are the same by name, kind and meter: a limit that counts
otherwise than before is one removed and one added. A limit in shadow refuses nobody, so what changes of it
is neutral, except that it begins or ceases to decide.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tallygate.core.periods import PeriodUnit
from tallygate.limits.limit import CountedPer, FailPolicy, LimitKind, OnExceed
from tallygate.plans.change import Change, ChangeKind, Width, kind_of
from tallygate.plans.codec import canonical
from tallygate.plans.document import LimitMode, Plan, PlanLimit, QuotaPeriod

_MONTH = Fraction(146_097, 4_800)
_DAYS = {
    "minute": Fraction(1, 1_440),
    "hour": Fraction(1, 24),
    "day": Fraction(1),
    "week": Fraction(7),
    "month": _MONTH,  # of the Gregorian calendar, on the average
    "year": _MONTH * 12,
}
_PER = (CountedPer.CUSTOMER, CountedPer.SUBSCRIPTION, CountedPer.TOKEN)
_FAIL = (FailPolicy.CLOSED, FailPolicy.LOCAL, FailPolicy.OPEN)


@dataclass(frozen=True, slots=True)
class _Side:
    """A limit before or after: its value, its document, and how often its plan is billed."""

    limit: PlanLimit
    document: Mapping[str, Any]
    billed_every: PeriodUnit

    @property
    def identity(self) -> tuple[LimitKind, str]:
        """Return what makes it count the same as before."""
        return self.limit.kind, self.limit.meter

    def days(self, period: QuotaPeriod) -> Fraction:
        """Return the length of a period."""
        return _DAYS[self.billed_every if period is QuotaPeriod.BILLING else period.value]

    def shown(self, field: str) -> object:
        """Return what the document has for `field`; a billing period with its length, for that may change too."""
        if field == "exactness":
            return self.limit.exactness.value
        is_billing = field == "period" and self.limit.period is QuotaPeriod.BILLING
        return f"billing ({self.billed_every.value})" if is_billing else self.document.get(field)


def _amount(side: _Side) -> Width:
    return side.limit.amount


def _rate(side: _Side) -> Width:
    return Fraction(side.limit.amount, side.limit.window_us)


def _period(side: _Side) -> Width:
    return -side.days(side.limit.period) if side.limit.period else 0


def _refill(side: _Side) -> Width:
    refill = side.limit.refill
    return refill.amount / side.days(refill.every) if refill else 0


def _allow_until(side: _Side) -> Width:
    end = side.limit.allow_until
    return float("inf") if end is None else end.ceiling(side.limit.amount)


_WEIGHED: Mapping[str, tuple[Callable[[_Side], Width], str]] = {
    "rate": (_rate, "lets {after} through instead of {before}"),
    "burst": (lambda side: side.limit.burst, "lets {after} through at once instead of {before}"),
    "quota": (_amount, "grants {after} a period instead of {before}"),
    "credits": (_amount, "grants {after} credits instead of {before}"),
    "concurrency": (_amount, "allows {after} in flight instead of {before}"),
    "period": (_period, "starts anew after {after} instead of {before}"),
    "refill": (_refill, "grows by {after} instead of {before}"),
    "hold": (lambda side: -side.limit.hold_s, "counts a request for at most {after} instead of {before}"),
    "per": (lambda side: _PER.index(side.limit.per), "counts per {after} instead of per {before}"),
    "on_exceed": (
        lambda side: side.limit.on_exceed is OnExceed.OVERAGE,
        "answers what exceeds it with {after} instead of {before}",
    ),
    "allow_until": (_allow_until, "ends its overage at {after} instead of {before}"),
    "mode": (lambda side: side.limit.mode is LimitMode.SHADOW, "is in mode {after} instead of {before}"),
    "fail": (
        lambda side: _FAIL.index(side.limit.fail),
        "is {after} instead of {before} when the counter store does not answer",
    ),
    # Neither way: an amount is the same, and of a rate only some of the burst is kept back.
    "exactness": (lambda _: 0, "is {after} instead of {before}"),
}


def limit_changes(old: Plan, new: Plan, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[Change]:
    """Return how the limits differ; `before` and `after` are their documents."""
    olds, news = _sides(old, before), _sides(new, after)
    for name in dict.fromkeys([*olds, *news]):
        was, is_now = olds.get(name), news.get(name)
        if was and is_now and was.identity == is_now.identity:
            yield from _field_changes(name, was, is_now)
            continue
        if was:
            yield _whole(name, was, None)
        if is_now:
            yield _whole(name, None, is_now)
    kept, still = [name for name in olds if name in news], [name for name in news if name in olds]
    if kept != still:
        yield Change("limits", kept, still, ChangeKind.NEUTRAL, "the limits are written in another order")


def _sides(plan: Plan, documents: list[dict[str, Any]]) -> dict[str, _Side]:
    every = PeriodUnit.MONTH if plan.price is None else plan.price.every
    return {limit.name: _Side(limit, document, every) for limit, document in zip(plan.limits, documents, strict=True)}


def _whole(name: str, was: _Side | None, is_now: _Side | None) -> Change:
    """Return a limit's coming or going, which in shadow is felt by nobody."""
    side = was or is_now
    is_shadow = side is not None and side.limit.mode is LimitMode.SHADOW
    kind = ChangeKind.NEUTRAL if is_shadow else kind_of(was is None, is_now is None)
    sentence = f"the limit {name} is " + ("added" if was is None else "removed") + (", in shadow" if is_shadow else "")
    return Change(f"limits.{name}", was and was.document, is_now and is_now.document, kind, sentence)


def _field_changes(name: str, was: _Side, is_now: _Side) -> Iterator[Change]:
    has_shadow = LimitMode.SHADOW in (was.limit.mode, is_now.limit.mode)
    exceeds_anew = was.limit.on_exceed is not is_now.limit.on_exceed
    for field, (width, sentence) in _WEIGHED.items():
        before, after = was.shown(field), is_now.shown(field)
        if canonical(before) == canonical(after) or (field == "allow_until" and exceeds_anew):
            continue
        kind = ChangeKind.NEUTRAL if has_shadow and field != "mode" else kind_of(width(was), width(is_now))
        told = sentence.format(before=_told(before), after=_told(after))
        yield Change(f"limits.{name}.{field}", before, after, kind, f"the limit {name} {told}")


def _told(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{value['amount']} every {value['every']}"
    return "nothing" if value is None else str(value)
