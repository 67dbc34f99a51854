"""What the ledger says of one subscription near one billing period, and what of it is the period's.

Values, and the questions that find their rows again. Whose units they are says `home`; who reads the ledger is
`postgres`. Pure.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from urllib.parse import urlencode

from tallygate.billing.home import cuts_of, home_of, minute_of
from tallygate.billing.life import Stretch
from tallygate.billing.period import BillingPeriod


class Outcome(StrEnum):
    """Whether units were within the limits' amounts or beyond them."""

    ALLOWED = "allowed"
    OVERAGE = "overage"


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """The units of some rows of the ledger, refunds and corrections included, and how many rows these are.

    `from_at` is the cut (`home.cuts_of`) their minutes begin at; the newest was recorded in the minute `recorded_at`.
    """

    plan: str
    meter: str
    outcome: Outcome
    from_at: datetime
    recorded_at: datetime
    rows: int
    quantity: int


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
    """The usage of a subscription in a billing period, as far as the ledger goes.

    `totals` are of all minutes between its cuts, those of the periods before and after among them.
    """

    subscription: str
    period: BillingPeriod
    life: tuple[Stretch, ...]
    ledger: LedgerState
    totals: tuple[UsageTotal, ...]

    @property
    def own(self) -> tuple[UsageTotal, ...]:
        """Return the totals that are the period's."""
        return tuple(total for total in self.totals if self._is_own(total.plan, total.from_at))

    @property
    def plans(self) -> tuple[str, ...]:
        """Return the plan versions that the period's units were counted on, each once."""
        return tuple(dict.fromkeys(total.plan for total in self.own))

    @property
    def changed_at(self) -> datetime | None:
        """Return the minute in which the newest row was recorded; None where there is none."""
        return max((total.recorded_at for total in self.own), default=None)

    def traces(
        self,
        plan: str,
        meters: Collection[str] | None = None,
        outcomes: Collection[Outcome] = tuple(Outcome),
        trials: Collection[bool] = (True, False),
    ) -> tuple[UsageTrace, ...]:
        """Return what was used of these meters (None: of all) on a plan version, by meter and outcome.

        `trials` says whether what was used in the trial is told, and whether what was used outside of it is.
        """
        found: dict[tuple[str, Outcome], list[UsageTotal]] = {}
        for total in self.totals:
            wanted = total.plan == plan and (meters is None or total.meter in meters) and total.outcome in outcomes
            if wanted and self._is_own(plan, total.from_at, trials):
                found.setdefault((total.meter, total.outcome), []).append(total)
        return tuple(self._trace(totals, trials) for totals in found.values())

    def _trace(self, totals: list[UsageTotal], trials: Collection[bool]) -> UsageTrace:
        """Return the trace of totals of one plan version, meter and outcome."""
        one = totals[0]
        from_at, to_at = self._bounds(one.plan, trials, {total.from_at for total in totals})
        query = _query(
            from_at, to_at, subscription=self.subscription, plan=one.plan, meter=one.meter, outcome=one.outcome.value
        )
        rows, quantity = sum(total.rows for total in totals), sum(total.quantity for total in totals)
        return UsageTrace(self.subscription, one.plan, one.meter, one.outcome, from_at, to_at, rows, quantity, query)

    def _bounds(self, plan: str, trials: Collection[bool], used: Collection[datetime]) -> tuple[datetime, datetime]:
        """Return the period's minutes, as far as units on a plan version have their home in it, and those `used`."""
        ends = minute_of(self.period.from_at), self.period.to_at
        found = [
            (from_at, to_at)
            for from_at, to_at in pairwise(cuts_of(self.period, self.life))
            if from_at in used or (ends[0] <= from_at < ends[1] and self._is_own(plan, from_at, trials))
        ]
        return found[0][0], found[-1][1]

    def _is_own(self, plan: str, minute_at: datetime, trials: Collection[bool] = (True, False)) -> bool:
        home = home_of(plan, minute_at, self.life)
        return self.period.has(home.at) and home.is_trial in trials


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


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
