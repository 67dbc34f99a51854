"""Counting decisions: each becomes a few numbers in the metrics, which cost a request next to nothing."""

from collections.abc import Iterator

from tallygate.decision.decision import Allow, Decision, Reason
from tallygate.insights.shadow import PASSED, ShadowTally
from tallygate.licenses.last_used import LastUsed
from tallygate.metrics import Metrics

ALLOWED, OVERAGE = "allowed", "overage"
_OURS = (Reason.OVERLOADED, Reason.DEPENDENCY_DOWN)
"""What the error budget counts: there at 0 from a plan's first decision, for Prometheus sees no growth in a first 1."""


class Counting:
    """Tells of every decision: the metrics, and for allowed ones the shadow's tally and when a token was used."""

    def __init__(self, metrics: Metrics, shadows: ShadowTally, last_used: LastUsed) -> None:
        """Count into these."""
        self._metrics = metrics
        self._count = metrics.checks.count
        self._add_units = metrics.units.add
        self._observe = metrics.check_duration.observe_of
        self._shadows = shadows
        self._note_used = last_used.note
        self._plans: set[str] = set()

    def __call__(self, decision: Decision, seconds: float) -> None:
        """Count one decision that took `seconds`."""
        self._observe(seconds, decision.decision_id)
        plan = "" if decision.phase is None else decision.phase.grant.plan_key
        if plan not in self._plans:
            self._begin(plan)
        if isinstance(decision, Allow):
            self._count("allow", decision.reason, plan)
            if not decision.is_repeat:
                self._allowed(decision, plan)
        else:
            self._count("deny", decision.reason, plan)
        if decision.degraded is not None:
            self._metrics.degraded_decisions.count(decision.degraded)

    def _begin(self, plan: str) -> None:
        self._plans.add(plan)
        for reason in _OURS:
            self._metrics.checks.add(0, "deny", reason, plan)

    def _allowed(self, decision: Allow, plan: str) -> None:
        self._note_used(decision.license.token)
        if decision.reason is Reason.OVERAGE:
            self._overage(decision, plan)
        else:
            for meter, units in decision.route.costs:
                self._add_units(units, plan, meter, ALLOWED)
        if decision.opinions:
            self._in_shadow(decision, plan)

    def _in_shadow(self, decision: Allow, plan: str) -> None:
        beside, subscription = decision.phase.grant.plan, decision.license.subscription
        for opinion in decision.opinions:
            refused_for = opinion.would_refuse
            self._metrics.shadow_decisions.count(plan, opinion.shadow, refused_for or PASSED)
            self._shadows.count(beside, opinion.shadow, subscription, refused_for)

    def _overage(self, decision: Allow, plan: str) -> None:
        for meter, outcome, units in by_outcome(decision):
            self._add_units(units, plan, meter, outcome)
            if outcome == OVERAGE:
                self._metrics.overage_units.add(units, plan, meter)


def by_outcome(decision: Allow) -> Iterator[tuple[str, str, int]]:
    """Split the units as the ledger does: by the limit of each meter that is furthest over its amount."""
    beyond: dict[str, int] = {}
    if decision.reason is Reason.OVERAGE:
        for state in decision.states:
            meter = state.limit.meter
            beyond[meter] = max(beyond.get(meter, 0), state.over)
    for meter, units in decision.route.costs:
        over = min(units, beyond.get(meter, 0))
        if units > over:
            yield meter, ALLOWED, units - over
        if over:
            yield meter, OVERAGE, over
