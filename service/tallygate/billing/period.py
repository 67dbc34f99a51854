"""Billing periods: which one an instant lies in, and how many of its days somebody was on a plan.

Owns where a period begins and ends, and whole days. A period is the calendar's (the price's `every`, from the
subscription's anchor, in its time zone), cut where a plan begins that is billed otherwise: by another length of
period, or in another currency. Days run from the anchor's time of day; one counts for what begins in it, so the
day of a change is the new plan's, and the day of an end is nobody's. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from tallygate.billing.life import FOR_EVER, Stretch
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.plans.document import Plan

_LEAST = timedelta(microseconds=1)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class WhichPeriod(StrEnum):
    """The billing period that contains an instant, or the one before."""

    CURRENT = "current"
    PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Billed:
    """How a plan is billed: the length of its periods, and the currency (None: it has no price)."""

    every: PeriodUnit
    currency: str | None


_UNPRICED = Billed(PeriodUnit.MONTH, None)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A subscription's billing: its times on plans, its anchor and its time zone."""

    life: tuple[Stretch, ...]
    anchor_at: datetime
    timezone: str


@dataclass(frozen=True, slots=True)
class BillingPeriod:
    """A billing period from `from_at` until `to_at`, half-open; `days` has the whole calendar period it is of."""

    billed: Billed
    from_at: datetime
    to_at: datetime
    days: int
    day: Calendar

    def within(self, stretches: Sequence[Stretch]) -> tuple[Stretch, ...]:
        """Return the parts of stretches that lie in the period."""
        parts = (
            Stretch(each.plan, each.is_trial, max(each.from_at, self.from_at), min(each.to_at, self.to_at))
            for each in stretches
        )
        return tuple(part for part in parts if part.from_at < part.to_at)

    def has(self, at: datetime) -> bool:
        """Say whether an instant is in the period."""
        return self.from_at <= at < self.to_at

    def days_of(self, stretch: Stretch) -> int:
        """Return the days of a part of the period."""
        return self.day.number_at(stretch.to_at) - self.day.number_at(stretch.from_at)


def billed(plan: Plan) -> Billed:
    """Return how a plan is billed; one without a price by the month, as its billing periods are."""
    return _UNPRICED if plan.price is None else Billed(plan.price.every, plan.price.money.currency)


def period_of(schedule: Schedule, plans: Mapping[str, Plan], at: datetime, which: WhichPeriod) -> BillingPeriod:
    """Return the billing period that contains `at`, or the one before it."""
    current = _period_at(schedule, plans, at)
    return current if which is WhichPeriod.CURRENT else _period_at(schedule, plans, current.from_at - _LEAST)


def _period_at(schedule: Schedule, plans: Mapping[str, Plan], at: datetime) -> BillingPeriod:
    way, from_at, to_at = _way_at(schedule.life, plans, at)
    whole = Calendar(way.every, schedule.anchor_at, schedule.timezone).period_at(at)
    day = Calendar(PeriodUnit.DAY, schedule.anchor_at, schedule.timezone)
    days = day.number_at(whole.end_at) - day.number_at(whole.start_at)
    return BillingPeriod(way, max(whole.start_at, from_at), min(whole.end_at, to_at), days, day)


def _way_at(life: Sequence[Stretch], plans: Mapping[str, Plan], at: datetime) -> tuple[Billed, datetime, datetime]:
    """Return how the plan in force at `at` is billed, and since when and until when that is so.

    A life that ended before it began is billed as one without a price: by the month.
    """
    way, since_at = billed(plans[life[0].plan]) if life else _UNPRICED, _BEGINNING
    for stretch in life[1:]:
        next_way = billed(plans[stretch.plan])
        if next_way == way:
            continue
        if stretch.from_at > at:
            return way, since_at, stretch.from_at
        way, since_at = next_way, stretch.from_at
    return way, since_at, FOR_EVER
