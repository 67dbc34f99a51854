"""Counting decisions by customer, where that is switched on: the busiest by their ids, all others together."""

from collections.abc import Callable
from operator import itemgetter
from typing import TypeAlias

from tallygate.decision.decision import Allow, Decision, Reason
from tallygate.envoy.count import ALLOWED, by_outcome
from tallygate.insights.customers import BusyCustomers
from tallygate.licenses.license import License
from tallygate.limits.limit import CountedPer, Limit, LimitKind
from tallygate.limits.limiter import LimitState
from tallygate.metrics import OTHER, CustomerMetrics

_SHOWN = (LimitKind.QUOTA, LimitKind.CREDITS)
"""A rate or concurrency is another one before anybody looks."""
_FOR_EVER = float("inf")
_MOST_SEEN = 10_000

_Seen: TypeAlias = tuple[float, str, str, License, tuple[LimitState, ...]]
"""When, under which name, on which plan, by whom, and where limits stood."""


class CustomerCounting:
    """Stands where `Counting` does, and has it count first.

    How far limits are used is kept as it came, the newest of each token and the limits it met, and worked out when
    somebody looks.
    """

    def __init__(
        self, count: Callable[[Decision, float], None], metrics: CustomerMetrics, customers: BusyCustomers
    ) -> None:
        """Count into `metrics` too, under the names that `customers` gives."""
        self._count = count
        self._customers = customers
        self._name = customers.name
        self._checks = metrics.checks.count
        self._add_units = metrics.units.add
        self._used = metrics.limit_used
        self._used.on_look = self._note_used
        self._now_s = self._used.monotonic_s
        self._seen: dict[tuple[str, ...], _Seen] = {}

    def __call__(self, decision: Decision, seconds: float) -> None:
        """Count one decision that took `seconds`; who has no license is no customer."""
        self._count(decision, seconds)
        license_, phase = decision.license, decision.phase
        if license_ is None or phase is None:
            return
        name, plan = self._name(license_.customer), phase.grant.plan_key
        if isinstance(decision, Allow):
            self._checks(name, plan, "allow", decision.reason)
            if not decision.is_repeat:
                self._count_units(decision, name, plan)
        else:
            self._checks(name, plan, "deny", decision.reason)
        if name != OTHER and decision.degraded is None:
            met = (license_.family, *[state.limit.name for state in decision.states])
            self._seen[met] = self._now_s(), name, plan, license_, decision.states
            if len(self._seen) > _MOST_SEEN:
                self._note_used()

    def _count_units(self, decision: Allow, name: str, plan: str) -> None:
        if decision.reason is Reason.OVERAGE:
            for meter, outcome, units in by_outcome(decision):
                self._add_units(units, name, plan, meter, outcome)
        else:
            for meter, units in decision.route.costs:
                self._add_units(units, name, plan, meter, ALLOWED)

    def _note_used(self) -> None:
        seen, self._seen = self._seen, {}
        named = [each for each in seen.values() if each[1] in self._customers.named]  # who no longer is was dropped
        for at_s, name, plan, license_, states in sorted(named, key=itemgetter(0)):
            for state in states:
                limit = state.limit
                if limit.kind in _SHOWN and limit.amount and not limit.is_shadow:
                    ratio = max(0.0, 1 - state.remaining / limit.amount)  # granted credits may be more than the plan's
                    ends_at_s = _FOR_EVER if state.reset_s is None else at_s + state.reset_s
                    self._used.set(ratio, ends_at_s, _counter(limit, license_), name, plan, limit.name)


def _counter(limit: Limit, license_: License) -> str:
    match limit.per:
        case CountedPer.CUSTOMER:
            return license_.customer
        case CountedPer.SUBSCRIPTION:
            return license_.subscription
        case CountedPer.TOKEN:
            return license_.family
