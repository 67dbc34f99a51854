"""What a plan file says, as values.

Owns the nouns of a catalogue, with every default filled in. Does not own the text they were read from
(`parse`) nor what they come to for one subscription (`compile`). Immutable, so shared freely.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from tallygate.core.money import Money
from tallygate.core.periods import PeriodUnit
from tallygate.licenses.license import Feature
from tallygate.licenses.routes import DEFAULT_METER, MeterPolicy, RouteRule
from tallygate.limits.limit import CountedPer, FailPolicy, LimitKind, OnExceed
from tallygate.plans.charge import Charge


class QuotaPeriod(StrEnum):
    """After what a quota starts anew: a calendar unit, or the period the subscription is billed for."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    BILLING = "billing"


class LimitMode(StrEnum):
    """Whether a limit decides, or only counts so that its effect can be seen first."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Exactness(StrEnum):
    """Whether each request is counted where all workers count, or a worker may take units ahead of need."""

    EXACT = "exact"
    LEASED = "leased"


class TrialBasis(StrEnum):
    """What the days of a trial are counted from."""

    CREATION = "creation"
    FIRST_USE = "first_use"


class TrialEnd(StrEnum):
    """What becomes of the subscription when its trial is over."""

    CONVERT = "convert"
    DOWNGRADE = "downgrade"
    SUSPEND = "suspend"
    CANCEL = "cancel"


class GraceLimits(StrEnum):
    """What applies to a customer who is past due, until the grace is over."""

    FULL = "full"
    REDUCED = "reduced"


@dataclass(frozen=True, slots=True)
class AllowUntil:
    """The hard end of an overage: so many `times` the limit's amount, or so many `units`; one is set."""

    times: Decimal | None = None
    units: int | None = None

    def ceiling(self, amount: int) -> int:
        """Return the end in units for a limit of `amount`; a fraction of a unit is cut off."""
        if self.times is None:
            return self.units or 0
        numerator, denominator = self.times.as_integer_ratio()
        return amount * numerator // denominator


@dataclass(frozen=True, slots=True)
class Refill:
    """Credits grow by `amount` units at the start of each period after the first."""

    amount: int
    every: QuotaPeriod


@dataclass(frozen=True, slots=True)
class PlanLimit:
    """One limit of a plan; `limits.limit.Limit` tells what the shared fields mean.

    `window_us` and `burst` are set for a rate, `period` for a quota, `hold_s` for concurrency; `refill` may
    be for credits.
    """

    name: str
    kind: LimitKind
    amount: int
    window_us: int = 0
    burst: int = 0
    period: QuotaPeriod | None = None
    meter: str = DEFAULT_METER
    per: CountedPer = CountedPer.SUBSCRIPTION
    on_exceed: OnExceed = OnExceed.DENY
    allow_until: AllowUntil | None = None
    mode: LimitMode = LimitMode.ENFORCE
    fail: FailPolicy = FailPolicy.CLOSED
    hold_s: int = 0
    refill: Refill | None = None
    exactness: Exactness = Exactness.EXACT


@dataclass(frozen=True, slots=True)
class Rollout:
    """A feature that is true for `percent` of the customers, 0 to 100 in hundredths, and false for the rest."""

    percent: Decimal


PlanFeature = Feature | Rollout


@dataclass(frozen=True, slots=True)
class Trial:
    """A first phase of `days` days, and what comes after; `to` is the key of the plan to downgrade to.

    The price is not due in it; what is used in it is charged where `is_usage_billed`.
    """

    days: int
    basis: TrialBasis = TrialBasis.CREATION
    at_end: TrialEnd = TrialEnd.CONVERT
    to: str | None = None
    is_usage_billed: bool = False


@dataclass(frozen=True, slots=True)
class Grace:
    """How long a customer who is past due is served; `share_percent` speaks of reduced limits only."""

    days: int
    is_reduced: bool = False
    share_percent: int = 10

    def left_of(self, amount: int) -> int:
        """Return what grace leaves of a limit's `amount`: at least 1 unit, unless there was none."""
        if not self.is_reduced:
            return amount
        return max(amount * self.share_percent // 100, min(amount, 1))


@dataclass(frozen=True, slots=True)
class Price:
    """What the plan costs for each billing period; `every` is day, week, month or year.

    `is_prorated`: a plan that is in force for a part of the period costs that part of it, by days.
    """

    money: Money
    every: PeriodUnit = PeriodUnit.MONTH
    is_prorated: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan as it is offered.

    By meter, `charges` price every unit and `overage` those beyond the limits' amounts. `features` values are
    read-only.
    """

    key: str
    name: str
    price: Price | None = None
    scopes: frozenset[str] = frozenset()
    features: Mapping[str, PlanFeature] = field(default_factory=dict)
    limits: tuple[PlanLimit, ...] = ()
    upgrade_url: str | None = None
    overage: Mapping[str, Charge] = field(default_factory=dict)
    trial: Trial | None = None
    grace: Grace | None = None
    charges: Mapping[str, Charge] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A whole plan file: plans in the order of the file, and route rules, of which the first match decides.

    Rules have the costs that were written; `meters` maps each declared meter to its parent (None: it has
    none), and `meters.expand_routes` counts the units of a child in its ancestors and gives rules the `policies`
    of what they cost. Without `has_routes` the file says nothing of routes: those in force stay.
    """

    plans: tuple[Plan, ...] = ()
    routes: tuple[RouteRule, ...] = ()
    meters: Mapping[str, str | None] = field(default_factory=dict)
    has_routes: bool = True
    policies: Mapping[str, MeterPolicy] = field(default_factory=dict)
