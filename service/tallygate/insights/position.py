"""Where a subscription stands at an instant, before its usage is read: status, fixed price, what is included, its bill.

Owns which units are asked of the ledger for it. Does not own how the ledger is read (`postgres`), what many come to
together (`revenue`), nor any rule of plans or bills (`plans`, `billing`). Pure; the clock's instant is passed in.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise

from tallygate.billing.home import cuts_of, home_of, minute_of
from tallygate.billing.invoice import Payer
from tallygate.billing.life import Stretch, life
from tallygate.billing.period import BillingPeriod, Schedule, WhichPeriod, period_of
from tallygate.core.periods import PeriodUnit
from tallygate.licenses.license import CustomerStatus, Phase, Standing, Terms
from tallygate.limits.limit import CountedPer, Limit, LimitKind
from tallygate.plans.contract import Contract
from tallygate.plans.document import Plan, Price
from tallygate.tokens.format import Environment

_OVER = (Standing.CANCELED, Standing.EXPIRED)
_LIVE = (Standing.TRIALING, Standing.ACTIVE, Standing.GRACE)
_PAYS = (CustomerStatus.ACTIVE, CustomerStatus.PAST_DUE)
_BY_LENGTH = tuple(PeriodUnit)
_ANY_OTHER = ""
"""No version's name: it stands for those that the subscription never was on."""


@dataclass(frozen=True, slots=True)
class Contracted:
    """A subscription as it is stored; `terms` are None once it has ended. `contract` has no terms of its own in it."""

    id: str
    customer_status: CustomerStatus
    contract: Contract
    first_used_at: datetime | None
    terms: Terms | None


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes, half-open, of what a subscription used; of all that its customer did where `subscription` is None."""

    customer: str
    subscription: str | None
    from_at: datetime
    to_at: datetime


@dataclass(frozen=True, slots=True)
class Quota:
    """The units of a meter that a plan includes in a period that runs."""

    meter: str
    units: int
    span: Span


@dataclass(frozen=True, slots=True)
class OpenBill:
    """The billing period that runs, to be priced with what was used in its spans."""

    payer: Payer
    currency: str
    period: BillingPeriod
    life: tuple[Stretch, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """A subscription at an instant.

    `status` is None when it is over. `is_live`: its requests are served. `price` is the fixed one that is due, None in
    a trial and without one. `quotas` are those of a live one, `bill` is None where no use can be billed.
    """

    plan: str
    status: Standing | None = None
    is_live: bool = False
    price: Price | None = None
    quotas: tuple[Quota, ...] = ()
    bill: OpenBill | None = None

    @property
    def spans(self) -> Iterator[Span]:
        """Return what is to be read of the ledger; the same may be there twice."""
        yield from (quota.span for quota in self.quotas)
        yield from () if self.bill is None else self.bill.spans


def position_of(stored: Contracted, plans: Mapping[str, Plan], at: datetime) -> Position:
    """Return where a subscription stands at `at`; `plans` holds every version its contract names."""
    stretches = life(stored.contract, plans, stored.first_used_at)
    bill = _bill(stored, stretches, plans, at) if stretches else None
    phase = None if stored.terms is None else stored.terms.phase_at(at, stored.first_used_at)
    if phase is None or phase.standing in _OVER:
        return Position(plans[stored.contract.plan].key, bill=bill)
    is_live = phase.standing in _LIVE and stored.customer_status in _PAYS
    present = next((each for each in stretches if each.from_at <= at < each.to_at), None)
    is_due = is_live and present is not None and not present.is_trial
    return Position(
        plan=phase.grant.plan_key,
        status=phase.standing,
        is_live=is_live,
        price=plans[present.plan].price if present is not None and is_due else None,
        quotas=tuple(_quotas(stored, phase, at)) if is_live else (),
        bill=bill,
    )


def _quotas(stored: Contracted, phase: Phase, at: datetime) -> Iterator[Quota]:
    """Return a quota for each meter that has one: of several the one of the longest period, which is what is sold.

    One for each token is not among them: how much it comes to depends on how many tokens there are.
    """
    found: dict[str, tuple[int, Limit]] = {}
    for limit in phase.grant.limits:
        if (
            limit.kind is LimitKind.QUOTA
            and limit.calendar
            and not limit.is_shadow
            and limit.per is not CountedPer.TOKEN
        ):
            length = _BY_LENGTH.index(limit.calendar.unit)
            if limit.meter not in found or length > found[limit.meter][0]:
                found[limit.meter] = length, limit
    for meter, (_, limit) in found.items():
        yield Quota(meter, limit.amount, _counted(stored, limit, phase, at))


def _counted(stored: Contracted, limit: Limit, phase: Phase, at: datetime) -> Span:
    """Return the minutes that count for a quota: its period, from where its counter began afresh if it did."""
    assert limit.calendar is not None  # noqa: S101 - asked before
    period = limit.calendar.period_at(at)
    is_shared = limit.per is CountedPer.CUSTOMER
    afresh = (each.at for each in stored.contract.changes if each.id == phase.counters and not is_shared)
    from_at = minute_of(max((*afresh, period.start_at)))
    return Span(stored.contract.customer, None if is_shared else stored.id, from_at, minute_of(period.end_at))


def _bill(
    stored: Contracted, stretches: tuple[Stretch, ...], plans: Mapping[str, Plan], at: datetime
) -> OpenBill | None:
    """Return the bill of the running period, None where nothing that is used has a price, or it has no part in it."""
    contract = stored.contract
    if not any(plans[ref].charges or plans[ref].overage for ref in contract.plans):
        return None
    period = period_of(Schedule(stretches, contract.anchor_at, contract.timezone), plans, at, WhichPeriod.CURRENT)
    if period.billed.currency is None or not period.within(stretches):
        return None
    payer = Payer(contract.customer, stored.id, Environment.LIVE.value)
    spans = (Span(payer.customer, payer.subscription, *minutes) for minutes in _minutes(period, stretches))
    return OpenBill(payer, period.billed.currency, period, stretches, tuple(spans))


def _minutes(period: BillingPeriod, stretches: tuple[Stretch, ...]) -> Iterator[tuple[datetime, datetime]]:
    """Return the minutes that the period may have units of; those that are alike, whatever the plan, together."""
    plans = {each.plan for each in stretches} | {_ANY_OTHER}

    def alike(cut: tuple[datetime, datetime]) -> tuple[tuple[bool, bool], ...]:
        homes = (home_of(plan, cut[0], stretches) for plan in plans)
        return tuple((period.has(home.at), home.is_trial) for home in homes)

    for kind, cuts in groupby(pairwise(cuts_of(period, stretches)), alike):
        together = list(cuts)
        if any(is_here for is_here, _ in kind):
            yield together[0][0], together[-1][1]


def versions(stored: Iterable[Contracted]) -> set[str]:
    """Return the plan versions that these contracts name."""
    return {ref for each in stored for ref in each.contract.plans}
