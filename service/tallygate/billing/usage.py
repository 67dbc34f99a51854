"""What the ledger says of one subscription in one billing period, and what of it is billed.

Values, and which minutes are a period's: the ledger knows no part of one. Where periods meet within a minute its units
are told apart by how their plan is billed (`BillingPeriod.has`). Pure; who reads the ledger is `postgres`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlencode

from tallygate.billing.life import Stretch
from tallygate.billing.period import BillingPeriod
from tallygate.plans.document import Plan

_MINUTE = timedelta(minutes=1)


class Outcome(StrEnum):
    """Whether units were within the limits' amounts or beyond them."""

    ALLOWED = "allowed"
    OVERAGE = "overage"


@dataclass(frozen=True, slots=True)
class Window:
    """The minutes that are billed, half-open; those before `trial_to` are of the trial (None: there is none here).

    `shared` are those of them that the period before or after has a part of.
    """

    from_at: datetime
    to_at: datetime
    trial_to: datetime | None = None
    shared: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """The units of some rows of the ledger, refunds and corrections included, and how many rows these are.

    Those of a minute that periods share tell which it is.
    """

    plan: str
    meter: str
    outcome: Outcome
    is_trial: bool
    rows: int
    quantity: int
    shared_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LedgerState:
    """How far the ledger goes: all before `moved_to` is in it (None: nothing yet); its newest row is `last_id`."""

    moved_to: datetime | None
    last_id: int


@dataclass(frozen=True, slots=True)
class UsageTrace:
    """Where units of a line come from: rows of the ledger, and the question to `/v1/usage` that adds them up."""

    subscription: str
    plan: str
    meter: str
    outcome: Outcome
    from_at: datetime
    to_at: datetime
    rows: int
    quantity: int
    query: str


@dataclass(frozen=True, slots=True)
class BilledUsage:
    """The usage of a subscription in a window, as far as the ledger goes."""

    subscription: str
    window: Window
    ledger: LedgerState
    totals: tuple[UsageTotal, ...]

    @property
    def plans(self) -> tuple[str, ...]:
        """Return the plan versions that units were counted on, each once."""
        return tuple(dict.fromkeys(total.plan for total in self.totals))

    def traces(
        self, plan: str, meters: Collection[str], outcomes: Collection[Outcome], *, has_trial: bool
    ) -> tuple[UsageTrace, ...]:
        """Return what was used of these meters on a plan version, by meter and outcome, with its trial or without."""
        from_at = self.window.from_at if has_trial else self.window.trial_to or self.window.from_at
        found: dict[tuple[str, Outcome], UsageTrace] = {}
        for total in self.totals:
            if total.plan != plan or total.meter not in meters or total.outcome not in outcomes:
                continue
            if total.is_trial and not has_trial:
                continue
            key = (total.meter, total.outcome)
            before = found.get(key) or self._nothing(plan, *key, from_at)
            found[key] = replace(before, rows=before.rows + total.rows, quantity=before.quantity + total.quantity)
        return tuple(found.values())

    def _nothing(self, plan: str, meter: str, outcome: Outcome, from_at: datetime) -> UsageTrace:
        to_at = self.window.to_at
        query = _query(
            from_at, to_at, subscription=self.subscription, plan=plan, meter=meter, outcome=outcome.value
        )  # fmt: skip
        return UsageTrace(self.subscription, plan, meter, outcome, from_at, to_at, 0, 0, query)


def window_of(period: BillingPeriod, life: Sequence[Stretch]) -> Window:
    """Return the minutes of a period, and where in it the trial ends; a life begins with its trial or has none."""
    trial_to = next((each.to_at for each in period.within(life) if each.is_trial), None)
    ends = period.from_at, period.to_at
    from_at, last_at = map(_minute, ends)
    to_at = last_at if last_at == period.to_at else last_at + _MINUTE
    if trial_to is not None:  # a minute is of what begins in it, if that is this period's at all
        trial_to = to_at if trial_to == period.to_at else _minute(trial_to)
    shared = tuple(dict.fromkeys(_minute(at) for at in ends if at != _minute(at)))
    return Window(from_at, to_at, trial_to, shared)


def own_of(
    totals: Iterable[UsageTotal], period: BillingPeriod, life: Sequence[Stretch], plans: Mapping[str, Plan]
) -> tuple[UsageTotal, ...]:
    """Return the totals that are the period's, of its minutes and those it shares; `plans` holds their versions."""
    return tuple(
        total
        for total in totals
        if total.shared_at is None or period.has(total.shared_at, plans[total.plan], life, plans)
    )


def units_of(traces: Iterable[UsageTrace], meter: str) -> int:
    """Return the units of a meter."""
    return sum(trace.quantity for trace in traces if trace.meter == meter)


def _query(from_at: datetime, to_at: datetime, **named: str) -> str:
    bounds = {"from": _text(from_at), "to": _text(to_at), "by": _coarsest(from_at, to_at)}
    return "/v1/usage?" + urlencode(named | bounds)


def _coarsest(*bounds: datetime) -> str:
    """Return the coarsest unit that all bounds are whole in: a question by it cuts none of its rows."""
    if any(at.minute for at in bounds):
        return "minute"
    return "hour" if any(at.hour for at in bounds) else "day"


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
